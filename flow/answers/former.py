"""Former: what was missing in answers that later ones do not make good, because those do not bring the same flows again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of one node; beyond that the oldest are taken for one that lasted from the first to the last.
MOST_FLAWS = 16
# No time is earlier, or later.
BEGINNING, END = -(1 << 63), (1 << 63) - 1


class Flaw(NamedTuple):
    """From when to when, ns since 1970, "not seen" means nothing at a node, and why."""

    begin: int
    end: int
    why: str

    def touches(self, from_ns: int, to_ns: int) -> bool:
        return self.begin <= to_ns and self.end >= from_ns


class Former:
    """Flaws by node."""

    def __init__(self) -> None:
        self._flaws: dict[str, list[Flaw]] = {}

    def keep(self, node: str, flaws: Iterable[Flaw]) -> None:
        """Some more of a node; times of which the same is said are put together."""
        for new in flaws:
            kept = self._flaws.setdefault(node, [])
            alike = next((at for at, old in enumerate(kept) if old.why == new.why and new.touches(old.begin, old.end)), None)
            if alike is not None:
                kept[alike] = _both(kept[alike], new)
                continue
            kept.append(new)
            if len(kept) > MOST_FLAWS:
                kept[:2] = [_both(*kept[:2])]

    def flaw(self, node: str, from_ns: int, to_ns: int) -> str:
        """Of a node in that time, or ""."""
        return next((each.why for each in self._flaws.get(node, ()) if each.touches(from_ns, to_ns)), "")


def _both(one: Flaw, other: Flaw) -> Flaw:
    return Flaw(min(one.begin, other.begin), max(one.end, other.end), one.why)
