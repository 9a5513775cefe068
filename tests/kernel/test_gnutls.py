"""GnuTLS: what is written before it is encrypted and read after it is decrypted, by its own programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import tls
from plaintext_reading import of, read, text

from flows.agent.probe.payload import Origin, PayloadKind

if TYPE_CHECKING:
    from pathlib import Path

    from plaintext_reading import Hosts, Losses

    from flows.agent.probe.openssl import OpenSslProbe

pytestmark = pytest.mark.usefixtures("packets")

PORT = 8_449


@pytest.mark.parametrize("version", [4, 6])
def test_a_client_s_request_and_its_answer_are_seen_with_its_socket(
    probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path, version: int
) -> None:
    _, client, server = idle
    with server.start(tls.serve_http, pem, 1, version) as serving:
        port = serving.heard()
        host = server.address(version) if version == 4 else f"[{server.address(version)}]"
        printed = client.run(tls.wget, "--header=Connection: close", f"https://{host}:{port}/found?q=1")
        payloads = read(probe)
        (served,) = serving.heard()
        assert not losses()
    assert "200 OK" in printed
    (request,), (answer,) = (of(payloads, client, sent=sent) for sent in (True, False))
    assert text(request).startswith(b"GET /found?q=1 HTTP/1.1\r\n")
    assert text(answer).startswith(b"HTTP/1.1 200 OK\r\n")
    assert [request["kind"], answer["kind"]] == [PayloadKind.HTTP_REQUEST, PayloadKind.HTTP_RESPONSE]
    assert {request["origin"], answer["origin"]} == {Origin.TLS_LIBRARY}
    assert (request["comm"], request["remote_port"]) == (b"wget", port)
    assert request["conn_id"] == answer["conn_id"] != 0
    (other,) = of(payloads, server, sent=False)  # OpenSSL's view of the same
    assert (other["conn_id"], other["remote_port"]) == (served, request["local_port"])


def test_a_server_s_request_and_its_answer_are_seen(probe: OpenSslProbe, losses: Losses, idle: Hosts, pem: Path) -> None:
    _, client, server = idle
    serving = server.start(tls.serve_gnutls, pem, PORT)
    try:
        words = (
            "--http1.1",
            "--retry-connrefused",
            "--retry",
            "5",
            "--retry-delay",
            "1",
            "-w",
            "%{local_port}",
            "-o",
            "/dev/null",
        )
        local_port = client.run(tls.curl, *words, f"https://{server.address(4)}:{PORT}/page")
    finally:
        serving.process.kill()
        serving.process.join()
    payloads = read(probe)
    assert not losses()
    (request,), (answer,) = (of(payloads, server, sent=sent) for sent in (False, True))
    assert text(request).startswith(b"GET /page HTTP/1.1\r\n")
    assert text(answer).startswith(b"HTTP/1.0 200 OK\r\n")
    assert answer["sequence"] == request["acknowledged"] == 0
    assert (str(request["remote_port"]), request["local_port"]) == (local_port, PORT)
    assert request["conn_id"] == answer["conn_id"] != 0


def test_git_is_seen_through_curl_s_library(probe: OpenSslProbe, idle: Hosts, pem: Path) -> None:
    _, client, server = idle
    with server.start(tls.serve_http, pem, 1) as serving:
        client.run(tls.git, f"https://{server.address(4)}:{serving.heard()}/found.git")
        (request, *_) = of(read(probe), client, sent=True)
    assert text(request).startswith(b"GET /found.git/info/refs?service=git-upload-pack HTTP/1.1\r\n")
