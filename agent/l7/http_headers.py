"""Headers that the rules let through, as they came; nothing here runs unless some are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.store.request_columns import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from flows.agent.l7.http1_text import Text
    from flows.agent.l7.redact import Redaction

_FOLD: Final = re.compile(rb"\r?\n[ \t]+")  # a value that goes on in the next line: RFC 9112, section 5.2


def kept(text: Text, rows: NDArray[np.int64], rules: Redaction) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """`Key: value` and a line feed each, of heads (k,) by payload: (k, HEADER_BYTES); whose values something was taken from (k,).

    What does not fit is left out whole.
    """
    headers, redacted = np.zeros((len(rows), HEADER_BYTES), np.uint8), np.zeros(len(rows), bool)
    for at, row in enumerate(rows.tolist()):
        head = text.piece(int(text.begin[row]), int(text.head_end[row]))
        lines, redacted[at] = told(_fields(head), rules)
        found = b"".join(lines)
        headers[at, : len(found)] = np.frombuffer(found, np.uint8)
    return headers, redacted


def told(fields: Iterable[tuple[bytes, bytes]], rules: Redaction) -> tuple[list[bytes], bool]:
    """Lines of those fields that are kept and fit; whether something was taken from their values."""
    lines, redacted, room = list[bytes](), False, HEADER_BYTES
    for name, value in fields:
        if rules.keeps(name):
            shown = rules.header_value(name, value)
            line = name + b": " + shown + b"\n"
            if len(line) <= room:
                lines.append(line)
                redacted |= shown != value
                room -= len(line)
    return lines, redacted


def appended(before: NDArray[np.uint8], more: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Headers of answers after those of requests (n, HEADER_BYTES), as joined() has them."""
    both = before.copy()
    for row in more[:, 0].nonzero()[0].tolist():
        text = joined(before[row].tobytes().rstrip(b"\0"), more[row].tobytes().rstrip(b"\0"))
        both[row, : len(text)] = np.frombuffer(text, np.uint8)
    return both


def joined(asked: bytes, answered: bytes) -> bytes:
    """Headers of a request, an empty line, and those of its answer; of these, those that do not fit are left out whole."""
    room, lines = HEADER_BYTES - len(asked) - 1, list[bytes]()
    for line in answered.splitlines(keepends=True):
        if len(line) <= room:
            lines.append(line)
            room -= len(line)
    return asked + b"\n" + b"".join(lines) if lines else asked


def _fields(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Of one head: of what follows the last line feed the end is not known, so it is left out, and so is what is no field."""
    for line in _FOLD.sub(b" ", head).split(b"\n")[1:-1]:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t\r")
        # A zero byte would seem to be the column's end, a carriage return a line's.
        if colon and b"\r" not in value:
            yield name, value.replace(b"\0", b"")
