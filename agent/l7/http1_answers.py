"""Status lines of many payloads at once, with what tells how long the answer is. Source: RFC 9112, sections 4 and 6."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.http1_connections import link
from flows.agent.l7.http1_lengths import BEYOND_NINE, DIGITS, UPPERMOST, content_length
from flows.agent.l7.http1_rows import join, pick
from flows.agent.l7.http1_text import CR, LF, SPACE, Text, word
from flows.agent.l7.http_headers import kept
from flows.agent.l7.masks import all_of, any_of, number
from flows.agent.store.request_columns import HEADER_BYTES, METHODS, Flag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.l7.http1_distinct import Some
    from flows.agent.l7.redact import Redaction

# An answer as pairing needs it. link: see http1_connections; row: of its payload; head: bytes of the head, -1: its end was not
# captured; body: Content-Length, -1: none or not captured; owed: counted by http1_owed.
ANSWER: Final = np.dtype(
    [
        ("conn_id", "u8"), ("time_ns", "u8"), ("row", "i8"), ("head", "i8"), ("body", "i8"), ("sequence", "u4"),
        ("acknowledged", "u4"), ("length", "u4"), ("status", "u2"), ("version", "u2"), ("flags", "u2"), ("link", "u1"),
        ("calls", "u1"), ("owed", "?"),
    ],
    align=True,
)  # fmt: skip
_HEADERS: Final = ("headers", "u1", (HEADER_BYTES,))
ANSWER_WITH_HEADERS: Final = np.dtype([*((name, ANSWER[name]) for name in ANSWER.names or ()), _HEADERS])  # if any are kept
MOST_INTERIM: Final = 8  # answers before the final one in one payload; 100, 102 and 103 in turn need three
SWITCHING: Final = 101
PLACED: Final = ("conn_id", "time_ns", "acknowledged", "sent", "origin", "slice", "sequence", "length")  # what place() looks at
HEAD, CONNECT = METHODS.index("HEAD"), METHODS.index("CONNECT")
_HEAD, _CONNECT = number(HEAD, np.uint8), number(CONNECT, np.uint8)
_FINAL: Final = number(200, np.uint16)
_ZERO: Final = number(0, np.int64)
_EMPTY: Final = np.isin(np.arange(1 << 16), (204, 304, SWITCHING))  # by status
_VERSION: Final = word(b"HTTP/1.")
_SEVEN_BYTES: Final = word(b"\xff" * 7)
_ZERO_DIGIT: Final = number(ord("0"), np.uint8)
_TEN, _CUT, _REDACTED = (number(value, np.uint16) for value in (10, Flag.ANSWER_CUT, Flag.REDACTED))
_BYTE, _TWO_BYTES, _NOTHING, _TENS = (number(value, np.uint64) for value in (8, 16, 0, 10))
_LOWEST, _THREE_BYTES = word(b"\xff"), word(b"\xff" * 3)


def read(
    text: Text, rows: NDArray[np.int64], dtype: np.dtype[np.void]
) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.int64]]:
    """Answers of this dtype that texts begin with (k,): status, version, flags, head and body are set. rows: which texts (n,).

    Then which of these texts they are of (k,); and where each text goes on: a flat index (k,), -1: nowhere.
    """
    begin, end = text.begin.take(rows), text.end.take(rows)
    seventh = begin + 7
    digit = text.flat[seventh] - _ZERO_DIGIT
    digit[end <= seventh] = 0  # the version's second number did not come with this packet
    status, whole = _status(text, begin, end - begin)
    begins = (text.words[begin] & _SEVEN_BYTES) == _VERSION
    ok = begins & (end >= seventh) & (digit <= 9) & (status >= 0)
    if not all_of(ok):
        rows, begin, end, status, whole, digit = (each[ok] for each in (rows, begin, end, status, whole, digit))
    answers = np.zeros(len(rows), dtype)
    answers["status"], answers["version"] = status, digit + _TEN
    answers["flags"] = ~whole * _CUT
    body = text.body.take(rows)
    begun = body >= 0
    answers["head"] = np.where(begun, body - begin, -1)
    answers["body"] = content_length(text, rows)
    return answers, rows, np.where(begun & (body < end), body, -1)


def _status(text: Text, begin: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Status codes (n,) of texts of so many bytes: -1 where there is none, 0 where the packet ends within it; and where it does
    not, bool (n,)."""
    words = text.words[begin + 8]
    digits = (words >> _BYTE ^ DIGITS) & _THREE_BYTES
    ok = ((digits + BEYOND_NINE) | digits) & UPPERMOST & _THREE_BYTES == _NOTHING
    around = words.view(np.uint8).reshape(-1, 8)
    behind = around[:, 4]
    ok &= (around[:, 0] == SPACE) & (around[:, 1] != _ZERO_DIGIT)
    ok &= (behind == SPACE) | (behind == CR) | (behind == LF)
    status = ((digits * _TENS + (digits >> _BYTE) & _LOWEST) * _TENS + (digits >> _TWO_BYTES)).view(np.int64)
    short = (sizes <= 12).nonzero()[0]
    for at in short.tolist():
        status[at], ok[at] = _cut_status(text.piece(int(begin[at]), int(begin[at] + sizes[at]))[8:])
    status[~ok] = -1
    return status, sizes >= 12


def _cut_status(rest: bytes) -> tuple[int, bool]:
    """What a packet that ends with these bytes, before what is behind the status, or in it, says; and whether that can be one."""
    code = rest[1:4]
    ok = rest[:1] in b" " and (not code or code.isdigit()) and not code.startswith(b"0")
    return (int(code) if ok and len(code) == 3 else 0), ok


def read_all(payloads: NDArray[np.void], some: Some, dtype: np.dtype[np.void], rules: Redaction) -> tuple[NDArray[np.void], int]:
    """All answers in payloads (n,), for final ones may follow interim ones, `row` set; and how many payloads are none.

    some: the payloads' texts.
    """
    text, rows = some.text, some.rows
    texts, offset = np.arange(len(text)), np.zeros(len(text), np.int64)  # which text, and where in it, each one here is
    found = [np.zeros(0, dtype)]
    for _ in range(MOST_INTERIM if len(payloads) else 0):
        answers, inner, body = read(text, rows, dtype)
        if rules.keeps_headers:
            answers["headers"], redacted = kept(text, inner, rules)
            answers["flags"] |= redacted * _REDACTED
        of, which = some.all_with(texts[inner])
        found.append(pick(answers, which))
        found[-1]["row"] = of
        place(found[-1], payloads, offset[inner][which])
        follows = is_interim(answers) & (body >= 0)
        if not any_of(follows):
            break
        inner, body = inner[follows], body[follows]
        texts, offset = texts[inner], offset[inner] + body - text.begin[inner]
        text, rows = text.rest(inner, body), np.arange(len(inner))
    return join(*found), len(payloads) - len(found[min(1, len(found) - 1)])


def is_interim(answers: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which do not complete a request: 100 to 199, but for 101 Switching Protocols (RFC 9110, section 15.2)."""
    status = answers["status"]
    mask: NDArray[np.bool_] = status < _FINAL
    if any_of(mask):  # as of few
        mask &= (status >= 100) & (status != SWITCHING)
    return mask


def place(answers: NDArray[np.void], payloads: NDArray[np.void], offset: NDArray[np.int64]) -> None:
    """Say where answers are in their streams; offset: from the payload's first byte (k,)."""
    row = answers["row"]
    columns = {name: payloads[name] for name in PLACED}
    if len(row) < len(payloads):
        columns = {name: column[row] for name, column in columns.items()}
    for name in ("conn_id", "time_ns", "acknowledged"):
        answers[name] = columns[name]
    answers["link"] = link(columns["sent"] == 0, columns["origin"], columns["slice"])
    answers["sequence"] = columns["sequence"] + offset.astype(np.uint32)
    answers["length"] = np.maximum(columns["length"].astype(np.int64) - offset, 0)


def sizes_of(method: NDArray[np.uint8], answers: NDArray[np.void]) -> NDArray[np.int64]:
    """Bytes of answers as their heads tell; -1: they do not. RFC 9112, section 6.3."""
    status, head, body = answers["status"], answers["head"], answers["body"].copy()
    empty = _EMPTY.take(status)
    empty |= method == _HEAD
    connected = method == _CONNECT
    if any_of(connected):
        empty |= connected & (status // 100 == 2)
    body[empty] = 0
    sizes: NDArray[np.int64] = head + body
    sizes[(head < _ZERO) | (body < _ZERO)] = -1
    return sizes
