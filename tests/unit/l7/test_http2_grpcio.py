"""Bytes of the gRPC library itself, both ends: what it was asked is what is seen."""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from http2_samples import MS, T0, Seen, Sent, Talk

from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Kind, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

CALLS = (("Say", 0), ("Say", 0), ("Fail", 5), ("Say", 0), ("Refuse", 7), ("Missing", 12), ("Count", 0), ("Say", 0))


def say(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("x-cost", "1"),))
    return request


def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
    raise AssertionError


def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_code(grpc.StatusCode.PERMISSION_DENIED)
    return b""


def counting(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from (b"1", b"2", b"3")


HANDLERS: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
    "Say": grpc.unary_unary_rpc_method_handler(say),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "Count": grpc.unary_stream_rpc_method_handler(counting),
}


class Wire:
    """A proxy of one connection that notes what passes."""

    def __init__(self, port: int) -> None:
        self.writes: list[Sent] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(port,))
        self._thread.start()

    def _run(self, port: int) -> None:
        client = self._listener.accept()[0]
        server = socket.create_connection(("127.0.0.1", port))
        back = threading.Thread(target=self._pass, args=(server, client, False))
        back.start()
        self._pass(client, server, True)
        back.join()
        client.close()
        server.close()

    def _pass(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    self.writes.append(Sent(from_client, T0 + MS * len(self.writes), data))
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._thread.join(10)
        self._listener.close()


def joined(writes: list[Sent]) -> list[Sent]:
    """Whole frames in each write: a read may end anywhere."""
    rest, whole = {True: b"", False: b""}, []
    for write in writes:
        data = rest[write.client] + write.data
        end = 24 if data.startswith(b"PRI") else 0
        while len(data) >= end + 9 and len(data) >= end + 9 + int.from_bytes(data[end : end + 3], "big"):
            end += 9 + int.from_bytes(data[end : end + 3], "big")
        whole.append(write._replace(data=data[:end]))
        rest[write.client] = data[end:]
    return whole


@pytest.fixture(scope="module")
def records() -> NDArray[np.void]:
    """Of all CALLS in one connection."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("pkg.Echo", HANDLERS)])
    wire = Wire(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{wire.port}", (("grpc.enable_http_proxy", 0),)) as channel:
        for method, _ in CALLS:
            call(channel, method)
    server.stop(None).wait()
    wire.close()
    talk = Talk()
    talk.writes = joined(wire.writes)
    return talk.records()


def call(channel: grpc.Channel, method: str) -> Any:
    with contextlib.suppress(grpc.RpcError):
        if method == "Count":
            stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/pkg.Echo/{method}")
            return list(stream(b"x", timeout=10))
        unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/pkg.Echo/{method}")
        return unary(b"x", timeout=10)
    return None


def test_every_call_has_its_method_and_status(records: NDArray[np.void]) -> None:
    seen = Seen().take(records)
    assert list(zip(seen.column("text"), seen.column("grpc"), strict=True)) == [
        (f"/pkg.Echo/{name}", code + 1) for name, code in CALLS
    ]
    assert set(zip(seen.column("kind"), seen.column("state"), seen.column("status"), seen.column("flags"), strict=True)) == {
        (Kind.GRPC, State.ANSWERED, 200, 0)
    }
    assert [event for _, event, _ in seen.events] == [Event.REQUEST, Event.RESPONSE] * len(CALLS)
    assert seen.handler.counts() == {}


@pytest.mark.parametrize("start", range(1, 30))
def test_joined_anywhere_nothing_wrong_is_said(records: NDArray[np.void], start: int) -> None:
    truth = {(f"/pkg.Echo/{name}", code + 1) for name, code in CALLS}
    for row in Seen().take(records[start:]).expire().rows():
        assert row["text"] in {""} | {path for path, _ in truth}
        assert row["text"] == "" or row["grpc"] == 0 or (row["text"], row["grpc"]) in truth
