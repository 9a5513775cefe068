"""Process names, each stored once: 16 bytes in a record become a number in a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flows.agent.enrich.hashindex import HashIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Names are at most 15 bytes of what programs call themselves; one that makes up a new one for each thread must not fill memory.
MAX_NAMES = 65_536


class ProcessNames:
    """Numbers for names; 0 is the empty one."""

    def __init__(self) -> None:
        """Start with the empty name."""
        self._index = HashIndex(2)
        self._names = [""]

    def __getitem__(self, number: int) -> str:
        """The name of a number."""
        return self._names[number]

    def numbers(self, comm: NDArray[np.bytes_]) -> NDArray[np.uint32]:
        """Number of each name; comm: (n,) S16, result (n,) uint32."""
        words = np.ascontiguousarray(comm).view("<u8").reshape(-1, 2)
        numbers = self._index.lookup(words[:, 0], words[:, 1])
        unknown = (numbers == 0) & ((words[:, 0] | words[:, 1]) != 0)
        if np.count_nonzero(unknown):
            self._add(np.unique(words[unknown], axis=0))
            numbers = self._index.lookup(words[:, 0], words[:, 1])
        return numbers

    def _add(self, words: NDArray[np.uint64]) -> None:
        words = words[: MAX_NAMES - len(self._names)]  # beyond: number 0, no name
        first = len(self._names)
        self._names += [row.tobytes().split(b"\0", 1)[0].decode(errors="replace") for row in words]
        if len(words):
            self._index.insert(words, np.arange(first, len(self._names), dtype=np.uint32))
