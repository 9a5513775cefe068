"""Names by number, so that rows of flows can hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

NAMES: Final = 65_536  # with number 0, which is none; 10 MB if all are as long as the store keeps them


class NameTable:
    """Numbers from 1 on. Only the ring's reader adds and frees, any thread may ask for a name.

    overflow: how often a name found no number, and so is not told.
    """

    def __init__(self, capacity: int = NAMES) -> None:
        self._capacity = capacity
        self._names: list[str] = [""]
        self._numbers: dict[str, int] = {}
        self._free: list[int] = []
        self._unused: set[int] = set()
        self.overflow = 0

    def __len__(self) -> int:
        """One more than the highest number ever given."""
        return len(self._names)

    def number(self, name: str) -> int:
        """Give the name's number, a new one if it has none; 0 if there are too many."""
        number = self._numbers.get(name, 0)
        if number or not name:
            self._unused.discard(number)
            return number
        if self._free:
            number = self._free.pop()
            self._names[number] = name
        elif len(self._names) < self._capacity:
            number = len(self._names)
            self._names.append(name)
        else:
            self.overflow += 1
            return 0
        self._numbers[name] = number
        return number

    def name(self, number: int) -> str:
        """Give a number's name; empty for 0 and for what was freed."""
        names = self._names
        return names[number] if 0 <= number < len(names) else ""

    def retain(self, in_use: Iterable[NDArray[np.uint32]]) -> int:
        """Free names that none of the arrays has, now and at the call before; how many were freed.

        Twice, because a number may be on its way into the store while the store counts.
        """
        used = np.zeros(len(self._names), bool)
        used[0] = True
        for numbers in in_use:
            used[numbers[numbers < used.size]] = True
        idle = {number for number in (~used).nonzero()[0].tolist() if self._names[number]}
        freed = idle & self._unused
        for number in freed:
            del self._numbers[self._names[number]]
            self._names[number] = ""
            self._free.append(number)
        self._unused = idle - freed
        return len(freed)
