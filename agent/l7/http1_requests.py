"""Request lines and Host of many payloads at once. Source: RFC 9112, sections 2.2, 3 and 3.2."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from flows.agent.l7.http1_extents import bounded
from flows.agent.l7.http1_lengths import content_length
from flows.agent.l7.http1_text import CR, SPACE, Text, word
from flows.agent.l7.masks import all_of, any_of, anywhere, number
from flows.agent.store.request_columns import HOST_BYTES, METHODS, TEXT_BYTES, Flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flows.agent.l7.redact import Redaction

SLASH, STAR, AT = (number(byte, np.uint8) for byte in b"/*@")
VERSION_BYTES: Final = 9  # ` HTTP/1.1`
LONGEST_METHOD: Final = 15
MOST_IN_ONE: Final = 200  # requests in one packet
CONNECT: Final = METHODS.index("CONNECT")

_METHOD_WORDS: Final = np.array([word(method.encode()[:8]) for method in METHODS], np.uint64)
_METHOD_BYTES: Final = np.array([len(method) or -1 for method in METHODS])
# A method's number by the upper bits of its word times this, which are different for all of them.
_SPREADING, _TO_SLOT = number(0x9E3779B97F4A7C15, np.uint64), number(64 - 10, np.uint64)
_METHODS: Final = np.zeros(1 << 10, np.uint8)
_METHODS[_METHOD_WORDS * _SPREADING >> _TO_SLOT] = np.arange(len(METHODS))
_WORD: Final = number(8, np.int64)
_MASKS: Final = np.array([(1 << 8 * min(size, 8)) - 1 for size in range(LONGEST_METHOD + 1)], np.uint64)
_ZERO, _ONE = number(ord("0"), np.uint8), number(1, np.uint8)
_TEN, _CUT, _REDACTED, _PIPELINED = (number(value, np.uint16) for value in (10, Flag.CUT, Flag.REDACTED, Flag.PIPELINED))
_HOST_CUT, _HOST_UNKNOWN = number(Flag.HOST_CUT, np.uint16), number(Flag.HOST_UNKNOWN, np.uint16)
_VERSION: Final = word(b" HTTP/1.")
_LINE_REST: Final = b"HTTP/1."
_NARROW: Final = 32  # bytes of targets that are looked at in any case: the scheme of an absolute form is among them


class Heads(NamedTuple):
    """Requests among payloads, k of them. row: which texts, or payloads (k,); the others are no requests.

    method, version, flags, text (k, TEXT_BYTES), host (k, HOST_BYTES): columns of request rows, redacted. begun: requests that
    begin in what was captured (k,), 0: not known; size: bytes from the first one's beginning to the last one's end, 0: not known.
    """

    row: NDArray[np.int64]
    method: NDArray[np.uint8]
    version: NDArray[np.uint16]
    flags: NDArray[np.uint16]
    text: NDArray[np.uint8]
    host: NDArray[np.uint8]
    begun: NDArray[np.uint8]
    size: NDArray[np.uint32]


class _Hosts(NamedTuple):
    """Hosts (k, HOST_BYTES), and what is to be said of them: flags (k,)."""

    host: NDArray[np.uint8]
    flags: NDArray[np.uint16]

    def set(self, at: int, authority: bytes, rules: Redaction) -> None:
        """Write one, without user info; empty: not known."""
        name = rules.host(authority)
        kept = name[:HOST_BYTES]
        self.host[at] = 0
        self.host[at, : len(kept)] = np.frombuffer(kept, np.uint8)
        cut = Flag.HOST_CUT if len(name) > HOST_BYTES else 0
        self.flags[at] = cut | (0 if name else Flag.HOST_UNKNOWN) | (Flag.REDACTED if name != authority else 0)


class _Line(NamedTuple):
    """Request lines (k,). start, size: flat index and bytes of the target; cut: its end was not captured."""

    row: NDArray[np.int64]
    method: NDArray[np.uint8]
    version: NDArray[np.uint16]
    start: NDArray[np.int64]
    size: NDArray[np.int64]
    cut: NDArray[np.bool_]

    def pick(self, which: NDArray[np.bool_]) -> _Line:
        return self if all_of(which) else _Line._make(column[which] for column in self)


def read(text: Text, rows: NDArray[np.int64], rules: Redaction) -> Heads:
    """What texts that begin like requests say; rows: which they are (n,)."""
    line, target = _checked(text, _lines(text, rows))
    hosts = _hosts(text, line.row, rules)
    whole = _forms(text, line, target, hosts, rules)
    paths = rules.paths(target, line.size, line.cut, whole)
    flags = hosts.flags
    flags |= paths.cut * _CUT
    flags |= paths.changed * _REDACTED
    count, size = _extents(text, line.row)
    flags |= (count != _ONE) * _PIPELINED
    kept = paths.text
    if kept.shape[1] < TEXT_BYTES:
        kept = np.zeros((len(kept), TEXT_BYTES), np.uint8)
        kept[:, : paths.text.shape[1]] = paths.text
    return Heads(line.row, line.method, line.version, flags, kept, hosts.host, count, size)


def _lines(text: Text, rows: NDArray[np.int64]) -> _Line:
    """Lines that may be request lines; targets are not looked at yet."""
    begin, last, end = text.begin.take(rows), text.end.take(rows), text.first_line.take(rows)
    spaces = text.windows(begin, LONGEST_METHOD + 1) == SPACE
    size = spaces.argmax(axis=1)
    method, ok = _methods(text, begin, size)
    start, whole = begin + (size + 1), end < last
    ok &= text.flat[start - 1] == SPACE
    end -= whole & (text.flat[end - 1] == CR)
    digit = text.flat[end - 1] - _ZERO
    end -= VERSION_BYTES
    versioned = whole & (digit <= 9)
    versioned &= text.words[np.maximum(end, 0)] == _VERSION
    version, cut = digit + _TEN, np.zeros(len(rows), bool)
    if not all_of(whole):
        open_end, rest = _open_ends(text, rows, start, whole)
        cut = ~whole & (rest < 0)
        versioned |= ~whole & (rest < 2)
        version[~whole], end = 0, np.where(whole, end, open_end)
    ok &= versioned & (start < last) & (end > start)
    return _Line(rows, method, version, start, end - start, cut).pick(ok)


def _methods(text: Text, begin: NDArray[np.int64], size: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Numbers of methods of `size` bytes (n,) at `begin`, and whether they are methods: any capitals are, with number 0."""
    first = text.words[begin] & _MASKS.take(size)
    method = _METHODS.take((first * _SPREADING >> _TO_SLOT).view(np.int64))
    known = _METHOD_WORDS.take(method) == first
    known &= _METHOD_BYTES.take(method) == size
    long = size > _WORD
    if any_of(long):  # PROPPATCH is the only one
        known[long] &= text.flat[begin[long] + 8] == ord("H")
    if not all_of(known):
        method[~known] = 0
        others = (~known & (size > 0)).nonzero()[0]
        letters = text.windows(begin[others], LONGEST_METHOD)
        capital = ((letters >= ord("A")) & (letters <= ord("Z"))) | (letters == ord("-"))
        known[others] = (capital | (np.arange(LONGEST_METHOD) >= size[others, None])).all(axis=1)
    return method, known


def _open_ends(
    text: Text, rows: NDArray[np.int64], start: NDArray[np.int64], whole: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Where targets end if the line's end was not captured (n,); what follows: -1 nothing, 1 part of a version, 2 else (n,)."""
    rest, end = np.full(len(rows), -1, np.int8), text.end.take(rows)
    row = (~whole).nonzero()[0]
    if not row.size:
        return end, rest
    begin, last, column = text.begin[rows[row]], end[row], np.arange(text.width)
    spaces = (text.matrix[rows[row]] == SPACE) & (column >= (start[row] - begin)[:, None]) & (column < (last - begin)[:, None])
    at = spaces.argmax(axis=1)
    found = spaces[np.arange(len(row)), at]
    end[row] = np.where(found, begin + at, last)
    size = last - end[row] - 1
    mask = _MASKS[np.clip(size, 0, len(_LINE_REST))]
    follows = (text.words[np.minimum(end[row] + 1, text.words.size - 1)] & mask) == (word(_LINE_REST) & mask)
    eighth, ninth = (text.flat[np.minimum(end[row] + place, text.flat.size - 1)] for place in (8, 9))
    follows &= ((size < 8) | (eighth - np.uint8(ord("0")) <= 9)) & ((size < VERSION_BYTES) | (ninth == CR))
    rest[row] = np.where(found, np.where(follows & (size <= VERSION_BYTES), 1, 2), -1)
    return end, rest


def _checked(text: Text, line: _Line) -> tuple[_Line, NDArray[np.uint8]]:
    """Lines whose target is one, and its beginning: (k, TEXT_BYTES or what all need), anything after its end."""
    width = min(TEXT_BYTES, max(_NARROW, -(-int(line.size.max(initial=0)) // 8) * 8))
    target = text.windows(line.start, width)
    spaces = target == SPACE
    at = spaces.argmax(axis=1)
    ok = ~spaces[np.arange(len(at)), at] | (at >= line.size)
    for row in (line.size > TEXT_BYTES).nonzero()[0].tolist():
        ok[row] &= line.cut[row] or b" " not in text.piece(line.start[row], line.start[row] + line.size[row])
    others = (target[:, 0] != SLASH).nonzero()[0]
    if others.size:
        star = (target[others, 0] == STAR) & (line.size[others] == 1)
        ok[others] &= star | (line.method[others] == CONNECT) | (_authority(target[others], line.size[others]) > 0)
    return (line, target) if all_of(ok) else (line.pick(ok), target[ok])


def _authority(target: NDArray[np.uint8], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the authority of absolute forms (k, w) begins; 0: they are none."""
    begin = (target[:, :16] == ord(":")) & (target[:, 1:17] == SLASH) & (target[:, 2:18] == SLASH)
    at = begin.argmax(axis=1)
    letter = ((target[:, 0] | 0x20) >= ord("a")) & ((target[:, 0] | 0x20) <= ord("z"))
    return np.where(letter & (at > 0) & (at + 3 <= size), at + 3, 0)


def _hosts(text: Text, rows: NDArray[np.int64], rules: Redaction) -> _Hosts:
    """Hosts of the given payloads by their headers (k, HOST_BYTES), and flags (k,)."""
    line = text.header(b"host").take(rows)
    there = (line >= 0).nonzero()[0]
    if not there.size:
        return _Hosts(np.zeros((len(rows), HOST_BYTES), np.uint8), np.full(len(rows), Flag.HOST_UNKNOWN, np.uint16))
    values = text.values(line[there], b"host", HOST_BYTES)
    long = values.lengths > HOST_BYTES
    flags = (values.lengths <= 0) * _HOST_UNKNOWN
    flags |= (long | ~values.whole) * _HOST_CUT
    hosts = _Hosts(values.text, flags)
    if there.size < len(rows):
        hosts = _Hosts(np.zeros((len(rows), HOST_BYTES), np.uint8), np.full(len(rows), Flag.HOST_UNKNOWN, np.uint16))
        hosts.host[there], hosts.flags[there] = values.text, flags
    suspect = (long | anywhere(values.text, AT)) & rules.user_info
    for at in there[suspect].tolist():  # no client does this: a Host has no user info
        begin = int(text.lines.at[line[at]]) + len(b"\nhost:")
        ends = text.line_end(line[at : at + 1])[0]
        hosts.set(at, text.piece(begin, int(ends[0])).strip(b" \t"), rules)
    return hosts


def _extents(text: Text, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Of these payloads `begun` and `size`: bytes behind a request may be another one (RFC 9112, section 6.3)."""
    body, length, begin = text.body.take(rows), content_length(text, rows, none=0), text.begin.take(rows)
    known = (body >= 0) & (length >= 0)
    size = (body + length - begin) * known
    count = np.ones(len(rows), np.uint8)
    more = (known & (size < text.end[rows] - begin)).nonzero()[0]
    if more.size:
        first = text.flat[text.begin[rows[more]] + size[more]]
        more = more[(first >= ord("A")) & (first <= ord("Z"))]
    for at in more.tolist():  # pipelined in one packet
        row = rows[at]
        count[at], size[at] = several(text.piece(int(text.begin[row]), int(text.end[row])))
    return count, bounded(size)


_HEAD: Final = re.compile(rb"[A-Z-]{1,15} [^ \r\n]+ HTTP/1\.[0-9]\r\n(?:[^\r\n]+\r\n)*\r\n")
_LENGTH: Final = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r", re.IGNORECASE)


def several(raw: bytes) -> tuple[int, int]:
    """How many requests begin in a packet, and where the last one ends; both 0: it cannot be told."""
    at = count = 0
    while at < len(raw):
        head = _HEAD.match(raw, at)
        if head is None or b"\ntransfer-encoding:" in (lower := head.group().lower()) or count == MOST_IN_ONE:
            return 0, 0
        length = _LENGTH.search(head.group())
        if length is None and b"\ncontent-length:" in lower:
            return 0, 0
        at, count = head.end() + (int(length.group(1)) if length else 0), count + 1
    return count, at


def _forms(text: Text, line: _Line, target: NDArray[np.uint8], hosts: _Hosts, rules: Redaction) -> Callable[[int], bytes]:
    """Leave only paths in targets (k, w), in place, and take the hosts of those that name one: those to proxies, so one by one.

    Returns what gives the whole of one.
    """
    changed: dict[int, bytes] = {}
    first = target[:, 0]
    for at in ((first != SLASH) & (first != STAR)).nonzero()[0].tolist():
        raw = text.piece(line.start[at], line.start[at] + line.size[at])
        begin = raw.find(b"://", 0, 18) + 3 if b"://" in raw[:18] else 0
        end = min((place for sign in (b"/", b"?", b"#") if (place := raw.find(sign, begin)) >= 0), default=len(raw))
        unfinished = bool(line.cut[at]) and end == len(raw)
        hosts.set(at, b"" if unfinished else raw[begin:end], rules)  # unfinished: whether it is user info cannot be said
        if begin and not unfinished and raw[: begin - 3].lower() != b"http":
            continue  # what a proxy is to fetch by other means is shown as it was asked for
        path = raw[end:] if not begin or unfinished or raw[end : end + 1] == b"/" else b"/" + raw[end:]
        changed[at] = path
        target[at, : len(path[:TEXT_BYTES])] = np.frombuffer(path[:TEXT_BYTES], np.uint8)
        line.size[at] = len(path)
    return lambda at: changed[at] if at in changed else text.piece(line.start[at], line.start[at] + line.size[at])
