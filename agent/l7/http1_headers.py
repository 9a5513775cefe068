"""Headers that the rules let through, as they came; nothing here runs unless some are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flows.agent.store.request_columns import HEADER_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.l7.http1_text import Text
    from flows.agent.l7.redact import Redaction


def kept(text: Text, rows: NDArray[np.int64], rules: Redaction) -> NDArray[np.uint8]:
    """`Key: value` and a line feed each, of heads (k,) by payload: (k, HEADER_BYTES). What does not fit is left out whole."""
    headers = np.zeros((len(rows), HEADER_BYTES), np.uint8)
    for at, row in enumerate(rows.tolist()):
        head = text.piece(int(text.begin[row]), int(text.head_end[row]))
        found = b"".join(_lines(head, rules))
        headers[at, : len(found)] = np.frombuffer(found, np.uint8)
    return headers


def appended(before: NDArray[np.uint8], more: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Headers of answers after those of requests (n, HEADER_BYTES); those that do not fit are left out as a whole."""
    both = before.copy()
    for row in more[:, 0].nonzero()[0].tolist():
        size = int(np.count_nonzero(before[row]))
        text = b"".join(_fitting(more[row].tobytes().rstrip(b"\0").splitlines(keepends=True), HEADER_BYTES - size))
        both[row, size : size + len(text)] = np.frombuffer(text, np.uint8)
    return both


def _lines(head: bytes, rules: Redaction) -> list[bytes]:
    """Of one head: of what follows the last line feed the end is not known, so it is left out."""
    lines = (line.partition(b":") for line in head.split(b"\n")[1:-1])
    return _fitting([_line(name, value, rules) for name, colon, value in lines if colon and rules.keeps(name)], HEADER_BYTES)


def _line(name: bytes, value: bytes, rules: Redaction) -> bytes:
    # A zero byte would seem to be the column's end.
    return name + b": " + rules.header_value(name, value.strip(b" \t\r")).replace(b"\0", b"") + b"\n"


def _fitting(lines: list[bytes], room: int) -> list[bytes]:
    fitting = []
    for line in lines:
        if len(line) <= room:
            fitting.append(line)
            room -= len(line)
    return fitting
