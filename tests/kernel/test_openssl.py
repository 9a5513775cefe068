"""OpenSSL: what is written before it is encrypted and read after it is decrypted."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tls
from plaintext_reading import PREFACE, at, frame, of, read, text

from flows.agent.probe.openssl_source import PlaintextCounter
from flows.agent.probe.payload import Origin, PayloadKind

if TYPE_CHECKING:
    from plaintext_reading import Hosts, Losses

    from flows.agent.probe.openssl import OpenSslProbe
    from flows.agent.probe.probe import Probe

pytestmark = pytest.mark.usefixtures("packets")


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
            assert set(seen["origin"]) == {Origin.TLS_LIBRARY}
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
