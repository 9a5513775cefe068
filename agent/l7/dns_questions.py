"""The questions of DNS messages (RFC 1035), read for a whole batch at once: header, name, type."""

from __future__ import annotations

import secrets
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from flows.agent.l7.masks import any_of, before, number
from flows.agent.store.request_columns import TEXT_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER: Final = 12  # bytes; the question follows
NAME: Final = 255  # bytes of a name with its length bytes and the root; RFC 1035, 2.3.4
LABEL: Final = 63
QUESTION_END: Final = HEADER + NAME + 4  # no question of a message with one question ends later
ROOM: Final = 12  # zeros behind it: type and class, and up to whole words

# How many bytes a byte of a label takes in text: itself, `\.` and the like, or `\000` (RFC 1035, 5.1; the same as dnspython).
_WIDTHS: Final = np.full(256, 4, np.uint8)
_WIDTHS[0x21:0x7F] = 1
_WIDTHS[list(b'".();\\@$')] = 2
_WIDTHS.setflags(write=False)
_WORDS: Final = 32  # of 8 bytes in a name
# The hash is keyed, so that nobody can make questions that meet: odd multipliers for a name's words, and one for the rest.
_SEEDS: Final = np.array([secrets.randbits(64) | 1 for _ in range(_WORDS + 1)], np.uint64)
_OTHER_SEEDS: Final = np.roll(_SEEDS, 1)
_SALTS: Final = np.array([secrets.randbits(64) for _ in range(_WORDS)], np.uint64)
_DOT, _PLAIN, _UNDERSCORE, _CAPITAL, _SMALL, _ZERO = (number(ord(sign), np.uint8) for sign in ".-_Aa0")
_LETTERS, _DIGITS, _TO_SMALL, _FIRST, _LONGEST = (number(value, np.uint8) for value in (26, 10, 0x20, 1, LABEL))
_HALF, _NEARLY_HALF, _TO_LAST, _EACH_BYTE = (number(value, np.uint64) for value in (32, 29, 56, 0x0101010101010101))
_TYPE: Final = number(16, np.uint32)


class Reason(IntEnum):
    """Why a message was not taken; its name in lower case is the counter's, after `dns_`."""

    TAKEN = 0
    MALFORMED_SHORT = 1  # it ends before its question does
    MALFORMED_POINTER = 2  # compression before anything was said
    MALFORMED_LABEL = 3  # label types that nobody uses (RFC 6891, 5)
    MALFORMED_NAME = 4  # longer than 255 bytes
    QUESTION_CUT = 5  # the question goes on behind the bytes that the kernel handed over
    QUESTION_COUNT = 6  # none, or several
    OTHER_OPCODE = 7  # NOTIFY, UPDATE, ...


class Questions(NamedTuple):
    """Of n messages. Where reason is not TAKEN, only id, bits and questions are good, and if the header is cut not even they.

    reason: Reason (n,), u1; id: (n,), u2; bits: the header's third and fourth byte (n,), u2; questions: QDCOUNT (n,), u2;
    qtype: (n,), u2; hash: of name (in lower case), type and class (n,), u8; labels: names in lower case with dots between labels
    (n, w), u1, the first column empty, zeros behind; size: bytes of each so (n,), i8; odd: it has bytes beyond those of host
    names (n,), bool; dots: where the dots between labels are if any name is odd, else empty (n or 0, w), bool.
    """

    reason: NDArray[np.uint8]
    id: NDArray[np.uint16]
    bits: NDArray[np.uint16]
    questions: NDArray[np.uint16]
    qtype: NDArray[np.uint16]
    hash: NDArray[np.uint64]
    labels: NDArray[np.uint8]
    size: NDArray[np.int64]
    odd: NDArray[np.bool_]
    dots: NDArray[np.bool_]

    def chosen(self, which: NDArray[np.int64]) -> Questions:
        """Some of them, by index."""
        columns: tuple[NDArray[Any], ...] = self
        return Questions(*(column.take(which, axis=0) if len(column) else column for column in columns))

    def texts(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Names as they are stored (n, TEXT_BYTES), u1: dotted, escaped as in RFC 1035, 5.1; and which did not fit."""
        texts = np.zeros((len(self.labels), TEXT_BYTES), np.uint8)
        kept = min(self.labels.shape[1] - 1, TEXT_BYTES)
        texts[:, :kept] = self.labels[:, 1 : 1 + kept]
        cut = self.size > TEXT_BYTES
        if len(self.dots):
            odd = self.odd.nonzero()[0]
            texts[odd], cut[odd] = _escaped(self.labels[odd, 1:], self.dots[odd, 1:], self.size[odd])
        return texts, cut


def read(text: NDArray[np.uint8], captured: NDArray[np.uint16], length: NDArray[np.uint32]) -> Questions:
    """Questions of messages: text (n, w), of which captured (n,) bytes are there; length: of the whole messages (n,)."""
    limit = np.minimum(np.minimum(captured, length), min(text.shape[1], QUESTION_END)).astype(np.int64)
    known = int(limit.max(initial=0))
    # A zero ends what is known of each. Behind all is room for type and class, and for words of 8 bytes.
    raw = np.zeros((len(text), max(known, HEADER) + ROOM), np.uint8)
    raw[:, :known] = text[:, :known]
    headless = limit < HEADER
    if any_of(headless):
        raw[headless] = 0
    begin = np.arange(0, raw.size, raw.shape[1])
    ends = begin + np.maximum(limit, HEADER)
    raw.reshape(-1)[ends] = 0
    columns = (np.ndarray(len(raw), ">u2", raw, at, (raw.shape[1],)) for at in (0, 2, 4))
    identity, bits, questions = (column.astype(np.uint16) for column in columns)
    reason, size, places, rows = _walk(raw, begin, ends)
    _judge(reason, size, (bits, questions), limit, length)
    size[reason != Reason.TAKEN] = 0
    names = _names(raw, size)
    # Four bytes from each place on: type and class.
    fours = np.ndarray((raw.size - 3,), ">u4", raw, strides=(1,))
    asked = fours[begin + (size + HEADER)].astype(np.uint32)
    hashes = _hash(names, asked)
    here = places <= (begin + (HEADER - 2) + size).take(rows)  # the root's zero, and what a bad name had, are no dots
    separators = (places - rows * (raw.shape[1] - names.shape[1]) - HEADER)[here]
    labels, odd, dots = _labels(names, size, separators)
    return Questions(reason, identity, bits, questions, (asked >> _TYPE).astype(np.uint16), hashes, labels, size - 2, odd, dots)


def _walk(
    raw: NDArray[np.uint8], begin: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """From label to label, all names at once: at most 130 steps, since each goes on by two bytes, up to a zero at `ends` (n,).

    begin, ends: flat indices (n,). Reasons (n,); bytes of each name with its root (n,), 0 for those without an end; of the later
    length bytes flat indices and names.
    """
    flat, width = raw.reshape(-1), raw.shape[1]
    reason, size = np.zeros(len(raw), np.uint8), np.zeros(len(raw), np.int64)
    going, at, end = np.arange(len(raw)), begin + HEADER, ends
    places, names = [at[:0]], [going[:0]]
    while going.size:
        label = flat.take(at)
        stop = label - _FIRST >= _LONGEST  # 0, or a type of label that is none
        if any_of(stop):
            done = stop.nonzero()[0]
            rows, last = going[done], label[done]
            size[rows] = np.where(last == 0, at[done] - rows * width - HEADER + 1, 0)
            reason[rows[last >= 0x40]] = Reason.MALFORMED_LABEL
            reason[rows[last >= 0xC0]] = Reason.MALFORMED_POINTER
            on = (~stop).nonzero()[0]
            going, at, end, label = going[on], at[on], end[on], label[on]
        at = at + label
        at += 1
        np.minimum(at, end, out=at)
        places.append(at)
        names.append(going)
    return reason, size, np.concatenate(places), np.concatenate(names)


def _judge(
    reason: NDArray[np.uint8],
    size: NDArray[np.int64],
    header: tuple[NDArray[np.uint16], NDArray[np.uint16]],
    limit: NDArray[np.int64],
    length: NDArray[np.uint32],
) -> None:
    """Change reasons: not a query and not one question go before a bad name, that before a question that does not end here.

    header: bits and questions.
    """
    bits, questions = header
    taken = reason == Reason.TAKEN
    short = taken & (size + (HEADER + 4) > limit)
    if any_of(short):
        reason[short] = np.where(limit[short] < length[short], Reason.QUESTION_CUT, Reason.MALFORMED_SHORT)
    reason[taken & (size > NAME)] = Reason.MALFORMED_NAME
    headed = limit >= HEADER
    reason[headed & (questions != 1)] = Reason.QUESTION_COUNT
    reason[headed & (bits & 0x7800 != 0)] = Reason.OTHER_OPCODE


def _names(raw: NDArray[np.uint8], size: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Names on the wire in lower case, zeros behind, as wide as the longest needs, in whole words; u1 (n, 8k)."""
    width = min(256, max(8, -(-int(size.max(initial=0)) // 8) * 8), (raw.shape[1] - HEADER) // 8 * 8)
    names = raw[:, HEADER : HEADER + width].copy()
    # Length bytes are no letters: they are below 64. Multiplied, for NumPy shifts bytes twenty times as slowly.
    names |= (names - _CAPITAL < _LETTERS).view(np.uint8) * _TO_SMALL
    names *= before(size, width)
    return names


def _hash(names: NDArray[np.uint8], asked: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Keyed hash of name, and type and class; each word is mixed before they are added, so that no two bytes cancel out."""
    words = np.ascontiguousarray(names.view(np.uint64).T)  # so that NumPy has long rows to go through
    salts, seeds, others = (each[: len(words), None] for each in (_SALTS, _SEEDS, _OTHER_SEEDS))
    mixed = (words ^ salts) * seeds
    mixed ^= mixed >> _HALF
    mixed *= others
    mixed ^= mixed >> _NEARLY_HALF
    # Words behind a name are zeros: they must count for nothing, for how many there are is the batch's business.
    mixed *= words != 0
    hashes: NDArray[np.uint64] = np.add.reduce(mixed)
    hashes += asked * _SEEDS[-1]
    return hashes


def _labels(
    names: NDArray[np.uint8], size: NDArray[np.int64], at: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Questions.labels, odd and dots; names as _names gives them, at: flat indices of what separates labels."""
    labels = names.copy()
    labels[:, 0] = 0
    flat = labels.reshape(-1)
    flat[at] = _PLAIN
    odd = _odd(labels, size - 2)
    flat[at] = _DOT
    dots = np.zeros((len(names) if any_of(odd) else 0, names.shape[1]), bool)
    if len(dots):
        dots.reshape(-1)[at] = True
    return labels, odd, dots


def _odd(labels: NDArray[np.uint8], count: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which have bytes beyond those of host names (n,). labels: zeros but for count (n,) bytes."""
    usual = labels - _SMALL < _LETTERS
    usual |= labels - _ZERO < _DIGITS
    usual |= labels == _PLAIN
    usual |= labels == _UNDERSCORE
    words = usual.view(np.uint64)
    found = np.einsum("ij->i", words)
    # Up to 32 words of bytes that are 0 or 1: their sums fit into a byte each, and those into the uppermost one, less 256.
    total = (found * _EACH_BYTE) >> _TO_LAST
    odd: NDArray[np.bool_] = total.astype(np.uint8) != np.maximum(count, 0).astype(np.uint8)
    return odd


def _escaped(
    labels: NDArray[np.uint8], separators: NDArray[np.bool_], count: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Texts of names (m, w) with bytes to be escaped: each byte goes where the widths of those before it put it."""
    widths = np.where(separators, 1, _WIDTHS.take(labels)) * (np.arange(labels.shape[1]) < count[:, None])
    ends = np.cumsum(widths, axis=1, dtype=np.int64)
    texts = np.zeros((len(labels), TEXT_BYTES + 4), np.uint8)

    def put(where: NDArray[np.bool_], behind: int, values: NDArray[np.uint8] | int) -> None:
        rows, columns = where.nonzero()
        at = (ends - widths)[rows, columns] + behind
        fits = at < TEXT_BYTES
        texts[rows[fits], at[fits]] = values if isinstance(values, int) else values[rows, columns][fits]

    put(widths > 1, 0, ord("\\"))
    put(widths == 1, 0, labels)
    put(widths == 2, 1, labels)
    for behind, unit in ((1, 100), (2, 10), (3, 1)):
        put(widths == 4, behind, labels // np.uint8(unit) % np.uint8(10) + np.uint8(48))
    return texts[:, :TEXT_BYTES], ends[:, -1] > TEXT_BYTES
