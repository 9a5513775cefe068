"""OpenSSL: what is written before it is encrypted and read after it is decrypted, of whom, and of whom not."""

from __future__ import annotations

import ctypes
import dataclasses
import http.client
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hosts
import numpy as np
import pytest
import tls
from watching import QUICK

from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.openssl import OpenSslProbe
from flows.agent.probe.openssl_library import examine
from flows.agent.probe.openssl_processes import armed, tls_mappings
from flows.agent.probe.openssl_source import OpenSslSettings, PlaintextCounter
from flows.agent.probe.payload import LONG_PAYLOAD, Origin, PayloadKind
from flows.agent.probe.probe import Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Losses = Callable[[], dict[PlaintextCounter, int]]

Hosts = tuple[Path, hosts.Host, hosts.Host]
SETTINGS = OpenSslSettings(ring_bytes=1 << 20)
SHARED = "/lib/x86_64-linux-gnu/libssl.so.3"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
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


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tls.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def idle(both_hosts: Hosts) -> Iterator[Hosts]:
    """Somebody who has the library, as any container's first process: so that it is found before the test's processes start."""
    _, client, server = both_hosts
    with client.start(wait) as one, server.start(wait) as other:
        for running in (one, other):
            running.heard()
        yield both_hosts
        for running in (one, other):
            running.process.kill()


@pytest.fixture(scope="module", autouse=True)
def packets(both_hosts: Hosts) -> Iterator[Probe]:
    """Beside every agent's probe on OpenSSL is one on packets."""
    with Probe(QUICK, find_subtree(both_hosts[0])) as probe:
        yield probe


@pytest.fixture(scope="module")
def lasting(both_hosts: Hosts) -> Iterator[OpenSslProbe]:
    with OpenSslProbe(SETTINGS, find_subtree(both_hosts[0])) as probe:
        yield probe


@pytest.fixture
def probe(packets: Probe, lasting: OpenSslProbe, idle: Hosts) -> Iterator[OpenSslProbe]:
    """One for all tests that want nothing special of it: making one takes seconds."""
    packets.show_calls(lasting.calls)
    lasting.rescan()
    read(lasting)
    yield lasting
    lasting.exclude(())


@pytest.fixture
def losses(probe: OpenSslProbe) -> Losses:
    """What was counted since the test began."""
    before = probe.counters() | {PlaintextCounter.CALLS: sys.maxsize}  # of these there are always some
    return lambda: {counter: count - before[counter] for counter, count in probe.counters().items() if count > before[counter]}


def wait(say: Callable[[object], None]) -> None:
    say("here")
    time.sleep(hosts.SECONDS)


def read(probe: OpenSslProbe) -> NDArray[np.void]:
    """All payloads that wait, in the order of their times."""
    found = []
    for payloads in probe.peek():
        found.append(np.zeros(len(payloads), LONG_PAYLOAD))
        for name in LONG_PAYLOAD.names or ():
            target = found[-1][name][:, : payloads["text"].shape[1]] if name == "text" else found[-1][name]
            target[...] = payloads[name]
    probe.release()
    joined = np.concatenate(found)
    return joined[np.argsort(joined["time_ns"], kind="stable")]


def text(payload: np.void) -> bytes:
    return bytes(payload["text"][: payload["captured"]])


def of(payloads: NDArray[np.void], host: hosts.Host, *, sent: bool) -> NDArray[np.void]:
    return payloads[(payloads["cgroup_id"] == host.cgroup_id) & (payloads["sent"] == sent)]


def at(host: hosts.Host, version: int) -> ipaddress.IPv6Address:
    """As records have it: IPv4 addresses mapped into IPv6."""
    return ipaddress.IPv6Address(host.address(6) if version == 6 else f"::ffff:{host.address(4)}")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


@pytest.mark.parametrize("version", [4, 6])
def test_requests_and_answers_are_seen_at_both_ends_with_their_sockets(
    probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path, version: int
) -> None:
    _, client, server = idle
    paths = ["/found/a", "/b", "/found/c"]
    with server.start(tls.serve_http, pem, 1, version) as serving:
        port = serving.heard()
        probe.rescan()
        with client.start(tls.get, server.address(version), port, paths) as asking:
            cookies = {client: asking.heard(), server: serving.heard()[0]}
        payloads = read(probe)
        assert not losses()
    for host in (client, server):
        requests, answers = (of(payloads, host, sent=sent) for sent in ((True, False) if host is client else (False, True)))
        assert [text(request).split(b" ")[1].decode() for request in requests] == paths
        assert [text(answer)[9:12] for answer in answers] == [b"200", b"404", b"200"]
        assert set(requests["kind"]) == {PayloadKind.HTTP_REQUEST}
        assert set(answers["kind"]) == {PayloadKind.HTTP_RESPONSE}
        assert answers["sequence"].tolist() == requests["acknowledged"].tolist()
        assert requests["sequence"].tolist() == [0, *np.cumsum(requests["length"])[:-1]]
        for seen in (requests, answers):
            assert set(seen["conn_id"]) == {cookies[host]}
            assert set(seen["origin"]) == {Origin.OPENSSL}
            assert set(seen["local_port" if host is server else "remote_port"]) == {port}
            assert {ipaddress.IPv6Address(bytes(address)) for address in seen["local_addr"]} == {at(host, version)}
            assert set(seen["netns"]) == {Path(f"/run/netns/{host.netns}").stat().st_ino}


def test_curl_is_seen_although_it_keeps_its_socket_from_openssl(probe: OpenSslProbe, idle: Hosts, pem: Path) -> None:
    """Its packets tell: the first one, a hello."""
    _, client, server = idle
    with server.start(tls.serve_http, pem, 1) as serving:
        url = f"https://{server.address(4)}:{serving.heard()}/found?q=1"
        printed = client.run(tls.curl, "--http1.1", url, "-o", "/dev/null", "-w", "%{http_code} %{local_port}")
        payloads = read(probe)
    request, answer = (of(payloads, client, sent=sent)[0] for sent in (True, False))
    assert text(request).startswith(b"GET /found?q=1 HTTP/1.1\r\n")
    assert request["comm"] == b"curl"
    assert printed == f"{text(answer)[9:12].decode()} {request['local_port']}"
    assert answer["sequence"] == request["acknowledged"] == 0
    assert request["conn_id"] == answer["conn_id"] != 0


def test_a_session_that_is_older_is_known_by_the_packets_that_it_sends(
    packets: Probe, probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path
) -> None:
    _, client, server = idle
    packets.hide_calls()
    with server.start(tls.serve_http, pem, 1) as serving:
        url = f"https://{server.address(4)}:{serving.heard()}"
        with client.start(tls.curl, "--http1.1", "--rate", "12/m", f"{url}/first", f"{url}/second") as asking:
            deadline = time.monotonic() + 5  # when curl asks again
            while losses().get(PlaintextCounter.SOCKET_UNKNOWN, 0) < 1 and time.monotonic() < deadline:
                time.sleep(0.02)
            packets.show_calls(probe.calls)
            asking.heard()
        (request,) = of(read(probe), client, sent=True)
    assert text(request).startswith(b"GET /second HTTP/1.1")


def test_frames_of_http2_leave_however_they_are_cut(probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path) -> None:
    _, client, server = idle
    large = frame(1, 4, 1, bytes(range(256)) * 20)  # longer than a record's text, and than the pieces
    data = frame(0, 1, 1, b"d" * 3_000)
    stream = PREFACE + frame(4, 0, 0, b"\0\3\0\0\0\x64") + large + data + frame(3, 0, 3, b"\0\0\0\x08")
    pieces = [stream[at : at + 700] for at in range(0, len(stream), 700)]
    answer = frame(4, 0, 0, b"") + frame(1, 5, 1, b"\x88") + frame(6, 0, 0, b"pingpong")
    with (
        server.start(tls.serve_bytes, pem, [24, 9, 3], len(stream), answer) as serving,
    ):
        assert client.run(tls.write_pieces, server.address(4), serving.heard(), pieces) == len(answer)
        payloads = read(probe)
        assert not losses()
    for host in (client, server):
        seen = of(payloads, host, sent=host is client)
        assert seen["number"].tolist() == list(range(len(seen)))
        assert text(seen[0]) == PREFACE
        assert b"".join(text(payload) for payload in seen[1:]) == stream[24:].replace(data, b"")
        starts = seen[seen["kind"] == PayloadKind.HTTP2]
        assert [stream[payload["sequence"] :][:9] for payload in starts] == [text(payload)[:9] for payload in starts]
        assert starts["length"].tolist() == [24, 15, len(large), 13]
    answers = of(payloads, client, sent=False)
    assert [text(payload) for payload in answers] == [answer[:9], answer[9:19]]


def test_a_connection_that_is_older_than_the_probe_is_followed_from_headers_on(
    probe: OpenSslProbe, idle: Hosts, pem: Path
) -> None:
    _, client, server = idle
    pieces = [b"x" * 50, frame(1, 5, 5, b"\x82\x84") + frame(3, 0, 5, b"\0\0\0\x08")]
    with server.start(tls.serve_bytes, pem, [], 74, b"") as serving:
        client.run(tls.write_pieces, server.address(4), serving.heard(), pieces)
        seen = of(read(probe), client, sent=True)
    assert [text(payload) for payload in seen] == [pieces[1][:11], pieces[1][11:]]
    assert seen["sequence"].tolist() == [50, 61]


def test_bytes_that_are_no_frame_are_not_followed_and_counted(
    probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path
) -> None:
    _, client, server = idle
    pieces = [PREFACE + b"\xff" * 100, b"\xff" * 100]
    with server.start(tls.serve_bytes, pem, [], 224, b"") as serving:
        client.run(tls.write_pieces, server.address(4), serving.heard(), pieces)
        assert [text(payload) for payload in of(read(probe), client, sent=True)] == [PREFACE]
        assert losses() == {PlaintextCounter.HTTP2_UNFOLLOWED: 2}  # of each end one


def test_what_is_neither_request_nor_answer_does_not_leave(probe: OpenSslProbe, idle: Hosts, pem: Path) -> None:
    _, client, server = idle
    with (
        server.start(tls.serve_bytes, pem, [], 135, b"secret" * 9) as serving,
    ):
        client.run(tls.write_pieces, server.address(4), serving.heard(), [b"password=hunter2" * 9])
        assert len(read(probe)) == 0


def test_memory_bios_are_counted_not_guessed(probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path) -> None:
    _, client, server = idle
    with server.start(tls.serve_http, pem, 1) as serving:
        client.run(tls.get_by_memory, server.address(4), serving.heard())
        payloads = read(probe)
        assert len(of(payloads, client, sent=True)) == 0
        assert len(of(payloads, server, sent=True)) == 1
        assert losses() == {PlaintextCounter.SOCKET_UNKNOWN: 2}


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
            time.sleep(0.5)
            say("started")
            time.sleep(1)
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
