"""Lookup: what one process asked for once, put together from the queries that its resolver made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.flow.answers.requests import SECOND
from flows.flow.answers.search import continues, intended

if TYPE_CHECKING:
    from flows.flow.answers.party import Party

# How long after the last sign of a query a resolver may go on with the question: its longest usual timeout and some more.
PAUSE_NS = 6 * SECOND
# A question that is asked again sooner, unchanged, to the same server, is another one beside it: resolvers wait 1 s at least.
AGAIN_NS = 900_000_000
MOST_TRIES = 64
NODATA, TRUNCATED = "NODATA", "TRUNCATED"
ADDRESSES = frozenset({"A", "AAAA"})
# After these no resolver asks for the same again.
FINAL = frozenset({"NOERROR", "NXDOMAIN", NODATA})


@dataclass(slots=True)
class Try:
    """One query. ended: when its answer came, or was given up.

    result: an rcode, NODATA, TRUNCATED (by the server, for UDP), or "unanswered". cut: addresses of its answer may be missing
    here, for agents keep the beginning of an answer.
    """

    name: str
    qtype: str
    server: str
    asked: int
    ended: int
    answered: bool
    result: str
    addresses: tuple[str, ...] = ()
    ttl: int = 0
    transport: str = ""
    cut: bool = False
    repetition: bool = False
    # How many packets it was: the query, and its answer if one came.
    packets: int = 2

    @property
    def found(self) -> bool:
        """Whether it told the client of addresses, also of such as are not known here."""
        return bool(self.addresses) or (self.cut and self.result == "NOERROR")


@dataclass(slots=True, eq=False)
class Lookup:
    """One question of one process. tries are in order of time."""

    client: Party
    node: str = ""  # that saw it
    tries: list[Try] = field(default_factory=list)
    more: int = 0  # tries that are not kept
    number: int = 0  # in the order in which they began
    final_ns: int | None = None  # when the last name's answers had all come, and would end any resolver's tries of it

    @property
    def names(self) -> list[str]:
        """Different ones, in order."""
        return list(dict.fromkeys(each.name for each in self.tries))

    @property
    def intended(self) -> str:
        """What was asked for."""
        return intended(self.names)

    @property
    def began(self) -> int:
        return self.tries[0].asked

    @property
    def ended(self) -> int:
        return max(each.ended for each in self.tries)

    @property
    def final(self) -> str:
        """The name that was found, else the last that was tried."""
        return next((each.name for each in self.tries if each.found), self.tries[-1].name)

    @property
    def found(self) -> bool:
        """Whether there are addresses, known or not."""
        return any(each.found for each in self.tries)

    @property
    def cut(self) -> bool:
        """Whether addresses may be missing."""
        return any(each.cut for each in self.tries)

    @property
    def addresses(self) -> tuple[str, ...]:
        """What was found."""
        return tuple(dict.fromkeys(address for each in self.tries for address in each.addresses))

    @property
    def outcome(self) -> str:
        """`resolved`, or why not: what the last name's queries came to, of several types the worst."""
        if self.found:
            return "resolved"
        results = self._results()
        if all(result in {"NOERROR", NODATA} for result in results):
            return "resolved" if "NOERROR" in results else NODATA
        return next(result for result in reversed(results) if result not in {"NOERROR", NODATA})

    def _results(self) -> list[str]:
        """What the last name's queries came to, by type: of those that were repeated, what ended that, else the last."""
        found: dict[str, str] = {}
        final = self.final
        for each in self.tries:
            if each.name == final and found.get(each.qtype) not in FINAL:
                found[each.qtype] = each.result
        return list(found.values())

    @property
    def wasted(self) -> int:
        """Packets that a fully qualified name, answered at once, would not have needed."""
        kept = self.final if self.outcome in {"resolved", NODATA} else self.intended
        needless = [each for each in self.tries if each.name != kept or each.repetition]
        return sum(each.packets for each in needless)

    @property
    def lost_ns(self) -> int:
        """Time until the query was made that was answered for good; of one that failed, all but its last try."""
        last = [each for each in self.tries if each.name == self.final]
        good = next((each for each in last if each.found or each.result in FINAL), last[-1])
        return max(0, good.asked - self.began)

    @property
    def last_types(self) -> frozenset[str]:
        """Types that were asked of the last name."""
        return frozenset(each.qtype for each in self.tries if each.name == self.tries[-1].name)

    def goes_on_with(self, new: Try) -> bool:
        """Whether a query may be of this question."""
        if new.asked - max(each.ended for each in self.tries[-8:]) > PAUSE_NS:
            return False
        same = [each for each in self.tries if each.name == new.name]
        if not same:
            return not self.found and continues(self.names, new.name)
        if self.tries[-1].name != new.name:
            return False
        alike = [each for each in same if each.qtype == new.qtype]
        if not alike:
            return new.asked <= max(each.ended for each in same) + AGAIN_NS
        return new.repetition or _is_repetition(alike[-1], new)

    def add(self, new: Try) -> None:
        """One more query."""
        new.repetition |= any((each.name, each.qtype) == (new.name, new.qtype) for each in self.tries)
        if len(self.tries) < MOST_TRIES:
            self.tries.append(new)
        else:
            self.more += 1
        last = {each.qtype: each for each in self.tries if each.name == self.tries[-1].name}
        final = all(each.answered and each.result in FINAL for each in last.values())
        self.final_ns = max(each.ended for each in last.values()) if final else None


def _is_repetition(old: Try, new: Try) -> bool:
    """Of a question that has no answer yet, or one that makes resolvers ask the next server."""
    if old.answered and old.ended <= new.asked:
        content = old.addresses and old.transport == new.transport  # with what it got, though that was truncated
        return old.result not in FINAL and not content
    return old.server != new.server or new.asked - old.asked >= AGAIN_NS
