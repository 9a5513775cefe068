"""`pods/portforward`: a client's connections, carried inside a WebSocket into a pod's network namespace.

Two ways are spoken, by subprotocol: `v4.channel.k8s.io` (numbered channels, two for each port asked for: data and errors;
the kubelet's streaming/portforward/websocket.go) and `SPDY/3.1+portforward.k8s.io` (SPDY inside binary messages: kubectl
since 1.31; KEP-4006). A bare SPDY upgrade, as older kubectls send, is refused by name.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from flows.demo.api import spdy
from flows.demo.api.errors import StatusError, bad_request, internal

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[Json, int], Awaitable[Connection]]
"""(pod, port) -> a connection made inside the pod's network; raises OSError."""
CHANNELS, TUNNEL = "v4.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"
CHUNK = 32 * 1024
CONNECT_SECONDS = 5.0  # within one machine it takes no time, unless nobody accepts
MAX_MESSAGE = 1 << 20
MAX_PORTS = 64
"""Ports in one request, and streams open at a time in one tunnel: a client that wants more is not kubectl."""
_NO_SPDY = (
    "unable to upgrade: this server forwards ports over WebSocket only, not over SPDY; use a kubectl of version 1.31 or newer"
)


async def forward(request: web.Request, pod: Json, connect: Connect) -> web.StreamResponse:
    """Serve one port-forward to its end. Raises StatusError for what is no WebSocket or names no port."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise bad_request(_NO_SPDY if request.headers.get("Upgrade") else "Upgrade request required")
    if not (pod.get("status") or {}).get("podIP"):
        raise internal(f"pod {pod['metadata']['name']} does not run: its phase is {(pod.get('status') or {}).get('phase')}")
    offered = [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    ports = [] if TUNNEL in offered else _ports(request.query)
    socket = web.WebSocketResponse(protocols=(TUNNEL, CHANNELS), max_msg_size=MAX_MESSAGE, compress=False, timeout=1.0)
    await socket.prepare(request)
    session = _Tunnel(socket, pod, connect) if socket.ws_protocol == TUNNEL else _Channels(socket, pod, connect, ports)
    try:
        await session.run()
    finally:
        await session.close()
    return socket


def _ports(query: Mapping[str, str]) -> list[int]:
    """The `ports` query: numbers, repeated or separated by commas. Raises StatusError 400."""
    texts = [text for value in getattr(query, "getall", lambda *_: [])("ports", []) for text in value.split(",")]
    if not texts:
        raise bad_request('query parameter "ports" is required')
    if len(texts) > MAX_PORTS or not all(text.isascii() and text.isdigit() and 0 < int(text) < 65536 for text in texts):
        raise bad_request(f'query parameter "ports": expected at most {MAX_PORTS} numbers from 1 to 65535, got {texts[:3]}')
    return [int(text) for text in texts]


@dataclass(slots=True)
class _Channels:
    """Channel 2n carries the bytes of the n-th port, channel 2n+1 what went wrong; each begins with the port's number."""

    socket: web.WebSocketResponse
    pod: Json
    connect: Connect
    ports: list[int]
    _writers: dict[int, asyncio.StreamWriter] = field(default_factory=dict)
    _pumps: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self) -> None:
        """Connect each port, then pass bytes on until the client closes or every port is at its end."""
        for number, port in enumerate(self.ports):
            await self._open(2 * number, port)
        receiving = asyncio.create_task(self._receive())
        pumping = asyncio.create_task(self._until_all_end())
        await asyncio.wait([receiving, pumping], return_when=asyncio.FIRST_COMPLETED)
        for task in (receiving, pumping):
            task.cancel()
        await asyncio.gather(receiving, pumping, return_exceptions=True)

    async def _until_all_end(self) -> None:
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def close(self) -> None:
        await _end(self._pumps, self._writers.values())
        await self.socket.close()

    async def _open(self, channel: int, port: int) -> None:
        for each in (channel, channel + 1):
            await self.socket.send_bytes(struct.pack("<BH", each, port))
        try:
            reader, self._writers[channel] = await _connected(self.connect, self.pod, port)
        except OSError as error:
            await self.socket.send_bytes(bytes([channel + 1]) + failure(self.pod, port, error).encode())
            return
        self._pumps.append(asyncio.create_task(self._pump(channel, reader)))

    async def _pump(self, channel: int, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            await self.socket.send_bytes(bytes([channel]) + data)

    async def _receive(self) -> None:
        async for message in self.socket:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            writer = self._writers.get(message.data[0])
            if writer is not None:
                writer.write(message.data[1:])
                await writer.drain()


@dataclass(slots=True)
class _Tunnel:
    """SPDY inside the WebSocket: for each connection an error stream and a data stream, with `port` in their headers."""

    socket: web.WebSocketResponse
    pod: Json
    connect: Connect
    _reader: spdy.Reader = field(default_factory=spdy.Reader)
    _out: spdy.Writer = field(default_factory=spdy.Writer)
    _errors: dict[str, int] = field(default_factory=dict)  # requestID -> error stream
    _writers: dict[int, asyncio.StreamWriter] = field(default_factory=dict)
    _pumps: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self) -> None:
        """Serve until the client closes or sends what is no SPDY."""
        async for message in self.socket:
            if message.type is not WSMsgType.BINARY:
                continue
            try:
                frames = self._reader.feed(message.data)
            except spdy.SpdyError as error:
                await self.socket.close(code=1002, message=str(error).encode()[:120])
                return
            for frame in frames:
                await self._handle(frame)

    async def close(self) -> None:
        await _end(self._pumps, self._writers.values())
        await self.socket.close()

    async def _handle(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Opened():
                await self._opened(frame)
            case spdy.Data(stream, data, finished):
                await self._data(stream, data, finished=finished)
            case spdy.Reset(stream):
                if stream in self._writers:
                    self._writers.pop(stream).transport.abort()
            case spdy.Ping(number):
                await self.socket.send_bytes(self._out.ping(number))

    async def _opened(self, frame: spdy.Opened) -> None:
        kind, port = frame.headers.get("streamtype", ""), frame.headers.get("port", "")
        request = frame.headers.get("requestid", "")
        self._pumps = [pump for pump in self._pumps if not pump.done()]
        good = kind in {"error", "data"} and port.isascii() and port.isdigit() and 0 < int(port) < 65536
        if not good or len(self._pumps) >= MAX_PORTS or len(self._errors) >= 4 * MAX_PORTS:
            await self.socket.send_bytes(self._out.reset(frame.stream, spdy.REFUSED_STREAM))
            return
        await self.socket.send_bytes(self._out.accept(frame.stream))
        if kind == "error":
            self._errors[request] = frame.stream
        else:
            await self._open(frame.stream, int(port), self._errors.pop(request, 0))

    async def _data(self, stream: int, data: bytes, *, finished: bool) -> None:
        writer = self._writers.get(stream)
        if writer is None:
            return
        writer.write(data)
        if finished and writer.can_write_eof():
            writer.write_eof()
        try:
            await writer.drain()
        except OSError:
            self._writers.pop(stream, None)

    async def _open(self, stream: int, port: int, error_stream: int) -> None:
        """Connect before the next frame is looked at: it may have the first bytes for this stream."""
        try:
            reader, writer = await _connected(self.connect, self.pod, port)
        except OSError as error:
            await self.socket.send_bytes(self._out.data(error_stream, failure(self.pod, port, error).encode(), finished=True))
            await self.socket.send_bytes(self._out.reset(stream, spdy.CANCEL))
            return
        self._writers[stream] = writer
        self._pumps.append(asyncio.create_task(self._pump(stream, error_stream, reader, writer)))

    async def _pump(self, stream: int, error_stream: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from the pod's side, to its end."""
        try:
            while data := await reader.read(CHUNK):
                await self.socket.send_bytes(self._out.data(stream, data))
        except OSError:
            await self.socket.send_bytes(self._out.reset(stream, spdy.CANCEL))
        else:
            await self.socket.send_bytes(self._out.data(stream, b"", finished=True))
        finally:
            self._writers.pop(stream, None)
            writer.close()
            await self.socket.send_bytes(self._out.data(error_stream, b"", finished=True))


async def _connected(connect: Connect, pod: Json, port: int) -> Connection:
    async with asyncio.timeout(CONNECT_SECONDS):  # a TimeoutError is an OSError
        return await connect(pod, port)


def failure(pod: Json, port: int, error: OSError) -> str:
    """Why a port cannot be reached, as a kubelet says it."""
    metadata = pod["metadata"]
    words = os.strerror(error.errno).lower() if error.errno else "i/o timeout"
    why = f"dial tcp4 127.0.0.1:{port}: connect: {words}"
    return f"error forwarding port {port} to pod {metadata['name']}, uid {metadata['uid']}: failed to connect: {why}"


async def _end(pumps: list[asyncio.Task[None]], writers: Any) -> None:
    for pump in pumps:
        pump.cancel()
    await asyncio.gather(*pumps, return_exceptions=True)
    for writer in list(writers):
        writer.close()


async def nowhere(_pod: Json, _port: int) -> Connection:
    """What connects where there are no kubelets."""
    raise StatusError(503, "ServiceUnavailable", "no kubelet serves this pod")
