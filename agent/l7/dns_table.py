"""A bounded table of entries in the order of their keys: whole batches are found, put in and taken out at once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.masks import number

if TYPE_CHECKING:
    from numpy.typing import NDArray


BUCKETS: Final = 1 << 16
_UPPER: Final = number(48, np.uint64)


def joined(first: NDArray[np.void], second: NDArray[np.void]) -> NDArray[np.void]:
    """Both, (n + m,), of one dtype; a new array. As bytes: np.concatenate compares structured dtypes field by field."""
    plain = _bytes(second.dtype.itemsize)
    both: NDArray[np.void] = np.concatenate((first.view(plain), second.view(plain))).view(second.dtype)
    return both


def taken(rows: NDArray[np.void], at: NDArray[np.int64]) -> NDArray[np.void]:
    """rows[at], as bytes; rows.take(at) would first copy all of them where they do not lie one after the other."""
    chosen: NDArray[np.void] = rows.view(_bytes(rows.dtype.itemsize))[at].view(rows.dtype)
    return chosen


def put(rows: NDArray[np.void], at: NDArray[np.int64] | slice, values: NDArray[np.void]) -> None:
    """rows[at] = values, as bytes. NumPy would go through structures field by field; take() does not."""
    plain = _bytes(rows.dtype.itemsize)
    rows.view(plain)[at] = values.view(plain)


@lru_cache
def _bytes(size: int) -> np.dtype[np.void]:
    return np.dtype((np.void, size))


def buckets(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The upper 16 bits of keys, which are hashes: equal ones for equal keys, and seldom for others."""
    places: NDArray[np.int64] = (keys >> _UPPER).view(np.int64)
    return places


class SortedTable:
    """Entries by key, u8. Equal keys stand in the order in which they came. Not safe for concurrent use.

    keys: (n,), u8, ascending; rows: (n,), the entries' structured dtype, in the same order.
    """

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self.keys = np.zeros(0, np.uint64)
        self.rows = np.zeros(0, dtype)
        self._buckets = np.zeros(BUCKETS, bool)  # where keys are: nearly all keys that are asked for are not there

    def __len__(self) -> int:
        return len(self.keys)

    def has(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of the keys (k,) are there, bool (k,)."""
        found = self._buckets.take(buckets(keys))
        maybe = found.nonzero()[0]
        if maybe.size:
            at = np.searchsorted(self.keys, keys[maybe], "left")
            found[maybe] = self.keys[np.minimum(at, len(self.keys) - 1)] == keys[maybe]
        return found

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Indices of all entries that have one of the keys (k,), each once, ascending."""
        keys = keys[self.has(keys)]
        if not keys.size:
            return np.zeros(0, np.int64)
        left, right = np.searchsorted(self.keys, keys, "left"), np.searchsorted(self.keys, keys, "right")
        counts = right - left
        starts = np.repeat(left - (np.cumsum(counts) - counts), counts)
        here = np.zeros(len(self.keys), bool)
        here[starts + np.arange(starts.size)] = True
        return here.nonzero()[0]

    def insert(self, keys: NDArray[np.uint64], rows: NDArray[np.void]) -> None:
        """Put in k entries, each behind those with the same key."""
        if not keys.size:
            return
        order = np.argsort(keys, kind="stable")
        keys, rows = keys[order], rows.take(order)
        at = np.searchsorted(self.keys, keys, "right") + np.arange(keys.size)
        kept = np.ones(len(self.keys) + keys.size, bool)
        kept[at] = False
        old_keys, old_rows = self.keys, self.rows
        self.keys, self.rows = np.empty(kept.size, np.uint64), np.empty(kept.size, old_rows.dtype)
        self.keys[at], self.keys[kept] = keys, old_keys
        put(self.rows, at, rows)
        put(self.rows, kept.nonzero()[0], old_rows)
        self._buckets[buckets(keys)] = True

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Take out where mask (n,) is False."""
        self.keys, self.rows = self.keys[mask], self.rows.take(mask.nonzero()[0])
        self._buckets[:] = False
        self._buckets[buckets(self.keys)] = True
