"""OpenSSL: of whom nothing is read, when not, what finds no room, and that nothing is left behind."""

from __future__ import annotations

import ctypes
import dataclasses
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tls
from plaintext_reading import PREFACE, SETTINGS, SHARED, frame, of, read, text, wait
from traffic import word

from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.openssl import OpenSslProbe
from flows.agent.probe.openssl_library import examine
from flows.agent.probe.openssl_processes import armed, tls_mappings
from flows.agent.probe.openssl_source import PlaintextCounter

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from plaintext_reading import Hosts, Losses

    from flows.agent.probe.probe import Probe

pytestmark = pytest.mark.usefixtures("packets")
ATTACH = """
import sys, time
from pathlib import Path
from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.openssl import OpenSslProbe
from flows.agent.probe.openssl_source import OpenSslSettings
probe = OpenSslProbe(OpenSslSettings(), find_subtree(Path(sys.argv[1])))
print(probe.files(), flush=True)
time.sleep(60)
"""


def test_an_excluded_cgroup_gives_nothing_at_all(idle: Hosts, pem: Path) -> None:
    root, client, server = idle

    def excluded(cgroup_id: int) -> bool:
        return cgroup_id == client.cgroup_id

    with (
        OpenSslProbe(SETTINGS, find_subtree(root), excluded) as probe,
        server.start(tls.serve_http, pem, 1) as serving,
        client.start(tls.get, server.address(4), serving.heard(), ["/found"]) as asking,
    ):
        asking.heard()
        assert set(read(probe)["cgroup_id"]) == {server.cgroup_id}
        assert not any(count for counter, count in probe.counters().items() if counter != PlaintextCounter.CALLS)


def test_what_nobody_decided_on_is_not_looked_at_until_somebody_does(idle: Hosts, pem: Path) -> None:
    root, client, server = idle
    answers: dict[int, bool] = {}
    with OpenSslProbe(SETTINGS, find_subtree(root), answers.get) as probe:
        for decided in (False, True):
            if decided:
                answers.update({client.cgroup_id: False, server.cgroup_id: False})
                probe.rescan()
            held = probe.counters()[PlaintextCounter.UNDECIDED]
            with (
                server.start(tls.serve_http, pem, 1) as serving,
                client.start(tls.get, server.address(4), serving.heard(), ["/found"]) as asking,
            ):
                asking.heard()
                assert len(read(probe)) == (4 if decided else 0)
            assert (probe.counters()[PlaintextCounter.UNDECIDED] > held) is not decided


def test_excluding_later_takes_effect_at_once_and_can_be_taken_back(probe: OpenSslProbe, idle: Hosts, pem: Path) -> None:
    _, client, server = idle
    for off_limits in (frozenset[int](), {client.cgroup_id}, frozenset[int]()):
        probe.exclude(off_limits)
        with (
            server.start(tls.serve_http, pem, 1) as serving,
            client.start(tls.get, server.address(4), serving.heard(), ["/found"]) as asking,
        ):
            asking.heard()
            assert (len(of(read(probe), client, sent=True)) == 0) is bool(off_limits)


def test_processes_outside_the_subtree_are_not_read(idle: Hosts, pem: Path) -> None:
    _, client, server = idle
    with (
        OpenSslProbe(SETTINGS, find_subtree(server.cgroup)) as probe,
        server.start(tls.serve_http, pem, 1) as serving,
        client.start(tls.get, server.address(4), serving.heard(), ["/found"]) as asking,
    ):
        asking.heard()
        assert set(read(probe)["cgroup_id"]) == {server.cgroup_id}


def test_a_library_of_its_own_is_found_by_a_rescan_and_let_go_when_nobody_has_it(
    packets: Probe, idle: Hosts, pem: Path, tmp_path: Path
) -> None:
    root, client, server = idle
    shutil.copy(SHARED, tmp_path / "libssl.so.3")

    def ask(say: Callable[[object], None], url: str) -> str:
        words = ["env", f"LD_LIBRARY_PATH={tmp_path}", "curl", "-sk", "-K", "-"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            maps = Path(f"/proc/{child.pid}/maps")
            while str(tmp_path) not in maps.read_text():
                time.sleep(0.02)
            say("started")
            word(say)
            return child.communicate(f'url = "{url}"')[0]

    with OpenSslProbe(SETTINGS, find_subtree(root)) as probe:
        packets.show_calls(probe.calls)
        before = probe.files()
        with server.start(tls.serve_http, pem, 1) as serving:
            url = f"https://{server.address(4)}:{serving.heard()}/found"
            with client.start(ask, url) as asking:
                asking.heard()
                probe.rescan()
                assert probe.files() == before + 1
                asking.tell()
                assert asking.heard() == "hello"
                assert text(of(read(probe), client, sent=True)[0]).startswith(b"GET /found")
        probe.rescan()
        assert probe.files() == before


def test_a_full_ring_is_counted(idle: Hosts, pem: Path) -> None:
    root, client, server = idle
    small = dataclasses.replace(SETTINGS, ring_bytes=4096)
    with OpenSslProbe(small, find_subtree(root)) as probe, server.start(tls.serve_http, pem, 1) as serving:
        client.run(tls.get, server.address(4), serving.heard(), ["/found"] * 5)
        assert len(read(probe)) + probe.counters()[PlaintextCounter.LOST_RING_FULL] == 20
        assert probe.counters()[PlaintextCounter.LOST_RING_FULL] > 0


def test_a_sampled_request_leaves_with_its_answer_and_the_rest_is_counted(
    probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path
) -> None:
    _, client, server = idle
    paths = [f"/found/{number}" for number in range(60)]
    probe.sample(0.5)
    with server.start(tls.serve_http, pem, 1) as serving:
        client.run(tls.get, server.address(4), serving.heard(), paths)
        payloads = read(probe)
        probe.sample(1.0)
    assert losses() == {PlaintextCounter.SAMPLED_OUT: 4 * len(paths) - len(payloads)}
    assert 30 < len(payloads) < 210
    left = [of(payloads, host, sent=host is client) for host in (client, server)]
    answers = [of(payloads, host, sent=host is server) for host in (client, server)]
    for requests, met in zip(left, answers, strict=True):
        assert requests["acknowledged"].tolist() == met["sequence"].tolist()
    assert [text(one) for one in left[0]] == [text(one) for one in left[1]]


def ask_when_told(say: Any, host: str, port: int) -> None:
    """Requests to the paths that it is told, on one connection, until it is told none."""
    connection = http.client.HTTPSConnection(host, port, context=tls.client_context(), timeout=20)
    connection.connect()
    hear = say.__self__.recv
    while path := hear():
        connection.request("GET", path)
        connection.getresponse().read()
        say("answered")
    connection.close()


@pytest.mark.parametrize("link_many", [True, False])
def test_nothing_is_read_in_a_pause_and_what_comes_after_is_another_slice(idle: Hosts, pem: Path, link_many: bool) -> None:
    root, client, server = idle

    def ask(path: str) -> NDArray[np.void]:
        asking.tell(path)
        assert asking.heard() == "answered"
        return read(probe)

    with (
        server.start(tls.serve_http, pem, 1) as serving,
        client.start(ask_when_told, server.address(4), serving.heard()) as asking,
        # after them, for what is forked from here holds descriptors of its links, and so its probes
        OpenSslProbe(dataclasses.replace(SETTINGS, link_many=link_many), find_subtree(root)) as probe,
    ):
        before = ask("/found/before")
        probe.pause()
        calls = probe.count(PlaintextCounter.CALLS)
        meanwhile = ask("/found/meanwhile")
        assert probe.count(PlaintextCounter.CALLS) == calls
        probe.resume()
        after = ask("/found/after")
        asking.tell("")
    # of the client's end: the server may have been within the call already that reads the request
    seen = [(len(of(some, client, sent=True)), len(of(some, client, sent=False))) for some in (before, meanwhile, after)]
    assert seen == [(1, 1), (0, 0), (1, 1)]
    assert [text(of(some, client, sent=True)[0]).split()[1] for some in (before, after)] == [b"/found/before", b"/found/after"]
    assert [set(some["slice"].tolist()) for some in (before, after)] == [{0}, {1}]


def write_when_told(say: Any, host: str, port: int) -> None:
    """Pieces of bytes that it is told, on one connection, until it is told none."""
    hear = say.__self__.recv
    with socket.create_connection((host, port), 20) as plain, tls.client_context().wrap_socket(plain) as secured:
        while piece := hear():
            secured.sendall(piece)
            say("written")


def test_http2_is_lost_track_of_in_a_pause_and_the_numbers_say_so(idle: Hosts, pem: Path) -> None:
    root, client, server = idle
    block = b"\x82\x86\x84\x41\x03www"
    pieces = [PREFACE + frame(4, 0, 0, b""), frame(1, 5, 1, block), frame(1, 5, 3, block)]

    def write(some: list[bytes]) -> list[int]:
        for piece in some:
            writing.tell(piece)
            assert writing.heard() == "written"
        numbers: list[int] = of(read(probe), client, sent=True)["number"].tolist()
        return numbers

    with (
        server.start(tls.serve_bytes, pem, [], sum(map(len, pieces)), b"") as serving,
        client.start(write_when_told, server.address(4), serving.heard()) as writing,
        OpenSslProbe(SETTINGS, find_subtree(root)) as probe,
    ):
        assert write(pieces[:2]) == [0, 1, 2]
        probe.pause()
        probe.resume()
        assert write(pieces[2:]) == [4]
        writing.tell(b"")


def test_a_full_table_of_sessions_is_counted(idle: Hosts, pem: Path) -> None:
    root, client, server = idle
    small = dataclasses.replace(SETTINGS, session_entries=1)
    with OpenSslProbe(small, find_subtree(root)) as probe, server.start(tls.serve_http, pem, 1) as serving:
        client.run(tls.get, server.address(4), serving.heard(), ["/found"])
        assert len(read(probe)) == 2
        assert probe.counters()[PlaintextCounter.SESSIONS_FULL] > 0


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_no_probe_is_left_when_the_process_ends(both_hosts: Hosts, end: signal.Signals, tmp_path: Path) -> None:
    root, client, _ = both_hosts
    own = tmp_path / "libssl.so.3"
    shutil.copy(SHARED, own)
    ctypes.CDLL(str(own))  # here, and so in what is forked from here
    mapping = next(mapping for mapping in tls_mappings(Path("/proc/self/maps").read_bytes()) if mapping.path == bytes(own))
    with own.open("rb") as file:
        library = examine(file.fileno())
        offset = next(iter(library.functions.values()))  # type: ignore[union-attr]
        file.seek(offset)
        original = file.read(4)

    def has_probe() -> bool:
        return armed(os.getpid(), mapping, offset, original)

    assert not has_probe()
    words = [sys.executable, "-c", ATTACH, str(root)]
    with (
        client.start(wait) as holder,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child,
    ):
        assert holder.heard() == "here"
        assert child.stdout is not None
        assert int(child.stdout.readline()) >= 1
        assert has_probe()
        child.send_signal(end)
        holder.process.kill()
    for _ in range(100):
        if not has_probe():
            return
        time.sleep(0.05)
    pytest.fail("the probe is still in memory")
