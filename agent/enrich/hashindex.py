"""Hash index: batches of fixed-width keys to u32 numbers, with a bounded number of probes and no Python per
key.

Open addressing by cuckoo hashing: every key lives in one of two slots of one table, so a lookup is at most
two gathers whatever the load. The hash is keyed with random numbers, so that nobody outside can choose
addresses that collide.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Slots per key at least: above half full cuckoo insertions begin to fail, and at a third most keys sit in
# their first slot, which saves the second probe.
SPARSITY = 3
# Rounds of eviction before the table is taken to be unlucky: rebuilt with another seed, twice as large every
# other time.
ROUNDS = 64
_HALF, _NEARLY_HALF = np.array(32, np.uint64), np.array(29, np.uint64)


class HashIndex:
    """Maps keys of `words` 64-bit words to numbers above 0. Not safe for concurrent use."""

    def __init__(self, words: int, capacity: int = 1024) -> None:
        self._words = words
        self._count = 0
        self._allocate(1 << max(4, (capacity * SPARSITY - 1).bit_length()))

    def __len__(self) -> int:
        return self._count

    def lookup(self, *words: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Give the number of each key, 0 where unknown.

        words: the keys as one array (n,) per 64-bit word, any stride. Result: (n,) uint32.
        """
        hashes = self._hash(words)
        slots = (hashes & self._mask).view(np.int64)
        numbers = self._numbers.take(slots)
        missed = self._keys[0].take(slots) != words[0]
        for column, word in zip(self._keys[1:], words[1:], strict=True):
            missed |= column.take(slots) != word
        again = missed.nonzero()[0]
        if again.size:
            rest = tuple(word[again] for word in words)
            slots = self._second(hashes[again], slots[again])
            numbers[again] = np.where(self._holds(slots, rest), self._numbers.take(slots), 0)
        return numbers

    def insert(self, keys: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> None:
        """Set the number of each key. keys: (n, words) uint64, the last of equal keys wins; numbers: (n,),
        none 0.
        """
        last = np.unique(keys[::-1], axis=0, return_index=True)[1]
        keys, numbers = keys[::-1][last], numbers[::-1][last].astype(np.uint32)
        slots, found = self._find(keys)
        self._numbers[slots[found]] = numbers[found]
        keys, numbers = keys[~found], numbers[~found]
        self._count += len(keys)
        if self._count * SPARSITY > self._numbers.size:
            self._rebuild(self._count, keys, numbers)
        elif not self._place(keys, numbers):
            self._rebuild(self._count, *self._unplaced)

    def remove(self, keys: NDArray[np.uint64]) -> None:
        """Forget keys (n, words); unknown ones are ignored."""
        slots, found = self._find(np.unique(keys, axis=0))
        self._numbers[slots[found]] = 0
        for column in self._keys:
            column[slots[found]] = self._salt
        self._count -= int(found.sum())

    def items(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """All keys (n, words) and their numbers (n,), in no order."""
        used = self._numbers.nonzero()[0]
        return np.stack([column[used] for column in self._keys], axis=1), self._numbers[used]

    def _allocate(self, size: int) -> None:
        # Arrays of one number each: NumPy makes them of numbers, each time anew.
        self._seeds = [np.array(secrets.randbits(64) | 1, np.uint64) for _ in range(self._words + 1)]
        self._salt = np.array(secrets.randbits(64), np.uint64)
        self._mask = np.array(size - 1, np.uint64)
        # Empty slots hold a random word, not 0: the key 0 must not seem to be found, unnumbered, in an empty
        # slot.
        self._keys = [np.full(size, self._salt) for _ in range(self._words)]
        self._numbers = np.zeros(size, np.uint32)

    def _hash(self, words: tuple[NDArray[np.uint64], ...]) -> NDArray[np.uint64]:
        """Mix the words with odd random multipliers and fold the high half in: both halves are used as
        slots.
        """
        mixed = (words[0] ^ self._salt) * self._seeds[0]
        for word, seed in zip(words[1:], self._seeds[1:-1], strict=True):
            mixed ^= mixed >> _HALF
            mixed += word * seed
        mixed ^= mixed >> _HALF
        mixed *= self._seeds[-1]
        mixed ^= mixed >> _NEARLY_HALF
        return mixed

    def _second(self, hashes: NDArray[np.uint64], first: NDArray[np.int64]) -> NDArray[np.int64]:
        slots = ((hashes >> _HALF) & self._mask).view(np.int64)
        slots[slots == first] ^= 1
        return slots

    def _slots(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        hashes = self._hash(tuple(keys.T))
        first = (hashes & self._mask).view(np.int64)
        return first, self._second(hashes, first)

    def _holds(self, slots: NDArray[np.int64], words: tuple[NDArray[np.uint64], ...]) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self._numbers.take(slots) != 0
        for column, word in zip(self._keys, words, strict=True):
            same &= column.take(slots) == word
        return same

    def _find(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        first, second = self._slots(keys)
        words = tuple(keys.T)
        here = self._holds(first, words)
        return np.where(here, first, second), here | self._holds(second, words)

    def _place(self, keys: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> bool:
        """Put new keys in: each round all pending keys take a slot, and those who had it are pending in the
        next.
        """
        slots = self._slots(keys)[0]
        for _ in range(ROUNDS):
            if not keys.size:
                return True
            winners = np.unique(slots, return_index=True)[1]
            losers = np.ones(len(keys), bool)
            losers[winners] = False
            taken = slots[winners]
            evicted = taken[self._numbers[taken] != 0]
            old_keys = np.stack([column[evicted] for column in self._keys], axis=1)
            old_numbers = self._numbers[evicted]
            self._write(taken, keys[winners], numbers[winners])
            keys, numbers = (
                np.concatenate((keys[losers], old_keys)),
                np.concatenate((numbers[losers], old_numbers)),
            )
            left = np.concatenate((slots[losers], evicted))
            first, second = self._slots(keys)
            slots = np.where(left == first, second, first)
        self._unplaced = keys, numbers
        return not keys.size

    def _write(self, slots: NDArray[np.int64], keys: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> None:
        for column, word in zip(self._keys, keys.T, strict=True):
            column[slots] = word
        self._numbers[slots] = numbers

    def _rebuild(self, count: int, keys: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> None:
        old_keys, old_numbers = self.items()
        keys, numbers = np.concatenate((old_keys, keys)), np.concatenate((old_numbers, numbers))
        # Twice what is needed now, so that growing one by one costs a rebuild only at each doubling.
        size = max(16, 1 << (count * SPARSITY * 2 - 1).bit_length()) if count else 16
        for attempt in range(16):
            self._allocate(size << (attempt // 2))
            if self._place(keys, numbers):
                return
        raise RuntimeError(f"hash index: {count} keys could not be placed in {size} slots")  # pragma: no cover
