"""Lookups: what one process asked for once, put together from the queries that its resolver made of it."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.flow.answers.asker import Asker
from flows.flow.answers.requests import SECOND, Request
from flows.flow.answers.search import continues, intended
from flows.flow.answers.view import State, rcode_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.flow.answers.party import Party

# How long after the last sign of a query a resolver may go on with the question: its longest usual timeout and some more.
PAUSE_NS = 6 * SECOND
# A question that is asked again sooner, unchanged, to the same server, is another one beside it: resolvers wait 1 s at least.
AGAIN_NS = 900_000_000
# Queries are put in order of their time; one is not looked at before those that began earlier have had their outcome.
ORDER_NS = 10 * SECOND
MOST_WAITING, MOST_OPEN, MOST_TRIES = 50_000, 20_000, 64
NODATA = "NODATA"
# After these no resolver asks for the same again.
FINAL = frozenset({"NOERROR", "NXDOMAIN", NODATA})


@dataclass(slots=True)
class Try:
    """One query. ended: when its answer came, or was given up. result: an rcode, NODATA, or "unanswered"."""

    name: str
    qtype: str
    server: str
    asked: int
    ended: int
    answered: bool
    result: str
    addresses: tuple[str, ...] = ()
    ttl: int = 0
    repetition: bool = False
    # How many packets it was: the query, and its answer if one came.
    packets: int = 2


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
        return next((each.name for each in self.tries if each.addresses), self.tries[-1].name)

    @property
    def addresses(self) -> tuple[str, ...]:
        """What was found."""
        return tuple(dict.fromkeys(address for each in self.tries for address in each.addresses))

    @property
    def outcome(self) -> str:
        """`resolved`, or why not: what the last name's queries ended with, the worst of them."""
        if self.addresses:
            return "resolved"
        last = [each.result for each in self.tries if each.name == self.final]
        if all(result in {"NOERROR", NODATA} for result in last):
            kinds = {each.qtype for each in self.tries}
            return NODATA if kinds <= {"A", "AAAA"} else "resolved"
        return next(result for result in reversed(last) if result not in {"NOERROR", NODATA})

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
        good = next((each for each in last if each.answered), last[-1])
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
            return not any(each.addresses for each in self.tries) and continues(self.names, new.name)
        if self.tries[-1].name != new.name:
            return False
        alike = [each for each in same if each.qtype == new.qtype]
        if not alike:
            return new.asked <= max(each.ended for each in same) + AGAIN_NS
        return new.repetition or _is_repetition(alike[-1], new)

    def _add(self, new: Try) -> None:
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
        return old.result not in FINAL
    return old.server != new.server or new.asked - old.asked >= AGAIN_NS


class Lookups:
    """DNS requests in, once each has its outcome; lookups out, once a resolver would not go on with them."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, Request]] = []
        # By process and first label, which all names of one lookup have in common.
        self._open: dict[tuple[str, int, str], Asker] = {}
        self._closed_ns = 0
        self._taken = 0
        self._begun = self._count = 0
        self.cut_short = 0

    def add(self, request: Request) -> None:
        """A DNS request of which nothing more is expected. The client's own view, or the only one there is."""
        self._taken += 1
        heapq.heappush(self._waiting, (request.time, self._taken, request))

    def done(self, watermark: int) -> Iterator[Lookup]:
        """Those that have ended by that time (ns since 1970)."""
        while self._waiting and (self._waiting[0][0] <= watermark - ORDER_NS or len(self._waiting) > MOST_WAITING):
            self._place(heapq.heappop(self._waiting)[2])
        if watermark - self._closed_ns >= SECOND:  # it looks at all of them
            self._closed_ns = watermark
            limit = watermark - ORDER_NS - PAUSE_NS
            for key in list(self._open):
                yield from self._close(key, limit)
        while self._count > MOST_OPEN:
            self.cut_short += 1
            yield from self._close(next(iter(self._open)), None)

    def end(self) -> Iterator[Lookup]:
        """All that are left."""
        while self._waiting:
            self._place(heapq.heappop(self._waiting)[2])
        for key in list(self._open):
            yield from self._close(key, None)

    def _place(self, request: Request) -> None:
        new, client = _try(request), request.view.client
        key = (client.address or client.name, client.pid, new.name.partition(".")[0])
        asker = self._open.get(key)
        if asker is None:
            asker = self._open[key] = Asker()
        lookup = asker.of(new)
        if lookup is None:
            self._begun += 1
            lookup = Lookup(client, request.view.node, number=self._begun)
            self._count += 1
        lookup._add(new)
        asker.add(lookup)

    def _close(self, key: tuple[str, int, str], limit: int | None) -> list[Lookup]:
        asker = self._open[key]
        over = [each for each in asker if limit is None or each.ended <= limit]
        self._count -= len(over)
        asker.remove(over)
        if not len(asker):
            del self._open[key]
        return over


def _try(request: Request) -> Try:
    view = request.view
    dns = view.dns
    assert dns is not None
    answered = view.state is State.ANSWERED
    result = rcode_name(dns.rcode or 0) if answered else "unanswered"
    if result == "NOERROR" and not dns.addresses and dns.qtype in {"A", "AAAA"}:
        result = NODATA
    return Try(
        name=dns.name,
        qtype=dns.qtype,
        server=view.server.address,
        asked=view.time,
        ended=view.answered or view.changed,
        answered=answered,
        result=result,
        addresses=dns.addresses if answered and not dns.rcode else (),
        ttl=dns.ttl,
        repetition=dns.attempt > 1,
        packets=2 if answered else 1,
    )
