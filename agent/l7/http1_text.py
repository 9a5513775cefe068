"""Text of many payloads as one array of bytes, of which parts are read wherever they lie in their payloads."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from flows.agent.l7.masks import all_of, any_of, before, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAD: Final = 256  # bytes after the last payload, so that a window may begin at its last byte
LF, CR, SPACE, TAB = (number(byte, np.uint8) for byte in b"\n\r \t")
_ONE, _TWO = number(1, np.int64), number(2, np.int64)


def word(text: bytes) -> NDArray[np.uint64]:
    """Up to eight bytes as `Text.words` has them."""
    return number(int.from_bytes(text, "little"), np.uint64)


_CR_LF: Final = word(b"\r\n")
_TWO_BYTES: Final = word(b"\xff\xff")


def firsts(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Where in ascending numbers (k,) each one is for the first time."""
    new = np.ones(len(rows), bool)
    np.not_equal(rows[1:], rows[:-1], out=new[1:])
    return new.nonzero()[0]


@lru_cache
def name_words(name: bytes) -> list[tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]]:
    """How a header's name with its colon is found: per eight bytes what to set (the case of letters), to look at, and to find."""
    text = name.lower() + b":"
    parts = [text[at : at + 8] for at in range(0, len(text), 8)]
    return [
        (word(bytes(0x20 * bytes([byte]).isalpha() for byte in part)), word(b"\xff" * len(part)), word(part)) for part in parts
    ]


class Lines(NamedTuple):
    """Ends of lines, by payload and place. at: flat index of the line feed; row: its payload; both (k,)."""

    at: NDArray[np.int64]
    row: NDArray[Any]


class Values(NamedTuple):
    """Of headers. text: (k, size), zeros after the ends; lengths: (k,), also beyond size; whole: the end was captured (k,)."""

    text: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    whole: NDArray[np.bool_]


class Text:
    """n payloads' text. begin, end: flat indices of each one's first byte and of the byte after its last (n,)."""

    def __init__(self, flat: NDArray[np.uint8], width: int, captured: NDArray[np.uint16]) -> None:
        """flat: n rows of so many bytes, and at least PAD more, which become zero; captured: bytes of each that are text (n,)."""
        count = len(captured)
        self.flat, self.width = flat, width
        self.flat[count * width :] = 0
        self.begin = np.arange(0, count * width, width)
        self.end = self.begin + np.minimum(captured, width)
        # Eight bytes from each place on, little-endian: most questions about a text are answered by comparing one of these.
        self.words = np.ndarray((self.flat.size - 7,), "<u8", self.flat, strides=(1,))
        self._headers: dict[bytes, NDArray[np.int64]] = {}

    @classmethod
    def of(cls, matrix: NDArray[np.uint8], captured: NDArray[np.uint16]) -> Text:
        """A copy of texts (n, w), any stride, of which is kept what the longest needs."""
        count, width = len(captured), max(1, min(matrix.shape[1], int(captured.max(initial=0))))
        flat = np.empty(count * width + PAD, np.uint8)
        flat[: count * width].reshape(count, width)[:] = matrix[:, :width]
        return cls(flat, width, captured)

    @classmethod
    def gathered(cls, texts: NDArray[np.void], rows: NDArray[np.int64], captured: NDArray[np.uint16]) -> Text:
        """A copy of some of texts, bytes of any stride; captured: of those (n,)."""
        width = texts.dtype.itemsize
        more = np.zeros(-(-PAD // width), np.int64)
        return cls(texts[np.concatenate((rows, more))].view(np.uint8), width, captured)

    def __len__(self) -> int:
        return len(self.begin)

    def windows(self, at: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
        """Copies of `size` bytes, at most PAD, from flat indices (k,) on: (k, size); beyond a payload's end it is anything."""
        views = np.ndarray((self.flat.size - size + 1,), f"V{size}", self.flat, strides=(1,))
        return views[at].view(np.uint8).reshape(-1, size)

    @property
    def matrix(self) -> NDArray[np.uint8]:
        """The payloads as they came (n, w), a view."""
        return self.flat[: len(self) * self.width].reshape(len(self), self.width)

    def rest(self, rows: NDArray[np.int64], at: NDArray[np.int64]) -> Text:
        """What follows flat indices (k,) in the given payloads (k,), as a text of its own."""
        column = np.arange(self.width)
        matrix = self.flat[np.minimum(at[:, None] + column, self.flat.size - 1)]
        return Text.of(matrix, (self.end[rows] - at).astype(np.uint16))

    def piece(self, begin: int, end: int) -> bytes:
        """Bytes between flat indices."""
        return self.flat[begin:end].tobytes()

    @cached_property
    def lines(self) -> Lines:
        """All line feeds, in order."""
        at = (self.flat == LF).nonzero()[0]  # none is in what is behind the last one: zeros
        row = at.astype(np.uint32) // np.uint32(self.width)  # of 32 bits: four times as fast
        within = at < self.end.take(row)
        return Lines(at, row) if all_of(within) else Lines(at[within], row[within])

    @cached_property
    def line_words(self) -> NDArray[np.uint64]:
        """The eight bytes after each line feed (k,)."""
        words: NDArray[np.uint64] = self.words[self.lines.at + _ONE]
        return words

    @cached_property
    def first_line(self) -> NDArray[np.int64]:
        """Flat index of each payload's first line feed, its end if it has none (n,)."""
        at, row = self.lines
        first: NDArray[np.int64] = self.end.copy()
        which = firsts(row)
        first[row[which]] = at[which]
        return first

    @cached_property
    def body(self) -> NDArray[np.int64]:
        """Flat index of the first byte after the empty line that ends the head, -1 where that was not captured (n,)."""
        at, row = self.lines
        # What begins with a line feed, or with what may come before it: few lines do.
        empty = (self.line_words.view(np.uint8)[::8] <= CR).nonzero()[0]
        after, at, row = self.line_words[empty], at[empty], row[empty]
        both = (after & _TWO_BYTES) == _CR_LF
        begins = at + _TWO
        begins += both
        ends = both | (after.view(np.uint8)[::8] == LF)
        ends &= begins <= self.end[row]
        body = np.full(len(self), -1)
        row, begins = row[ends], begins[ends]
        which = firsts(row)
        body[row[which]] = begins[which]
        return body

    @cached_property
    def head_end(self) -> NDArray[np.int64]:
        """Flat index at which the captured part of the head ends (n,)."""
        return np.where(self.body < 0, self.end, self.body)

    def header(self, name: bytes) -> NDArray[np.int64]:
        """Index into `lines` of the line feed before each head's first header of this name, -1 where there is none (n,)."""
        if name not in self._headers:
            self._headers[name] = self._header(name)
        return self._headers[name]

    def _header(self, name: bytes) -> NDArray[np.int64]:
        at, row = self.lines
        (case, mask, wanted), *others = name_words(name)
        left = (((self.line_words | case) & mask) == wanted).nonzero()[0]
        for place, (case, mask, wanted) in enumerate(others, 1):
            begin = np.minimum(at[left] + (1 + 8 * place), self.words.size - 1)
            left = left[((self.words[begin] | case) & mask) == wanted]
        lines = np.full(len(self), -1)
        if not left.size:
            return lines
        left = left[at[left] + (len(name) + 2) <= self.head_end[row[left]]]
        row = row[left]
        which = firsts(row)
        lines[row[which]] = left[which]
        return lines

    def line_end(self, line: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where lines after the given line feeds (k,) end, without line end; and whether that was captured, bool (k,)."""
        at, row = self.lines
        here = row[line]
        following = np.minimum(line + _ONE, len(at) - 1)
        whole = (following > line) & (row[following] == here)
        end = at[following]
        if not all_of(whole):
            end = np.where(whole, end, self.end[here])
        return end - (whole & (self.flat[end - _ONE] == CR)), whole

    def values(self, line: NDArray[np.int64], name: bytes, size: int) -> Values:
        """Values of headers of this name, by the line feeds before them (k,)."""
        begin, end, whole = self.extents(line, name)
        text, lengths = self.windows(begin, size), end - begin
        text *= before(lengths, size)
        return Values(text, lengths, whole)

    def extents(self, line: NDArray[np.int64], name: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Where values begin and end, and whether that was captured. Blanks around them are left out, up to 16."""
        end, whole = self.line_end(line)
        begin = self.lines.at[line] + (len(name) + 2)
        begin = np.minimum(begin + self._blanks(begin), end)
        for _ in range(16):
            last = self.flat[end - _ONE]
            trailing = (last == SPACE) | (last == TAB)
            if not any_of(trailing):
                break
            trailing &= end > begin
            end = end - trailing
        return begin, end, whole

    def _blanks(self, at: NDArray[np.int64]) -> NDArray[np.int64] | int:
        """How many there are from flat indices (k,) on, 0 if they are 16 or more."""
        first, second = self.words[at].view(np.uint8).reshape(-1, 8)[:, :2].T
        if all_of((first == SPACE) & (second > SPACE)):
            return 1  # as nearly everybody writes them
        text = self.windows(at, 16)
        blanks: NDArray[np.int64] = ((text != SPACE) & (text != TAB)).argmax(axis=1)
        return blanks
