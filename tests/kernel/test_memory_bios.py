"""Memory BIOs: whose bytes they are is told by the packet that begins with them, or not at all."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import memory_bios
import pytest
from plaintext_reading import of, read, text

from flows.agent.probe.openssl_source import PlaintextCounter
from flows.agent.probe.payload import PayloadKind

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from plaintext_reading import Hosts, Losses

    from flows.agent.probe.openssl import OpenSslProbe
    from flows.agent.probe.probe import Probe

pytestmark = pytest.mark.usefixtures("packets")

CONNECTIONS, REQUESTS = 12, 5
PORT = 8_450
SESSIONS, TURNS = 6, 20


def seen(payloads: NDArray[np.void]) -> dict[str, int]:
    """Path and socket of each request."""
    requests = payloads[payloads["kind"] == PayloadKind.HTTP_REQUEST]
    return {text(each).split(b" ")[1].decode(): int(each["conn_id"]) for each in requests}


def test_asyncio_is_seen_from_the_first_request_on_at_both_ends(
    probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path
) -> None:
    _, client, server = idle
    with server.start(memory_bios.serve, pem, CONNECTIONS) as serving:
        asked = client.run(memory_bios.ask_side_by_side, server.address(4), serving.heard(), CONNECTIONS, REQUESTS)
        served = serving.heard()
        payloads = read(probe)
        assert not losses()
    assert len(asked) == CONNECTIONS * REQUESTS
    assert seen(of(payloads, client, sent=True)) == asked
    assert seen(of(payloads, server, sent=False)) == served
    for host in (client, server):
        ours = payloads[payloads["cgroup_id"] == host.cgroup_id]
        answers = ours[ours["kind"] == PayloadKind.HTTP_RESPONSE]
        requests = ours[ours["kind"] == PayloadKind.HTTP_REQUEST]
        assert sorted(answers["conn_id"].tolist()) == sorted(requests["conn_id"].tolist())


def test_node_is_seen_from_the_first_request_on_at_both_ends(probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path) -> None:
    _, client, server = idle
    serving = server.start(memory_bios.serve_node, PORT, pem)
    try:
        client.run(
            memory_bios.ask_by_node, server.address(4), PORT, 1, 1
        )  # so that it is there: many builds bring their own OpenSSL
        probe.rescan()
        read(probe)
        asked = client.run(memory_bios.ask_by_node, server.address(4), PORT, CONNECTIONS, REQUESTS)
    finally:
        serving.process.kill()
        serving.process.join()
    payloads = read(probe)
    assert not losses()
    assert len(asked) == CONNECTIONS * REQUESTS
    for host, port in ((client, "local_port"), (server, "remote_port")):
        requests = of(payloads, host, sent=host is client)
        told = [(text(each).split(b" ")[1].decode(), int(each[port])) for each in requests]
        assert sorted(told) == sorted(asked.items())


@pytest.mark.parametrize("known", [True, False], ids=["since the handshake", "older than the probe"])
def test_sessions_that_send_in_another_order_than_they_encrypt_are_never_mistaken_for_each_other(
    packets: Probe, probe: OpenSslProbe, idle: Hosts, pem: Path, *, known: bool
) -> None:
    _, client, server = idle
    chance = random.Random(7)
    orders = [chance.sample(range(SESSIONS), SESSIONS) for _ in range(TURNS)]
    if not known:
        packets.hide_calls()
    with server.start(memory_bios.serve, pem, SESSIONS) as serving:
        with client.start(memory_bios.ask_in_other_orders, server.address(4), serving.heard(), orders) as asking:
            asking.heard()
            packets.show_calls(probe.calls)
            asked = asking.heard()
        found = seen(of(read(probe), client, sent=True))
    assert found.items() <= asked.items()
    assert (SESSIONS * TURNS if known else 1) <= len(found)


def test_what_another_thread_sends_is_counted_not_guessed(probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path) -> None:
    _, client, server = idle
    with server.start(memory_bios.serve, pem, 1) as serving:
        client.run(memory_bios.ask_through_a_thread, server.address(4), serving.heard())
        payloads = read(probe)
        assert len(of(payloads, client, sent=True)) == 0
        assert seen(of(payloads, server, sent=False)).keys() == {"/thread"}
        assert losses() == {PlaintextCounter.SOCKET_UNKNOWN: 2}
