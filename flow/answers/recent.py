"""Recent: the newest DNS requests, by who asked whom for what and when, so that a server's own queries are found again."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from flows.flow.answers.place import address_at, client_traits, server_traits
from flows.flow.answers.requests import DNS_APART_NS, SECOND, rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flows.flow.answers.place import Trait
    from flows.flow.answers.requests import Request

    # Who, name, type, second or SLOT_NS.
    Question = tuple[Trait, str, str, int]

# Alike ones of one second, or SLOT_NS, that are looked at: more would tell the same.
MOST_ALIKE = 32
# What a busy server gets of one name is looked at from the newest on: so many.
SLOT_NS, MOST_GOT = 50_000_000, 256


class _Index:
    """Requests by one of their ends. They are removed in the order in which they came."""

    def __init__(self) -> None:
        self._by_question: dict[Question, deque[Request]] = {}

    def add(self, questions: Iterable[Question], request: Request) -> None:
        for question in questions:
            self._by_question.setdefault(question, deque()).append(request)

    def remove(self, questions: Iterable[Question]) -> None:
        for question in questions:
            alike = self._by_question[question]
            alike.popleft()
            if not alike:
                del self._by_question[question]

    def between(self, questions: Iterable[Question]) -> Iterator[Request]:
        for question in questions:
            yield from islice(self._by_question.get(question, ()), MOST_ALIKE)


class Recent:
    """At most so many requests; the oldest go first."""

    def __init__(self, most: int) -> None:
        self._asked, self._got = _Index(), _Index()
        self._order: deque[tuple[Request, list[Question], list[Question]]] = deque()
        self._most = most

    def add(self, request: Request) -> None:
        """One more."""
        server = request.at_server
        asked = _questions(request, client_traits(request.view), request.time, request.time, SECOND)
        got = [] if server is None else _questions(request, server_traits(server), server.time, server.time, SLOT_NS)
        self._asked.add(asked, request)
        self._got.add(got, request)
        self._order.append((request, asked, got))
        if len(self._order) > self._most:
            _, asked, got = self._order.popleft()
            self._asked.remove(asked)
            self._got.remove(got)

    def __iter__(self) -> Iterator[Request]:
        """The oldest first."""
        return (request for request, *_ in self._order)

    def asked(self, request: Request, askers: Iterable[Trait], begin: int, end: int) -> list[Request]:
        """What these asked, for the same name and type as the request, in that time; in order of time."""
        found = dict.fromkeys(self._asked.between(_questions(request, sorted(askers, key=str), begin, end, SECOND)))
        near = [each for each in found if each is not request and begin <= each.time <= end]
        return sorted(near, key=lambda each: each.time)

    def got(self, query: Request, begin: int, end: int) -> Iterator[Request]:
        """What who asked this was itself asked, for the same name and type, and seen to get in that time; the newest first."""
        found = self._got.between(_questions(query, client_traits(query.view), begin, end, SLOT_NS))
        for each in islice(found, MOST_GOT):
            if each.at_server is not None and begin <= each.at_server.time <= end:
                yield each

    def twins(self, request: Request) -> Iterator[Request]:
        """Requests of which this may be another look: the same question of the same asker at the same time."""
        asker = address_at(request.view.client.address, request.view.node)
        for each in self.asked(request, [asker], request.time - DNS_APART_NS, request.time + DNS_APART_NS):
            if _alike(each, request):
                yield each


def _questions(request: Request, ends: Iterable[Trait], begin: int, end: int, width: int) -> list[Question]:
    """The latest first. width: of a slot of time, ns."""
    dns = request.view.dns
    assert dns is not None
    slots, name, qtype = range(end // width, begin // width - 1, -1), dns.name, dns.qtype
    return [(each, name, qtype, slot) for slot in slots for each in ends]


def _alike(one: Request, other: Request) -> bool:
    mine, its = one.view, other.view
    assert mine.dns is not None
    assert its.dns is not None
    if mine.dns.query_id != its.dns.query_id or mine.client.port != its.client.port:
        return False
    if other.at_client is None and other.at_server is not None:
        return rank(mine, its) is not None
    return mine.server.address == its.server.address
