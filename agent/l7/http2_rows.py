"""Requests and answers of a batch, gathered as they are read, and given to the store as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.l7.copied import copied
from flows.agent.l7.events import Events
from flows.agent.l7.http_headers import joined
from flows.agent.probe.payload import SHORT_PAYLOAD
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import HEADER_BYTES, HOST_BYTES, TEXT_BYTES, Flag, Kind, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from flows.agent.l7.http2_frames import Frame
    from flows.agent.l7.http2_headers import Block
    from flows.agent.store.requests import RequestStore

HEAD = np.dtype([(name, SHORT_PAYLOAD[name]) for name in SHORT_PAYLOAD.names or () if name != "text"])
_HTTP2 = 20  # column `version`
_AT_ONCE = 4_096  # rows gathered before they are stored


class Stream:
    """A request and what is known of its answer. Times are CLOCK_MONOTONIC."""

    __slots__ = (
        "answered_ns",
        "asked_ns",
        "flags",
        "given_up",
        "grpc",
        "headers",
        "kind",
        "lost",
        "number",
        "state",
        "status",
        "told",
    )

    def __init__(self, number: int, asked_ns: int, block: Block, flags: int) -> None:
        """number: in the RequestStore; asked_ns 0: an answer whose request was not seen."""
        self.number, self.asked_ns, self.answered_ns = number, asked_ns, 0
        self.kind = Kind.GRPC if block.is_grpc else Kind.HTTP2
        self.state = State.ASKED if asked_ns else State.ALONE
        self.flags, self.status, self.grpc = flags, 0, 0
        self.headers = block.kept if asked_ns else b""
        self.told = False  # the event of its answer was made
        self.given_up = False  # it has waited too long, or its stream ended
        self.lost = False  # records were lost, and its answer may be among them

    @property
    def waits(self) -> bool:
        """Whether an answer is expected, and nothing of it was seen."""
        return self.state == State.ASKED

    def begin_answer(self, time_ns: int) -> None:
        """Its first headers came at time_ns."""
        self.answered_ns = time_ns
        if self.state == State.UNANSWERED:
            self.flags |= Flag.LATE
        if self.state != State.ALONE:
            self.state = State.ANSWERED

    def learn(self, block: Block) -> None:
        """What headers or trailers of the answer say."""
        self.status = self.status or block.status
        self.grpc = block.grpc or self.grpc
        if block.is_grpc or block.grpc:
            self.kind = Kind.GRPC
        if block.unknown:
            self.flags |= Flag.MIDDLE
        self.headers = joined(self.headers, block.kept)


class Rows:
    """What one batch brings. Numbers are those that the store will give: nobody else adds to it meanwhile."""

    def __init__(self, store: RequestStore) -> None:
        """store: where rows go."""
        self._store = store
        self._asked: list[tuple[bytes, bool, int, int, int, int, int, bytes, bytes, bytes]] = []
        self._answers: dict[int, tuple[int, int, int, int, int, int, bytes]] = {}
        self._events: list[tuple[int, int, int]] = []
        self._to_wall_ns = 0
        self._at_once = min(_AT_ONCE, store.capacity)

    def begin(self, to_wall_ns: int) -> None:
        """to_wall_ns: added to times."""
        self._to_wall_ns = to_wall_ns

    def ask(self, frame: Frame, block: Block) -> Stream:
        """A row for a request."""
        head, time_ns = frame.record.head, frame.record.time_ns
        flags = _flags(block)
        kind = Kind.GRPC if block.is_grpc else Kind.HTTP2
        row = (head, False, time_ns + self._to_wall_ns, kind, flags, block.method, frame.size, block.path, block.host, block.kept)
        stream = Stream(self._add(row), time_ns, block, flags)
        self.tell(stream, Event.REQUEST, time_ns)
        return stream

    def alone(self, frame: Frame, block: Block) -> Stream:
        """A row for an answer whose request was not seen."""
        kind = Kind.GRPC if block.is_grpc else Kind.HTTP2
        return Stream(self._add((frame.record.head, True, 0, kind, 0, 0, 0, b"", b"", b"")), 0, block, 0)

    def set(self, stream: Stream) -> None:
        """Write what is known of the answer now."""
        answered = stream.answered_ns + self._to_wall_ns if stream.answered_ns else 0
        self._answers[stream.number] = (
            answered, stream.state, stream.flags, stream.kind, stream.status, stream.grpc, stream.headers,
        )  # fmt: skip

    def tell(self, stream: Stream, event: Event, time_ns: int) -> None:
        """An event of this request."""
        self._events.append((stream.number, event, time_ns))

    def end(self) -> Events:
        """Store what was gathered; the events since the last end."""
        self._flush()
        events, self._events = self._events, []
        request, event, time_ns = zip(*events, strict=True) if events else ((), (), ())
        return Events(np.array(request, np.int64), np.array(event, np.uint8), np.array(time_ns, np.uint64))

    def _add(self, row: tuple[bytes, bool, int, int, int, int, int, bytes, bytes, bytes]) -> int:
        if len(self._asked) >= self._at_once:
            self._flush()
        self._asked.append(row)
        return self._store.written + len(self._asked) - 1

    def _flush(self) -> None:
        if self._asked:
            self._store.add(_rows(self._asked))
            self._asked = []
        if self._answers:
            answered, state, flags, kind, status, grpc, headers = zip(*self._answers.values(), strict=True)
            columns: dict[str, NDArray[Any]] = {
                "answered": np.array(answered, np.int64),
                "state": np.array(state, np.uint8),
                "flags": np.array(flags, np.uint16),
                "kind": np.array(kind, np.uint8),
                "status": np.array(status, np.uint16),
                "grpc": np.array(grpc, np.uint8),
                "headers": _texts(headers, HEADER_BYTES),
            }
            self._store.answer(np.array(list(self._answers), np.int64), columns)
            self._answers = {}


def _flags(block: Block) -> int:
    return (
        Flag.CUT * block.cut
        | Flag.HOST_CUT * (len(block.host) > HOST_BYTES)
        | Flag.REDACTED * block.changed
        | Flag.MIDDLE * block.unknown
        | Flag.HOST_UNKNOWN * (not block.host)
    )


def _rows(asked: Sequence[tuple[bytes, bool, int, int, int, int, int, bytes, bytes, bytes]]) -> dict[str, NDArray[Any]]:
    heads, alone, time, kind, flags, method, size, path, host, kept = zip(*asked, strict=True)
    answers = np.array(alone, bool)
    return copied(np.frombuffer(b"".join(heads), HEAD), answers=answers) | {
        "time": np.array(time, np.int64),
        "kind": np.array(kind, np.uint8),
        "state": np.where(answers, State.ALONE, State.ASKED).astype(np.uint8),
        "flags": np.array(flags, np.uint16),
        "method": np.array(method, np.uint8),
        "version": np.full(len(asked), _HTTP2, np.uint16),
        "request_bytes": np.array(size, np.uint32),
        "response_bytes": np.full(len(asked), -1, np.int64),
        "text": _texts(path, TEXT_BYTES),
        "host": _texts(host, HOST_BYTES),
        "headers": _texts(kept, HEADER_BYTES),
    }


def _texts(values: Iterable[bytes], width: int) -> NDArray[np.uint8]:
    """Each cut or filled with zeros to `width` bytes; (n, width)."""
    return np.frombuffer(b"".join([value[:width].ljust(width, b"\0") for value in values]), np.uint8).reshape(-1, width)
