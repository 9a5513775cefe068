"""SPDY/3.1 frames, as far as Kubernetes streams need them (draft-mbelshe-httpbis-spdy-00, 3.1 without flow control).

kubectl speaks it inside a WebSocket: its port-forwarding multiplexes connections by SPDY streams.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

MAX_FRAME = 1 << 20
"""Longest frame taken: kubectl sends pieces of at most 32 KiB."""
MAX_HEADERS = 16 << 10
FIN = 1
_VERSION = 3
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _HEADERS = 1, 2, 3, 6, 8
CANCEL, REFUSED_STREAM = 5, 3

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length content-location "
    "content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match "
    "if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range "
    "referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get "
    "status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal "
    "Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, "
    "Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,"
    "text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(w)) + w.replace("_", " ").encode() for w in _WORDS.split()) + _TEXT.encode()
"""What the compression of headers starts from (section 2.6.10.1)."""


class SpdyError(Exception):
    """Bytes that are no frames; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Opened:
    """SYN_STREAM: the client opens a stream."""

    stream: int
    headers: dict[str, str]
    finished: bool


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes on a stream, the last ones if `finished`."""

    stream: int
    data: bytes
    finished: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """RST_STREAM: the client wants no more of a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    """PING, to be answered with the same number."""

    number: int


Frame = Opened | Data | Reset | Ping


class Reader:
    """Frames out of bytes that come in pieces."""

    def __init__(self) -> None:
        self._rest = b""
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now; kinds that need no answer are left out. Raises SpdyError."""
        self._rest += data
        found: list[Frame] = []
        while len(self._rest) >= 8:
            head, flags_length = struct.unpack_from(">II", self._rest)
            length = flags_length & 0xFFFFFF
            if length > MAX_FRAME:
                raise SpdyError(f"a frame of {length} bytes; expected at most {MAX_FRAME}")
            if len(self._rest) < 8 + length:
                break
            body, self._rest = self._rest[8 : 8 + length], self._rest[8 + length :]
            frame = self._frame(head, flags_length >> 24, body)
            found += [frame] if frame else []
        return found

    def _frame(self, head: int, flags: int, body: bytes) -> Frame | None:
        if head < 1 << 31:
            return Data(head, body, bool(flags & FIN))
        if head >> 16 & 0x7FFF != _VERSION:
            raise SpdyError(f"a frame of SPDY version {head >> 16 & 0x7FFF}; expected {_VERSION}")
        kind = head & 0xFFFF
        try:
            if kind == _SYN_STREAM:
                return Opened(struct.unpack_from(">I", body)[0] & 0x7FFFFFFF, self._headers(body[10:]), bool(flags & FIN))
            if kind == _RST_STREAM:
                return Reset(struct.unpack_from(">I", body)[0] & 0x7FFFFFFF)
            if kind == _PING:
                return Ping(struct.unpack_from(">I", body)[0])
            if kind == _HEADERS:
                self._headers(body[4:])  # all headers of a connection are one compressed text
        except (struct.error, zlib.error) as error:
            raise SpdyError(f"a frame of type {kind} is malformed: {error}") from None
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        raw = self._inflate.decompress(block, MAX_HEADERS)
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"headers of more than {MAX_HEADERS} bytes")
        (count,), at = struct.unpack_from(">I", raw), 4
        texts: list[str] = []
        for _ in range(2 * count):
            (size,) = struct.unpack_from(">I", raw, at)
            if at + 4 + size > len(raw):
                raise SpdyError("headers end in the middle of one")
            texts.append(raw[at + 4 : at + 4 + size].decode("latin-1"))
            at += 4 + size
        return dict(zip(texts[::2], texts[1::2], strict=True))


class Writer:
    """Frames as bytes."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def accept(self, stream: int) -> bytes:
        """SYN_REPLY without headers."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control(_SYN_REPLY, struct.pack(">I", stream) + block)

    def data(self, stream: int, data: bytes, *, finished: bool = False) -> bytes:
        """Bytes on a stream."""
        return struct.pack(">II", stream, (FIN if finished else 0) << 24 | len(data)) + data

    def reset(self, stream: int, status: int) -> bytes:
        """RST_STREAM."""
        return _control(_RST_STREAM, struct.pack(">II", stream, status))

    def ping(self, number: int) -> bytes:
        """The answer to a PING."""
        return _control(_PING, struct.pack(">I", number))


def _control(kind: int, body: bytes) -> bytes:
    return struct.pack(">II", 1 << 31 | _VERSION << 16 | kind, len(body)) + body
