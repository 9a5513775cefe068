"""HTTPS clients and servers for tests: each says what it knows of its socket, to be compared with what was seen."""

from __future__ import annotations

import datetime as dt
import http.client
import http.server
import os
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SO_COOKIE = 57


def certificate(folder: Path) -> Path:
    """A file with a key and its own certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server.test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def cookie(connection: socket.socket) -> int:
    return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


def server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200 if self.path.startswith("/found") else 404)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: Any) -> None:
        pass


def serve_http(say: Callable[[Any], None], pem: Path, connections: int, version: int = 4) -> list[int]:
    """Say the port, serve so many connections, and give their sockets' cookies."""
    cookies = []
    with socket.create_server(("", 0), family=socket.AF_INET if version == 4 else socket.AF_INET6) as listener:
        say(listener.getsockname()[1])
        for _ in range(connections):
            accepted, peer = listener.accept()
            cookies.append(cookie(accepted))
            with server_context(pem).wrap_socket(accepted, server_side=True) as secured:
                _Answer(secured, peer, listener)  # type: ignore[arg-type]
    return cookies


def get(_: Callable[[Any], None], host: str, port: int, paths: list[str]) -> int:
    """Ask for each path on one connection; gives the socket's cookie."""
    connection = http.client.HTTPSConnection(host, port, context=client_context(), timeout=20)
    connection.connect()
    seen = cookie(connection.sock)
    for path in paths:
        connection.request("GET", path)
        connection.getresponse().read()
    connection.close()
    return seen


def curl(_: Callable[[Any], None], *words: str) -> str:
    """What curl prints."""
    return subprocess.run(["curl", "-sk", "-m", "20", *words], capture_output=True, text=True, check=False).stdout


def wget(_: Callable[[Any], None], *words: str) -> str:
    """What wget (GnuTLS) prints of a page, with its head."""
    argv = ["wget", "-q", "-S", "-O", "-", "--tries=1", "--timeout=20", "--no-check-certificate", *words]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout


def git(_: Callable[[Any], None], url: str) -> str:
    """What git says of a repository that is none; its transport is libcurl with GnuTLS."""
    argv = ["git", "-c", "http.sslVerify=false", "-c", "http.version=HTTP/1.1", "ls-remote", url]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stderr


def serve_gnutls(_: Callable[[Any], None], pem: Path, port: int) -> None:
    """Becomes GnuTLS's own server of a page, until it is killed."""
    argv = ["gnutls-serv", "--http", "--quiet", "-p", str(port), "--x509certfile", str(pem), "--x509keyfile", str(pem)]
    os.execvp(argv[0], argv)


def serve_bytes(say: Callable[[Any], None], pem: Path, reads: list[int], total: int, answer: bytes) -> bytes:
    """Read pieces of these sizes, then the rest of so many bytes, then write an answer; gives what was read."""
    with socket.create_server(("", 0)) as listener:
        say(listener.getsockname()[1])
        accepted, _ = listener.accept()
        with server_context(pem).wrap_socket(accepted, server_side=True) as secured:
            data = b"".join(secured.recv(size) for size in reads)
            while len(data) < total:
                data += secured.recv(65536)
            secured.sendall(answer)
    return data


def write_pieces(_: Callable[[Any], None], host: str, port: int, pieces: list[bytes]) -> int:
    """Write pieces, each by one call, and read to the end; gives how many bytes came."""
    with socket.create_connection((host, port), 20) as plain, client_context().wrap_socket(plain) as secured:
        for piece in pieces:
            secured.sendall(piece)
        received = 0
        while data := secured.recv(65536):
            received += len(data)
    return received
