"""Content-Length of many heads at once, and what their digits say. Source: RFC 9112, section 6.3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.http1_text import word
from flows.agent.l7.masks import any_of, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.l7.http1_text import Text

_MOST_DIGITS: Final = 15
DIGITS, BEYOND_NINE, UPPERMOST = word(b"00000000"), word(b"\x76" * 8), word(b"\x80" * 8)
_WORD_BITS: Final = number(64, np.int64)
_PAIRS: Final = [  # by how many bits the second one of a pair of numbers lies behind, by what the first counts, where the sum is
    (number(8, np.uint64), number(10, np.uint64), word(b"\xff\0" * 4)),
    (number(16, np.uint64), number(100, np.uint64), word(b"\xff\xff\0\0" * 2)),
    (number(32, np.uint64), number(10_000, np.uint64), word(b"\xff" * 4)),
]


def content_length(text: Text, rows: NDArray[np.int64], none: int = -1) -> NDArray[np.int64]:
    """Content-Length of heads (n,); none: what it is where there is none; -1: not a number, or sent in chunks (RFC 9112, 6.3)."""
    line, chunked = text.header(b"content-length").take(rows), text.header(b"transfer-encoding").take(rows) >= 0
    lengths, given = np.full(len(rows), none), line >= 0
    if any_of(chunked):
        lengths[chunked] = -1
        given &= ~chunked
    there = given.nonzero()[0]
    if there.size:
        begin, end, whole = text.extents(line[there], b"content-length")
        size = end - begin
        numbers = _decimal(text.words[begin], size)
        long = (whole & (size > 8) & (size <= _MOST_DIGITS)).nonzero()[0]
        if long.size:  # more than 99 MB
            upper = _decimal(text.words[begin[long]], size[long] - 8)
            lower = _decimal(text.words[end[long] - 8], np.full(len(long), 8))
            numbers[long] = np.where((upper < 0) | (lower < 0), -1, upper * 100_000_000 + lower)
        numbers[~whole] = -1
        lengths[there] = numbers
    return lengths


def _decimal(words: NDArray[np.uint64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of one to eight digits, from the words (n,) that begin with them; -1 of others. Digits are added up in pairs."""
    digits = words ^ DIGITS
    digits <<= (_WORD_BITS - (np.minimum(np.maximum(size, 1), 8) << 3)).view(np.uint64)  # what is behind falls out
    bad = (((digits + BEYOND_NINE) | digits) & UPPERMOST) != 0
    for shift, ten, mask in _PAIRS:
        digits = digits * ten + (digits >> shift) & mask
    numbers: NDArray[np.int64] = digits.view(np.int64)
    numbers[bad | (size < 1) | (size > 8)] = -1
    return numbers
