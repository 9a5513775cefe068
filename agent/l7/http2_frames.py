"""HTTP/2 frames (RFC 9113, section 4 and 6): records of the ring to frames, frames to header blocks.

One direction of one connection. Its records are numbered, so that a loss is noticed; what was lost is never guessed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from flows.agent.probe.payload import PayloadKind

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAME_HEADER = 9  # bytes
PREFACE = b"PRI * HTTP/2.0"
PREFACE_LENGTH = 24  # bytes, with `SM` and its line ends
MAX_BLOCK = 32_768  # bytes of one header block; servers refuse far less (nginx: 32 KiB when decoded, gRPC: 8 KiB)

_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_HTTP2 = int(PayloadKind.HTTP2)
_TABLE_SIZE = 1  # SETTINGS_HEADER_TABLE_SIZE


class FrameType(IntEnum):
    """Those that say something of requests."""

    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    GOAWAY = 7
    CONTINUATION = 9


_HEADERS = int(FrameType.HEADERS)
_HAVE_BLOCKS = (_HEADERS, int(FrameType.PUSH_PROMISE))


class MalformedError(ValueError):
    """A frame or header block is not what RFC 9113 or RFC 7541 say; the text is the name of its count."""


class Record(NamedTuple):
    """One payload record. `time_ns` is CLOCK_MONOTONIC, `head` what comes before the text, as it came."""

    time_ns: int
    kind: int
    length: int
    number: int
    text: bytes
    head: bytes


class Frame(NamedTuple):
    """One whole frame; `record` has its first byte, `size` counts its header, and CONTINUATION frames of its header block."""

    type: int
    flags: int
    stream: int
    payload: bytes
    record: Record
    size: int

    @property
    def ends_stream(self) -> bool:
        """Of HEADERS: nothing follows from this side."""
        return self.flags & _END_STREAM != 0


class Frames:
    """Puts frames together that lie in several records, and header blocks that lie in several frames."""

    def __init__(self) -> None:
        """Nothing is begun, and what continues something is skipped."""
        self._begun: Record | None = None
        self._bytes = bytearray()
        self._headers: Frame | None = None
        self._block = bytearray()

    @property
    def waiting_bytes(self) -> int:
        """What is kept until the rest comes."""
        return len(self._bytes) + len(self._block)

    def cuts(self, record: Record) -> bool:
        """Whether this record begins a frame although the rest of the last one never came."""
        return self._begun is not None and record.kind == _HTTP2

    def forget(self) -> None:
        """Drop what is not whole: what comes next does not continue it."""
        self._begun = self._headers = None
        self._bytes, self._block = bytearray(), bytearray()

    def take(self, record: Record) -> Frame | None:
        """The frame that this record ends, with the whole header block as its payload. None: more is needed.

        Not to be called with what cuts. Raises MalformedError: forget(), since header blocks may be missing from here on.
        """
        text = record.text
        if self._begun is None and len(text) == record.length >= FRAME_HEADER and record.kind == _HTTP2:  # nearly always
            return self._whole(_frame(record, text))
        if record.kind == _HTTP2:
            self._begin(record)
        if self._begun is None:
            return None  # the rest of what was given up, and counted then
        self._bytes += record.text
        if len(self._bytes) > self._begun.length:
            raise MalformedError("http2_frames_malformed")
        if len(self._bytes) < self._begun.length:
            return None
        frame, self._begun = _frame(self._begun, bytes(self._bytes)), None
        self._bytes = bytearray()
        return self._whole(frame)

    def _begin(self, record: Record) -> None:
        if record.length > MAX_BLOCK:
            raise MalformedError("http2_blocks_too_large")
        if len(record.text) < FRAME_HEADER:
            raise MalformedError("http2_frames_malformed")
        self._begun, self._bytes = record, bytearray()

    def _whole(self, frame: Frame) -> Frame | None:
        if len(frame.payload) + FRAME_HEADER != frame.size:
            raise MalformedError("http2_frames_malformed")
        if frame.type == FrameType.CONTINUATION:
            return self._continued(frame)
        if self._headers is not None:  # RFC 9113, section 6.10: nothing may come between
            raise MalformedError("http2_frames_malformed")
        if frame.type not in _HAVE_BLOCKS:
            return frame
        if frame.flags & (_PADDED | _PRIORITY) or frame.type != _HEADERS:
            frame = frame._replace(payload=_fragment(frame))
        if frame.flags & _END_HEADERS:
            return frame
        self._headers, self._block = frame, bytearray(frame.payload)
        return None

    def _continued(self, frame: Frame) -> Frame | None:
        begun = self._headers
        if begun is None or begun.stream != frame.stream:
            raise MalformedError("http2_frames_malformed")
        self._block += frame.payload
        self._headers = begun = begun._replace(size=begun.size + frame.size)
        if begun.size > MAX_BLOCK:
            raise MalformedError("http2_blocks_too_large")
        if not frame.flags & _END_HEADERS:
            return None
        whole = begun._replace(payload=bytes(self._block))
        self._headers, self._block = None, bytearray()
        return whole


def is_preface(record: Record) -> bool:
    """Whether this is what a client begins with (RFC 9113, section 3.4)."""
    return record.text.startswith(PREFACE) and record.kind == _HTTP2


def table_sizes(frame: Frame) -> Iterator[int]:
    """Values of SETTINGS_HEADER_TABLE_SIZE in a SETTINGS frame: how large the receiver may make its encoder's table."""
    payload = b"" if frame.flags & _ACK else frame.payload
    for at in range(0, len(payload) - 5, 6):
        if int.from_bytes(payload[at : at + 2], "big") == _TABLE_SIZE:
            yield int.from_bytes(payload[at + 2 : at + 6], "big")


def last_stream(frame: Frame) -> int:
    """Of GOAWAY: requests on streams above it were not and will not be worked on. Raises MalformedError."""
    if len(frame.payload) < 8:
        raise MalformedError("http2_frames_malformed")
    return int.from_bytes(frame.payload[:4], "big") & 0x7FFFFFFF


def _frame(record: Record, raw: bytes) -> Frame:
    stream = int.from_bytes(raw[5:9], "big") & 0x7FFFFFFF
    return Frame(raw[3], raw[4], stream, raw[FRAME_HEADER:], record, FRAME_HEADER + int.from_bytes(raw[:3], "big"))


def _fragment(frame: Frame) -> bytes:
    """The header block in HEADERS or PUSH_PROMISE, without padding, priority and promised stream (RFC 9113, 6.2 and 6.6)."""
    payload, first, last = frame.payload, 0, len(frame.payload)
    if frame.flags & _PADDED:
        first, last = 1, last - (payload[0] if payload else 0)
    if frame.type == FrameType.PUSH_PROMISE:
        first += 4
    elif frame.flags & _PRIORITY:
        first += 5
    if first > last:
        raise MalformedError("http2_frames_malformed")
    return payload[first:last]
