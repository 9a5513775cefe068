"""Keys: which of many hashes are among many others, without sorting either: eight times as fast as a binary search for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.masks import all_of, any_of, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPARSITY_LOG2: Final = 3  # slots per key: one key in 16 shares its slot
_LEAST_LOG2: Final = 8
_SHIFTS: Final = [number(bits, np.uint64) for bits in range(65)]


class Keys:
    """n hashes, u8, and where each one is. Of others that share a slot one is found in the table, the rest by binary search."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        """keys: (n,), not changed afterwards."""
        self.keys = keys
        bits = max(_LEAST_LOG2, len(keys).bit_length() + _SPARSITY_LOG2)
        self._shift = _SHIFTS[64 - bits]
        self._table = np.zeros(1 << bits, np.int32)
        slots, places = self._slots(keys), np.arange(len(keys), dtype=np.int32)
        self._table[slots] = places
        self._winners = winners = self._table[slots]
        others = (winners != places).nonzero()[0]
        differ = keys[winners[others]] != keys[others]
        self.twice = not all_of(differ)  # whether any key is there more than once
        others = others[differ]
        self._others = others = others[keys[others].argsort()]
        self._other_keys = again = keys[others]
        self.twice |= any_of(again[1:] == again[:-1])

    def equal(self) -> NDArray[np.int64]:
        """Of each key one that is equal, the same for all that are (n,)."""
        at = self._winners.astype(np.int64)
        if self._others.size:
            at[self._others] = self._others[self._other_keys.searchsorted(self._other_keys)]
        return at

    def find(self, wanted: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where each of k hashes is (k,), and whether it is; any of equal ones."""
        if not len(self.keys):
            return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
        slots = self._slots(wanted)
        at = self._table[slots].astype(np.int64)
        found = self.keys[at] == wanted
        if self._others.size and not all_of(found):
            left = (~found).nonzero()[0]
            wanted = wanted[left]
            place = np.minimum(self._other_keys.searchsorted(wanted), len(self._others) - 1)
            at[left], found[left] = self._others[place], self._other_keys[place] == wanted
        return at, found

    def _slots(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        slots: NDArray[np.int64] = (keys >> self._shift).view(np.int64)
        return slots
