"""Asker: the open lookups of one process that begin with the same label, found without looking at all of them for each query."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from flows.flow.answers.search import continues

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flows.flow.answers.lookup import Lookup, Try

    # Names in their order; whether it was found; types of the last name whose answer is final.
    Kind = tuple[tuple[str, ...], bool, frozenset[str]]


class Asker:
    """Lookups whose last answers are final are kept by what they have in common: most of them cannot go on for that alone."""

    def __init__(self) -> None:
        self._lookups: dict[Lookup, Kind | None] = {}  # in the order in which they began
        self._young: dict[Lookup, None] = {}  # an answer is missing, or is not final
        self._kinds: dict[Kind, list[Lookup]] = {}  # by their numbers
        self._latest = 0

    def __iter__(self) -> Iterator[Lookup]:
        return iter(self._lookups)

    def __len__(self) -> int:
        return len(self._lookups)

    def of(self, new: Try) -> Lookup | None:
        """The newest lookup that goes on with a query; None: none does."""
        if new.repetition or new.asked < self._latest:  # then any may
            return _newest(reversed(self._lookups), new)
        self._latest = new.asked
        self._ripen(new.asked)
        found = [_newest(sorted(self._young, key=_number, reverse=True), new)]
        found += [_newest(reversed(some), new) for kind, some in self._kinds.items() if _may_go_on(kind, new)]
        return max((each for each in found if each is not None), key=_number, default=None)

    def add(self, lookup: Lookup) -> None:
        """One that is new, or has one more query."""
        self._leave_kind(lookup)
        self._lookups[lookup] = None
        self._young[lookup] = None

    def remove(self, over: Iterable[Lookup]) -> None:
        """Those that have ended."""
        for lookup in over:
            self._leave_kind(lookup)
            self._young.pop(lookup, None)
            del self._lookups[lookup]

    def _ripen(self, now: int) -> None:
        for lookup in [each for each in self._young if each.final_ns is not None and each.final_ns <= now]:
            del self._young[lookup]
            kind = (tuple(lookup.names), lookup.found, lookup.last_types)
            self._lookups[lookup] = kind
            insort(self._kinds.setdefault(kind, []), lookup, key=_number)

    def _leave_kind(self, lookup: Lookup) -> None:
        if (kind := self._lookups.get(lookup)) is None:
            return
        alike = self._kinds[kind]
        del alike[bisect_left(alike, lookup.number, key=_number)]
        if not alike:
            del self._kinds[kind]


def _may_go_on(kind: Kind, new: Try) -> bool:
    """Whether Lookup.goes_on_with may hold for any of that kind."""
    names, found, types = kind
    if new.name in names:
        return new.name == names[-1] and new.qtype not in types
    return not found and continues(names, new.name)


def _newest(lookups: Iterable[Lookup], new: Try) -> Lookup | None:
    return next((each for each in lookups if each.goes_on_with(new)), None)


def _number(lookup: Lookup) -> int:
    return lookup.number
