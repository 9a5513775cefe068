"""Diagnosis: the cause of each way in which a connection fails, from a real handshake with a real gRPC server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import grpc.aio
import pytest
import pytest_asyncio
from wire_certificates import Certificate, issue

from flows.wire.diagnosis import Flags, diagnose
from flows.wire.environment import NO_TLS12_SUITE
from flows.wire.tls import ClientFiles, ServerFiles, ServerTls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Serve = Callable[[ServerFiles | None], Awaitable[str]]

NAME = "node-1.default.hubble-grpc.cilium.io"
FLAGS = Flags(ca="--ca", cert="--cert", name="--name")


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers on loopback and gives their addresses."""
    servers: list[grpc.aio.Server] = []

    async def start(files: ServerFiles | None) -> str:
        server = grpc.aio.server()
        if files is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", ServerTls(files).credentials())
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(0)


@pytest.fixture
def ca(tmp_path: Path) -> Certificate:
    return issue(tmp_path, "our CA")


@pytest.fixture
def other(tmp_path: Path) -> Certificate:
    return issue(tmp_path, "some other CA")


async def ask(address: str, files: ClientFiles | None, name: str = NAME) -> str:
    return await asyncio.to_thread(diagnose, address, files, name, FLAGS)


def of(certificate: Certificate, client_ca: Certificate | None = None) -> ServerFiles:
    return ServerFiles(certificate.cert_file, certificate.key_file, client_ca.cert_file if client_ca else None)


async def test_nothing_is_wrong(serve: Serve, ca: Certificate, tmp_path: Path) -> None:
    client = issue(tmp_path, "client", ca)
    files = ClientFiles(ca.cert_file, client.cert_file, client.key_file)
    assert await ask(await serve(of(issue(tmp_path, "s", ca, (NAME,)), ca)), files) == ""
    assert await ask(await serve(None), None) == ""


@pytest.mark.parametrize(
    ("days", "said"), [((-3, -1), "its certificate expired on 2"), ((1, 2), "its certificate is valid only from 2")]
)
async def test_a_certificate_out_of_its_time(
    serve: Serve, ca: Certificate, tmp_path: Path, days: tuple[int, int], said: str
) -> None:
    address = await serve(of(issue(tmp_path, "s", ca, (NAME,), days)))
    assert said in await ask(address, ClientFiles(ca.cert_file))


async def test_a_certificate_for_another_name(serve: Serve, ca: Certificate, tmp_path: Path) -> None:
    names = tuple(f"node-{number}.test" for number in range(7))
    address = await serve(of(issue(tmp_path, "s", ca, names)))
    said = await ask(address, ClientFiles(ca.cert_file))
    assert said.startswith(f"its certificate is for {', '.join(names[:5])} and 2 more, expected {NAME}: set --name")


async def test_a_certificate_without_names(serve: Serve, ca: Certificate, tmp_path: Path) -> None:
    said = await ask(await serve(of(issue(tmp_path, "s", ca))), ClientFiles(ca.cert_file))
    assert "is for no name at all (subject CN=s)" in said


async def test_a_certificate_of_an_unknown_ca(serve: Serve, ca: Certificate, other: Certificate, tmp_path: Path) -> None:
    said = await ask(await serve(of(issue(tmp_path, "s", other, (NAME,)))), ClientFiles(ca.cert_file))
    assert said == "its certificate was issued by an unknown CA (CN=some other CA): --ca must have that CA's certificate"


async def test_a_server_that_wants_a_certificate(serve: Serve, ca: Certificate, tmp_path: Path) -> None:
    said = await ask(await serve(of(issue(tmp_path, "s", ca, (NAME,)), ca)), ClientFiles(ca.cert_file))
    assert said.startswith("the server wants a client certificate")
    assert said.endswith("give --cert")


async def test_a_client_certificate_that_is_refused(serve: Serve, ca: Certificate, other: Certificate, tmp_path: Path) -> None:
    address = await serve(of(issue(tmp_path, "s", ca, (NAME,)), ca))
    stranger = issue(tmp_path, "client", other)
    said = await ask(address, ClientFiles(ca.cert_file, stranger.cert_file, stranger.key_file))
    assert said.startswith(f"the server refuses our certificate {stranger.cert_file} (issued by CN=some other CA)")
    expired = issue(tmp_path, "client", ca, days=(-3, -1))
    said = await ask(address, ClientFiles(ca.cert_file, expired.cert_file, expired.key_file))
    assert said.startswith(f"our certificate {expired.cert_file} expired on 2")


async def test_tls_to_a_server_without(serve: Serve, ca: Certificate) -> None:
    assert "does not speak TLS: leave --ca out" in await ask(await serve(None), ClientFiles(ca.cert_file))


async def test_plain_text_to_a_server_with_tls(serve: Serve, ca: Certificate, tmp_path: Path) -> None:
    server = issue(tmp_path, "s", ca, (NAME,))
    assert await ask(await serve(of(server)), None) == "the server speaks TLS: give --ca"
    assert await ask(await serve(of(server, ca)), None) == "the server speaks TLS: give --ca"


async def test_nobody_is_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as freed:
        address = f"127.0.0.1:{freed.getsockname()[1]}"
    assert "connection refused" in await ask(address, None)
    assert "no such socket" in await ask(f"unix://{tmp_path}/a.sock", None)
    assert "cannot be resolved" in await ask("nowhere.invalid:1", None)


async def test_a_server_that_says_nothing(ca: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.wire.diagnosis.SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = await ask(f"127.0.0.1:{silent.getsockname()[1]}", ClientFiles(ca.cert_file))
    assert said.startswith("no answer within 0.2 s")


async def test_a_server_of_tls_1_2_is_named(ca: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_SSL_CIPHER_SUITES", NO_TLS12_SUITE)
    held = issue(tmp_path, "server", ca, (NAME,))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(held.cert_file, held.key_file)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            accepted, _ = listening.accept()
            with accepted, contextlib.suppress(ssl.SSLError):
                context.wrap_socket(accepted, server_side=True)

        refusing = asyncio.create_task(asyncio.to_thread(refuse))
        port = listening.getsockname()[1]
        assert await ask(f"127.0.0.1:{port}", ClientFiles(ca.cert_file)) == "the server speaks no TLS 1.3: upgrade it"
        await refusing
