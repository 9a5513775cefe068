"""TLS: credentials that follow their files, version 1.3 only, and what is said of files that do not do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from wire_certificates import Certificate, issue

from flows.wire.environment import prepare_grpc
from flows.wire.tls import ClientFiles, ClientTls, ServerFiles, ServerTls, TlsError, server_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAME = "node-1.default.hubble-grpc.cilium.io"
OPTIONS = [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)]


async def ticks(_request: bytes, _context: object) -> AsyncIterator[bytes]:
    number = 0
    while True:
        yield str(number).encode()
        number += 1
        await asyncio.sleep(0.01)


async def serve(tls: ServerTls) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server()
    behavior: Any = ticks  # the types know synchronous ones only
    handler = grpc.method_handlers_generic_handler("t.T", {"Ticks": grpc.unary_stream_rpc_method_handler(behavior)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_secure_port("127.0.0.1:0", tls.credentials())
    await server.start()
    return server, port


def ticking(channel: grpc.aio.Channel) -> AsyncIterator[bytes]:
    method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/t.T/Ticks")
    return aiter(method(b""))


async def connects(port: int, client: ClientTls) -> bool:
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", client.credentials(), OPTIONS) as channel:
        try:
            async with asyncio.timeout(10):
                await anext(ticking(channel))
        except (TimeoutError, grpc.aio.AioRpcError):
            return False
        return True


class Files:
    """The files of a server and a client that know each other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = issue(directory, "first CA")
        self.server = ServerFiles(directory / "s.crt", directory / "s.key", directory / "s-ca.crt")
        self.client = ClientFiles(directory / "c-ca.crt", directory / "c.crt", directory / "c.key")
        self.renew_server(self.ca)
        self.renew_client(self.ca)
        self.trust(self.server.client_ca, self.ca)
        self.trust(self.client.ca, self.ca)

    def renew_server(self, ca: Certificate) -> None:
        issue(self.directory, "server", ca, (NAME,)).write(self.server.cert, self.server.key)

    def renew_client(self, ca: Certificate) -> None:
        assert self.client.cert is not None
        assert self.client.key is not None
        issue(self.directory, "client", ca).write(self.client.cert, self.client.key)

    def trust(self, file: Path | None, ca: Certificate) -> None:
        assert file is not None
        file.write_bytes(ca.cert_file.read_bytes())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def test_all_files_are_exchanged_under_an_open_stream(files: Files) -> None:
    tls, client = ServerTls(files.server), ClientTls(files.client)
    server, port = await serve(tls)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", client.credentials(), OPTIONS) as channel:
        stream = ticking(channel)
        assert await anext(stream) == b"0"
        old = client.credentials()
        assert client.credentials() is old, "channels share credentials"

        second = issue(files.directory, "second CA")
        files.renew_server(second)
        files.trust(files.server.client_ca, second)
        assert not await connects(port, client), "the client trusts the first CA, the server has the second"
        files.renew_client(second)
        files.trust(files.client.ca, second)
        assert client.credentials() is not old
        assert await connects(port, client)
        before = int(await anext(stream))
        assert int(await anext(stream)) == before + 1, "the stream of the first connection goes on"
    await server.stop(0)


async def test_each_port_follows_the_files(files: Files) -> None:
    tls, client = ServerTls(files.server), ClientTls(files.client)
    (first, one), (other, two) = await serve(tls), await serve(tls)
    second = issue(files.directory, "second CA")
    files.renew_server(second)
    files.trust(files.client.ca, second)
    assert await connects(one, client)
    assert await connects(two, client)
    await first.stop(0)
    await other.stop(0)


async def test_half_of_a_renewal_is_waited_out(files: Files) -> None:
    tls, client = ServerTls(files.server), ClientTls(files.client)
    server, port = await serve(tls)
    new = issue(files.directory, "server", files.ca, (NAME,))
    files.server.cert.write_bytes(new.cert_file.read_bytes())
    assert await connects(port, client), "the old pair still serves"
    assert "belong together" in tls.error
    files.server.key.write_bytes(new.key_file.read_bytes())
    assert await connects(port, client)
    assert tls.error == ""
    files.server.key.unlink()
    assert await connects(port, client)
    assert str(files.server.key) in tls.error
    await server.stop(0)


def test_files_that_cannot_be_used_are_named(files: Files, tmp_path: Path) -> None:
    nothing, empty = tmp_path / "nothing", tmp_path / "empty"
    empty.touch()
    server, client = files.server, files.client
    for made, said in (
        (lambda: ServerTls(ServerFiles(nothing, server.key)), "No such file"),
        (lambda: ServerTls(ServerFiles(server.cert, client.key or nothing)), "key values mismatch"),
        (lambda: ServerTls(ServerFiles(server.cert, server.key, empty)), "no PEM certificate of a CA"),
        (lambda: ClientTls(ClientFiles(nothing)), "No such file"),
        (lambda: ClientTls(ClientFiles(server.key)), "no PEM certificate of a CA"),
        (lambda: ClientTls(ClientFiles(client.ca, client.cert, server.key)), "belong together"),
    ):
        with pytest.raises(TlsError, match=said):
            made()


@pytest.mark.parametrize(
    ("node", "cluster", "name"),
    [
        ("node-1", "default", "node-1.default.hubble-grpc.cilium.io"),
        ("ip-10-0-0-1.ec2.internal", "eu.west", "ip-10-0-0-1-ec2-internal.eu-west.hubble-grpc.cilium.io"),
    ],
)
def test_server_names_are_those_of_hubble(node: str, cluster: str, name: str) -> None:
    assert server_name("{node}.{cluster}.hubble-grpc.cilium.io", node, cluster) == name


# gRPC reads which cipher suites to use when it is imported, so this needs a process of its own.
HANDSHAKES = """
from flows.wire.environment import prepare_grpc

prepare_grpc()

import asyncio, socket, ssl, sys
from pathlib import Path
import grpc.aio
from flows.wire.tls import ClientFiles, ClientTls, ServerFiles, ServerTls

assert prepare_grpc()  # again is no harm
cert, key, ca = map(Path, sys.argv[1:])

def knock(port, version):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                return secure.version()
        except (ssl.SSLError, OSError) as error:
            return "refused"

async def grpc_connects(port):
    async with grpc.aio.secure_channel(f"localhost:{port}", ClientTls(ClientFiles(ca)).credentials()) as channel:
        state = channel.get_state(try_to_connect=True)
        while state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
            await channel.wait_for_state_change(state)
            state = channel.get_state()
        return state is grpc.ChannelConnectivity.READY

async def main():
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", ServerTls(ServerFiles(cert, key)).credentials())
    await server.start()
    print("1.2", await asyncio.to_thread(knock, port, ssl.TLSVersion.TLSv1_2))
    print("1.3", await asyncio.to_thread(knock, port, ssl.TLSVersion.TLSv1_3))
    print("grpc", await grpc_connects(port))
    await server.stop(0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    spoken = []
    old = await asyncio.start_server(lambda _, writer: spoken.append(writer), "127.0.0.1", 0, ssl=context)
    print("grpc to 1.2", await grpc_connects(old.sockets[0].getsockname()[1]), len(spoken))

asyncio.run(main())
"""


def test_nothing_but_tls_1_3_is_spoken(tmp_path: Path) -> None:
    ca = issue(tmp_path, "CA")
    server = issue(tmp_path, "server", ca, ("localhost",))
    command = [sys.executable, "-c", HANDSHAKES, str(server.cert_file), str(server.key_file), str(ca.cert_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["1.2 refused", "1.3 TLSv1.3", "grpc True", "grpc to 1.2 False 0"]


def test_grpc_that_is_imported_cannot_be_told_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPC_SSL_CIPHER_SUITES", raising=False)
    assert not prepare_grpc()
    assert "GRPC_SSL_CIPHER_SUITES" not in os.environ, "child processes must not be taken for prepared"
