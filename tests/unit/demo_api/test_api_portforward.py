"""Port forwarding over WebSocket: channels, SPDY inside, kubectl, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from api_cluster import Cluster, add_node, client_context, set_running
from hypothesis import given
from hypothesis import strategies as st

from flows.demo.api import spdy
from flows.demo.api.pki import Pki, write_kubeconfig
from flows.demo.api.portforward import CHANNELS, TUNNEL
from flows.demo.api.server import start_api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flows.demo.api.storage import Storage

PATH = "/api/v1/namespaces/default/pods/web/portforward"
POD = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each piece in capital letters, and ends when the client has."""
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


@pytest_asyncio.fixture
async def inside(storage: Storage, pki: Pki, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster whose pods all are one server on this machine, at port 80."""
    listening = await asyncio.start_server(shout, "127.0.0.1", 0)
    own = listening.sockets[0].getsockname()[1]

    async def connect(_pod: dict[str, Any], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", own if port == 80 else 1)

    server = await start_api(storage, ["127.0.0.1"], 0, pki, connect=connect)
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", server.url, pki)
    add_node(storage, "node-0")
    set_running(storage, storage.create("pods", POD), "10.244.0.1")
    connector = aiohttp.TCPConnector(ssl=client_context(pki, tmp_path, "kubernetes-admin", ("system:masters",)))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Cluster(storage, server, pki, kubeconfig, session)
    await server.close()
    listening.close()


async def test_channels_carry_ports_and_their_errors(inside: Cluster) -> None:
    url = inside.server.url + PATH + "?ports=80&ports=81"
    async with inside.session.ws_connect(url, protocols=(CHANNELS,)) as socket:
        assert socket.protocol == CHANNELS
        heads = [await socket.receive_bytes() for _ in range(4)]
        assert heads == [struct.pack("<BH", channel, 80 + channel // 2) for channel in range(4)]
        refused = await socket.receive_bytes()
        assert refused[0] == 3
        assert b"error forwarding port 81 to pod web" in refused
        assert b"connection refused" in refused
        await socket.send_bytes(b"\0hello")
        assert await socket.receive_bytes() == b"\0HELLO"


class Spdy:
    """A SPDY client inside a WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
        self.received: dict[int, bytes] = {}
        self.ended: set[int] = set()

    def opening(self, stream: int, **headers: str) -> bytes:
        texts = [text.encode() for pair in headers.items() for text in pair]
        block = struct.pack(">I", len(headers)) + b"".join(struct.pack(">I", len(text)) + text for text in texts)
        block = self.deflate.compress(block) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        body = struct.pack(">IIH", stream, 0, 0) + block
        return struct.pack(">II", 1 << 31 | 3 << 16 | 1, len(body)) + body

    def data(self, stream: int, data: bytes, *, last: bool) -> bytes:
        return struct.pack(">II", stream, last << 24 | len(data)) + data

    async def until_ended(self, *streams: int) -> None:
        while not self.ended >= set(streams):
            piece = await self.socket.receive_bytes()
            head, length = struct.unpack_from(">II", piece)
            if head < 1 << 31:
                self.received[head] = self.received.get(head, b"") + piece[8:]
                self.ended |= {head} if length >> 24 & 1 else set()
            elif head & 0xFFFF == 3:
                self.ended.add(struct.unpack_from(">I", piece, 8)[0])


async def opened(inside: Cluster, port: int, *, split: int) -> Spdy:
    """A connection to a port, with 200 kB of data that come together with the streams."""
    socket = await inside.session.ws_connect(inside.server.url + PATH, protocols=(TUNNEL,))
    client = Spdy(socket)
    text = client.opening(1, streamtype="error", port=str(port), requestid="0") + client.data(1, b"", last=True)
    text += client.opening(3, streamtype="data", port=str(port), requestid="0") + client.data(3, b"ab" * 100_000, last=True)
    for at in range(0, len(text), split):
        await socket.send_bytes(text[at : at + split])
    return client


@pytest.mark.parametrize("split", [7919, 1 << 20])
async def test_a_tunnel_carries_connections_whose_first_bytes_come_with_them(inside: Cluster, split: int) -> None:
    client = await opened(inside, 80, split=split)
    await client.until_ended(1, 3)
    assert client.received == {3: b"AB" * 100_000, 1: b""}
    await client.socket.close()


async def test_a_tunnel_says_why_a_port_cannot_be_reached_and_goes_on(inside: Cluster) -> None:
    client = await opened(inside, 81, split=1 << 20)
    await client.until_ended(1, 3)
    assert b"connection refused" in client.received[1]
    await client.socket.send_bytes(client.opening(5, streamtype="nonsense", port="80"))
    await client.until_ended(5)
    await client.socket.close()


async def test_bytes_that_are_no_frames_end_the_tunnel(inside: Cluster) -> None:
    async with inside.session.ws_connect(inside.server.url + PATH, protocols=(TUNNEL,)) as socket:
        await socket.send_bytes(b"\xff" * 64)
        message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1002)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_frames_or_an_error(data: bytes) -> None:
    with contextlib.suppress(spdy.SpdyError):
        spdy.Reader().feed(data)


async def test_kubectl_forwards_a_port(inside: Cluster) -> None:
    environment = {**os.environ, "KUBECONFIG": str(inside.kubeconfig), "HOME": str(inside.kubeconfig.parent)}
    command = ("kubectl", "port-forward", "pod/web", ":80")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(line.split()[2].rpartition(":")[2]))
        for word in (b"one", b"two"):
            writer.write(word)
            assert await reader.readexactly(3) == word.upper()
        writer.close()
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.parametrize(
    ("method", "query", "headers", "code", "words"),
    [
        ("GET", "?ports=80", {}, 400, "Upgrade request required"),
        ("POST", "", {"Upgrade": "SPDY/3.1", "Connection": "Upgrade"}, 400, "use a kubectl of version 1.31 or newer"),
        ("GET", "", {"Upgrade": "websocket", "Sec-WebSocket-Protocol": CHANNELS}, 400, '"ports" is required'),
        ("GET", "?ports=0", {"Upgrade": "websocket"}, 400, "numbers from 1 to 65535"),
        ("GET", "?ports=" + ",".join(["80"] * 65), {"Upgrade": "websocket"}, 400, "at most 64"),
    ],
)
async def test_what_is_no_port_forward_is_told(
    inside: Cluster, method: str, query: str, headers: dict[str, str], code: int, words: str
) -> None:
    answer = await inside.ask(method, PATH + query, headers=headers)
    assert (answer.status, words in answer.json["message"]) == (code, True), answer.text


async def test_both_get_and_create_are_asked_for(inside: Cluster, pki: Pki) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get"]}]
    inside.storage.create("roles", {"metadata": {"name": "half", "namespace": "default"}, "rules": rules})
    subjects = [{"kind": "User", "name": "half"}]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "half"}
    binding = {"metadata": {"name": "half", "namespace": "default"}, "subjects": subjects, "roleRef": reference}
    inside.storage.create("rolebindings", binding)
    connector = aiohttp.TCPConnector(ssl=client_context(pki, inside.kubeconfig.parent, "half", ()))
    async with aiohttp.ClientSession(connector=connector) as session, session.get(inside.server.url + PATH) as response:
        assert response.status == 403
        assert 'cannot create resource "pods/portforward"' in (await response.json())["message"]
