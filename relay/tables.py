"""Tables: ends and nodes of one answer by number, begun anew when they have grown too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.flow.batch import FRESH_ENDS, BatchReader
from flows.flow.ends import EndTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flows.relay.merge import Lane

MOST_ENDS: Final = 2 * FRESH_ENDS
"""Short-lived processes are ends of their own, so that a stream that is followed for days meets ever new ones. 500 bytes each."""


class Tables:
    """What the numbers in one answer's batches are of; `ends` and `nodes` are others after renew()."""

    def __init__(self, most_ends: int = MOST_ENDS) -> None:
        self.ends, self.nodes = EndTable(), list[str]()
        self._most = self._next = most_ends

    @property
    def full(self) -> bool:
        """Whether it is time to renew them."""
        return len(self.ends) > self._next

    def node(self, name: str) -> int:
        """A node's number; a new one if it was not met before."""
        if name not in self.nodes:
            self.nodes.append(name)
        return self.nodes.index(name)

    def renew(self, readers: Iterable[BatchReader], lanes: Iterable[Lane]) -> None:
        """Begin new tables, with what the agents' streams still refer to and what waiting flows need."""
        ends, nodes = EndTable(), list(self.nodes)
        for reader in readers:
            reader.change_tables(ends, nodes)
        by_number = _Numbers(len(self.ends), lambda number: ends.number(self.ends[number].raw))
        for lane in lanes:
            lane.change_ends(by_number)
        self.ends, self.nodes = ends, nodes
        self._next = max(self._most, 2 * len(ends))


class _Numbers:
    """New numbers by old, each found once."""

    def __init__(self, size: int, find: Callable[[int], int]) -> None:
        self._new, self._find = np.full(size, -1), find

    def __call__(self, old: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        missing = np.unique(old[self._new[old] < 0])
        self._new[missing] = [self._find(number) for number in missing.tolist()]
        return self._new[old].astype(np.uint32)
