"""HTTP/2 connections made by the library h2, as the records that the kernel makes of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import h2.config
import h2.connection
import h2.settings
import numpy as np

from flows.agent.l7.http2 import Http2
from flows.agent.l7.redact import Redaction
from flows.agent.probe.payload import LONG_PAYLOAD, SHORT_PAYLOAD, PayloadKind
from flows.agent.store.requests import RequestStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flows.agent.l7.events import Events

T0 = 10**12
WALL = 1_700_000_000 * 10**9
MS = 10**6
HANDED_OVER = (1, 3, 4, 5, 7, 9)  # frame types
GRPC_REQUEST = ((":method", "POST"), (":scheme", "http"), (":path", "/pkg.Echo/Say"), (":authority", "echo:50051"),
                ("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "grpc-python/1.80"))  # fmt: skip
GRPC_ANSWER = ((":status", "200"), ("content-type", "application/grpc"), ("grpc-encoding", "identity"))


RULES = Redaction(headers_allow=frozenset({b"user-agent", b"server"}))


class Sent(NamedTuple):
    """Bytes that one end wrote at once."""

    client: bool
    time_ns: int
    data: bytes


class Talk:
    """A client and a server, both of h2, and what they wrote. Each write is 1 ms after the one before."""

    def __init__(self, **server_settings: int) -> None:
        made = [
            h2.config.H2Configuration(client_side=side, header_encoding="utf-8", validate_inbound_headers=False)
            for side in (True, False)
        ]
        self.client, self.server = (h2.connection.H2Connection(config) for config in made)
        self.writes: list[Sent] = []
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.flush()
        if server_settings:
            self.server.update_settings({h2.settings.SettingCodes[name]: value for name, value in server_settings.items()})
            self.flush()

    def flush(self) -> None:
        """What both have to say goes to the other."""
        while True:
            said = [(True, self.client.data_to_send()), (False, self.server.data_to_send())]
            if not any(data for _, data in said):
                return
            for client, data in said:
                if data:
                    self.writes.append(Sent(client, T0 + MS * len(self.writes), data))
                    (self.server if client else self.client).receive_data(data)

    def ask(self, *headers: tuple[str, str], end: bool = True) -> int:
        """A request; its stream."""
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, headers, end_stream=end)
        self.flush()
        return stream

    def get(self, path: str, host: str = "web", **more: str) -> int:
        return self.ask((":method", "GET"), (":scheme", "http"), (":authority", host), (":path", path), *more.items())

    def answer(self, stream: int, *headers: tuple[str, str], end: bool = False) -> None:
        self.server.send_headers(stream, headers, end_stream=end)
        self.flush()

    def body(self, stream: int, data: bytes, *, end: bool = False, client: bool = False) -> None:
        (self.client if client else self.server).send_data(stream, data, end_stream=end)
        self.flush()

    def call(self, status: str = "0", path: str = "/pkg.Echo/Say") -> int:
        """A whole unary gRPC call."""
        stream = self.ask(*[(name, path if name == ":path" else value) for name, value in GRPC_REQUEST], end=False)
        self.body(stream, b"\0\0\0\0\1x", end=True, client=True)
        self.answer(stream, *GRPC_ANSWER)
        self.body(stream, b"\0\0\0\0\1y")
        self.answer(stream, ("grpc-status", status), ("grpc-message", ""), end=True)
        return stream

    def records(self, *, client_end: bool = True, cut: int | None = None, conn_id: int = 7) -> NDArray[np.void]:
        """As LONG_PAYLOAD; cut: bytes of a frame in each record, the rest follows as HTTP2_MORE."""
        numbers = {True: itertools.count(), False: itertools.count()}
        rows = []
        for write in self.writes:
            for frame in frames(write.data):
                for kind, text in pieces(frame, cut):
                    number = next(numbers[write.client])
                    fields: dict[str, Any] = {"kind": kind, "time_ns": write.time_ns, "number": number, "length": len(frame)}
                    rows.append(record(text, sent=write.client == client_end, conn_id=conn_id, **fields))
        return np.concatenate(rows)


def talked(what: Callable[[Talk], Any]) -> Talk:
    talk = Talk()
    what(talk)
    return talk


def frames(data: bytes) -> list[bytes]:
    """Frames in them that the kernel hands over, and the preface."""
    found, at = [], 0
    if data.startswith(b"PRI "):
        found, at = [data[:24]], 24
    while at < len(data):
        end = at + 9 + int.from_bytes(data[at : at + 3], "big")
        if data[at + 3] in HANDED_OVER:
            found.append(data[at:end])
        at = end
    return found


def pieces(frame: bytes, cut: int | None) -> list[tuple[int, bytes]]:
    cut = 24 if frame.startswith(b"PRI ") else cut or 1_900
    parts = [frame[at : at + cut] for at in range(0, len(frame), cut)]
    return [(PayloadKind.HTTP2_MORE if at else PayloadKind.HTTP2, part) for at, part in enumerate(parts)]


def record(text: bytes, dtype: np.dtype[Any] = LONG_PAYLOAD, **fields: Any) -> NDArray[np.void]:
    """One record, (1,)."""
    row = np.zeros(1, dtype)
    ends = {"conn_id": 7, "protocol": 6, "local_port": 40_000, "remote_port": 80, "comm": b"curl", "pid": 12}
    said = {"kind": PayloadKind.HTTP2, "length": len(text), "captured": len(text), "sent": 1}
    for name, value in (ends | said | fields).items():
        row[name] = value
    row["text"][0, : len(text)] = np.frombuffer(text, np.uint8)
    return row


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """A frame by hand."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def shortened(records: NDArray[np.void]) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """The same in two rings: those that fit as SHORT_PAYLOAD, the others."""
    fits = records["captured"] <= SHORT_PAYLOAD["text"].shape[0]
    short = np.zeros(int(fits.sum()), SHORT_PAYLOAD)
    for name in SHORT_PAYLOAD.names or ():
        short[name] = records[fits][name] if name != "text" else records[fits]["text"][:, : short["text"].shape[1]]
    return short, records[~fits]


class Seen:
    """A handler with its store, and all events."""

    def __init__(self, capacity: int = 4_096, **options: Any) -> None:
        self.store, self.wall = RequestStore(capacity), WALL
        self.handler = Http2(self.store, RULES, **options)
        self.events: list[tuple[int, int, int]] = []

    def note(self, events: Events) -> None:
        self.events += zip(
            events.request.tolist(), events.event.tolist(), (events.time_ns.astype(np.int64) - T0).tolist(), strict=True
        )

    def take(self, *batches: NDArray[np.void]) -> Seen:
        for batch in batches:
            self.note(self.handler.take(batch, WALL))
        return self

    def expire(self, after_ns: int = 5 * 10**9) -> Seen:
        self.note(self.handler.expire(T0 + after_ns, WALL))
        return self

    def end(self, after_ns: int = 6 * 10**9, conn_id: int = 7) -> Seen:
        self.note(self.handler.ended(np.array([conn_id], np.uint64), np.array([T0 + after_ns], np.uint64), WALL))
        return self

    def rows(self) -> list[dict[str, Any]]:
        store = self.store
        columns = store.take(np.arange(store.oldest, store.written))
        return [{name: _plain(values[at]) for name, values in columns.items()} for at in range(store.written - store.oldest)]

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows()]


def _plain(value: Any) -> Any:
    return value.tobytes().rstrip(b"\0").decode(errors="replace") if getattr(value, "ndim", 0) else value.item()
