"""Numbers of endpoints: handed out, kept while anything uses them, and given again only long after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flows.agent.enrich.entities import Entity

# Inside of the enricher: "this cgroup tells nothing, go by the address". Never leaves resolve().
BY_ADDRESS: Final = 1


class Numbering:
    """Entity to number and back. 0 is nobody, BY_ADDRESS is taken, the rest are entities.

    numbers are dense, so that columns can be indexed by them: a freed number is given to another entity.
    """

    def __init__(self) -> None:
        self._entities: list[Entity | None] = [None, None]
        self._numbers: dict[Entity, int] = {}
        self._free: list[int] = []
        self._unused: set[int] = set()

    def __len__(self) -> int:
        """One more than the highest number ever given."""
        return len(self._entities)

    def number(self, entity: Entity) -> int:
        """Give the entity's number, a new one if it has none."""
        number = self._numbers.get(entity, 0)
        if not number:
            if self._free:
                number = self._free.pop()
                self._entities[number] = entity
            else:
                number = len(self._entities)
                self._entities.append(entity)
            self._numbers[entity] = number
        self._unused.discard(number)
        return number

    def known(self, entity: Entity) -> int:
        """Give the entity's number, 0 if it has none."""
        return self._numbers.get(entity, 0)

    def entity(self, number: int) -> Entity | None:
        """Give back whom a number stands for; None for 0 and for numbers that were freed."""
        return self._entities[number] if 0 <= number < len(self._entities) else None

    def retain(self, in_use: NDArray[np.uint32], keep: Callable[[int, Entity], bool]) -> list[tuple[int, Entity]]:
        """Free what is neither in use now nor was at the call before, and that keep() has no need of either.

        Twice, because a number may be on its way from resolve() into the store while the store counts.
        """
        used = np.zeros(len(self._entities), bool)
        used[in_use[in_use < used.size]] = True
        idle = {number for number in (~used).nonzero()[0].tolist() if self._needless(number, keep)}
        freed = [(number, entity) for number in idle & self._unused if (entity := self._entities[number]) is not None]
        for number, entity in freed:
            del self._numbers[entity]
            self._entities[number] = None
            self._free.append(number)
        self._unused = idle - self._unused
        return freed

    def _needless(self, number: int, keep: Callable[[int, Entity], bool]) -> bool:
        entity = self._entities[number]
        return entity is not None and not keep(number, entity)
