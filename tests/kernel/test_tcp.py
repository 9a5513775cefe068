"""TCP: each outcome gives exactly its connections, with the bytes that the applications counted, at both ends."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import subprocess
from typing import TYPE_CHECKING

import pytest
import traffic
from watching import QUICK, events, last_records, read

from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.probe import Probe
from flows.agent.probe.record import Event, Initiator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from hosts import Host
    from numpy.typing import NDArray
    from watching import Watch

N = 23  # prime, so that no double count can pass for it
FIN, SYN, RST, ACK = 1, 2, 4, 16
versions = pytest.mark.parametrize("version", [4, 6])


@versions
def test_closed_connections_are_counted_exactly_at_both_ends(watch: Watch, version: int) -> None:
    with watch.server.start(traffic.serve_ok, version, N, 3001) as serving:
        port = serving.heard()
        client = watch.client.run(traffic.connect_ok, watch.server.address(version), port, N, 1000)
        server = serving.heard()
    for host, counted, initiator in ((watch.client, client, Initiator.LOCAL), (watch.server, server, Initiator.REMOTE)):
        watch.until_told(host, port, Event.CLOSED, N)
        records = watch.of(host, port)
        last = last_records(records)
        assert len(last) == N
        assert (int(last["sent_bytes"].sum()), int(last["received_bytes"].sum())) == counted
        assert set(last["initiator"]) == {initiator}
        assert set(events(records)) == {Event.ESTABLISHED, Event.CLOSED}
        assert len(records) == 2 * N
        assert (last["flags_sent"] & (SYN | ACK | FIN) == SYN | ACK | FIN).all()
        assert (last["handshake_us"] > 0).all()
        assert (last["start_ns"] > 0).all()


@versions
def test_addresses_and_ports_are_those_of_the_sockets(watch: Watch, version: int) -> None:
    with watch.server.start(traffic.serve_ok, version, 1, 10) as serving:
        port = serving.heard()
        watch.client.run(traffic.connect_ok, watch.server.address(version), port, 1, 10)
        serving.heard()
    ours, theirs = watch.of(watch.client, port)[-1], watch.of(watch.server, port)[-1]
    assert bytes(ours["local_addr"]) == bytes(theirs["remote_addr"])
    assert bytes(ours["remote_addr"]) == bytes(theirs["local_addr"])
    assert (ours["local_port"], ours["remote_port"]) == (theirs["remote_port"], port)
    assert bytes(ours["local_addr"]).startswith(bytes(10) + b"\xff\xff") == (version == 4)
    assert ours["netns"] != theirs["netns"]


@versions
def test_refused_connections_are_seen_by_who_opened_them(watch: Watch, version: int) -> None:
    port = watch.server.run(traffic.free_port, version)
    assert watch.client.run(traffic.connect_refused, watch.server.address(version), port, N) == N
    records = watch.of(watch.client, port)
    assert events(records) == [Event.REFUSED] * N
    assert len(last_records(records)) == N
    assert (records["flags_received"] & RST).all()
    assert not records["sent_bytes"].any()


def test_an_agent_on_the_root_sees_the_refusing_end_too(both_hosts: tuple[Path, Host, Host]) -> None:
    """IPv4 only: the kernel's IPv6 resets pass no cgroup program (tcp_v6_send_response sets no skb->sk)."""
    version = 4
    _, client, server = both_hosts
    with Probe(QUICK, find_subtree()) as probe:
        port = server.run(traffic.free_port, version)
        assert client.run(traffic.connect_refused, server.address(version), port, N) == N
        records = read(probe)
    refusals = records[(records["local_port"] == port) & (records["event"] == Event.REFUSED)]
    assert len(refusals) == N
    assert set(refusals["initiator"]) == {Initiator.REMOTE}
    assert (refusals["pid"] == 0).all()


@versions
def test_resets_are_seen_at_both_ends(watch: Watch, version: int) -> None:
    with watch.server.start(traffic.serve_reset, version, N) as serving:
        port = serving.heard()
        sent, resets = watch.client.run(traffic.connect_reset, watch.server.address(version), port, N)
        received = serving.heard()
    assert resets == N
    ours, theirs = (last_records(watch.of(host, port)) for host in (watch.client, watch.server))
    assert events(ours) == events(theirs) == [Event.RESET] * N
    assert int(ours["sent_bytes"].sum()) == sent == received == int(theirs["received_bytes"].sum())
    assert (ours["flags_received"] & RST).all()
    assert (theirs["flags_sent"] & RST).all()


@contextlib.contextmanager
def rule(host: Host, version: int, port: int, verdict: str) -> Iterator[None]:
    """A netfilter rule for what arrives at a host's port."""
    family = "ip" if version == 4 else "ip6"
    rules = f"""table inet flows-test {{
        chain in {{
            type filter hook input priority 0
            {family} daddr {host.address(version)} tcp dport {port} {verdict}
        }}
    }}"""
    nft = ["ip", "netns", "exec", host.netns, "nft"]
    subprocess.run([*nft, "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run([*nft, "delete", "table", "inet", "flows-test"], check=True)


@versions
def test_unanswered_connections_are_told_once(watch: Watch, version: int) -> None:
    with (
        rule(watch.server, version, 7777, "drop"),
        watch.client.start(traffic.connect_unanswered, watch.server.address(version), 7777, N, 1.5) as trying,
    ):
        watch.until(lambda: (watch.of(watch.client, 7777)["event"] == Event.UNANSWERED).sum() == N)
        assert trying.heard() == N
    records = watch.of(watch.client, 7777)
    assert len(last_records(records)) == N
    assert (records["event"] == Event.UNANSWERED).sum() == N
    assert not (records["flags_received"]).any()
    assert len(watch.of(watch.server, 7777)) == 0


@pytest.mark.parametrize(
    ("answer", "error"), [("host-unreachable", errno.EHOSTUNREACH), ("port-unreachable", errno.ECONNREFUSED)]
)
def test_an_icmp_error_is_no_refusal(watch: Watch, answer: str, error: int) -> None:
    with rule(watch.server, 4, 7778, f"reject with icmp type {answer}"):
        errors = watch.client.run(traffic.connect_failing, watch.server.address(4), 7778, 7)
    assert errors == [error] * 7
    last = last_records(watch.of(watch.client, 7778))
    assert events(last) == [Event.UNREACHABLE] * 7
    assert set(last["error"]) == {error}


def test_an_established_connection_that_falls_silent_times_out(watch: Watch) -> None:
    with watch.server.start(traffic.serve_kept, 4, 1) as serving:
        port = serving.heard()
        with watch.client.start(traffic.send_into_silence, watch.server.address(4), port) as sending:
            sending.heard()
            with rule(watch.server, 4, port, "drop"):
                sending.tell()
                assert sending.heard() == errno.ETIMEDOUT
        last = last_records(watch.of(watch.client, port))
        serving.process.kill()
    assert events(last) == [Event.TIMED_OUT]


@versions
def test_long_lived_connections_report_while_active(watch: Watch, version: int) -> None:
    with (
        watch.server.start(traffic.serve_kept, version, N) as serving,
        watch.client.start(traffic.connect_kept, watch.server.address(version), port := serving.heard(), N, 0.5) as kept,
    ):
        assert kept.heard() == "open"
        watch.until(lambda: len(last_records(active(watch, port))) == N)
        sent, received = kept.heard(), serving.heard()
    for host, column, counted in ((watch.client, "sent_bytes", sent), (watch.server, "received_bytes", received)):
        watch.until_told(host, port, Event.CLOSED, N)
        last = last_records(watch.of(host, port))
        assert len(last) == N
        assert int(last[column].sum()) == counted


def active(watch: Watch, port: int) -> NDArray[np.void]:
    records = watch.of(watch.client, port)
    found: NDArray[np.void] = records[records["event"] == Event.ACTIVE]
    return found


@versions
def test_connections_older_than_the_agent_are_shown_with_who_opened_them(
    both_hosts: tuple[Path, Host, Host], version: int
) -> None:
    root, client, server = both_hosts
    over = multiprocessing.get_context("fork").Event()  # compiling takes its time
    with (
        server.start(traffic.serve_kept, version, N) as serving,
        client.start(traffic.connect_until, server.address(version), port := serving.heard(), N, over) as kept,
    ):
        assert kept.heard() == "open"
        with Probe(QUICK, find_subtree(root)) as probe:
            probe.sweep()
            records = read(probe)
        over.set()
        kept.heard()
        serving.heard()
    for host, initiator in ((client, Initiator.LOCAL), (server, Initiator.REMOTE)):
        own = records[records["cgroup_id"] == host.cgroup_id]
        assert len(own) == N
        assert set(own["initiator"]) == {initiator}
        assert not own["start_ns"].any()
        assert (own["pid"] > 0).all()
        assert set(own["local_port"] if host is server else own["remote_port"]) == {port}


def test_process_is_the_one_that_opened_or_served(watch: Watch) -> None:
    with watch.server.start(traffic.serve_ok, 4, 1, 10) as serving:
        port = serving.heard()
        with watch.client.start(traffic.connect_ok, watch.server.address(4), port, 1, 10) as asking:
            asking.heard()
        serving.heard()
    for host, pid in ((watch.client, asking.process.pid), (watch.server, serving.process.pid)):
        assert set(watch.of(host, port)["pid"]) == {pid}


@versions
def test_a_listener_that_workers_inherited_names_its_connections(both_hosts: tuple[Path, Host, Host], version: int) -> None:
    """As nginx does it, and older than the agent: the master's socket, which its workers hold too."""
    root, client, server = both_hosts
    with server.start(traffic.serve_with_worker, version) as serving:
        port, master = serving.heard()
        with Probe(QUICK, find_subtree(root)) as probe:
            client.run(traffic.connect_ok, server.address(version), port, 1, 10)
            serving.heard()
            records = read(probe)
    own = records[(records["cgroup_id"] == server.cgroup_id) & (records["local_port"] == port)]
    assert set(own["pid"]) == {master}
