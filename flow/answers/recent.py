"""Recent: the newest DNS requests, by who asked for what and when, so that a server's own queries are found again."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from flows.flow.answers.requests import DNS_APART_NS, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flows.flow.answers.requests import Request

# A query of the server belongs to the one it got if it was sent from just before (clocks) to the end of any resolver's patience.
BEFORE_NS, AFTER_NS = 50_000_000, 10 * SECOND
# Alike ones of one second that are looked at: more would tell the same.
MOST_ALIKE = 32
# Who asked, name, type, second.
Question = tuple[str, str, str, int]


class Recent:
    """At most so many requests; the oldest go first."""

    def __init__(self, most: int) -> None:
        self._by_question: dict[Question, deque[Request]] = {}
        self._order: deque[tuple[Question, Request]] = deque()
        self._most = most

    def add(self, request: Request) -> None:
        """One more."""
        view = request.view
        assert view.dns is not None
        question = (view.client.address, view.dns.name, view.dns.qtype, request.time // SECOND)
        self._by_question.setdefault(question, deque()).append(request)
        self._order.append((question, request))
        if len(self._order) > self._most:
            oldest, _ = self._order.popleft()
            alike = self._by_question[oldest]
            alike.popleft()  # they are in the order in which they came
            if not alike:
                del self._by_question[oldest]

    def __iter__(self) -> Iterator[Request]:
        """The oldest first."""
        return (request for _, request in self._order)

    def asked(self, request: Request, hosts: Iterable[str]) -> list[Request]:
        """What these addresses asked, for the same name and type, while they had the request; in order of time."""
        start = (request.at_server or request.view).time
        near = [
            each
            for host in sorted(hosts)
            for each in self._between(request, host, start - BEFORE_NS, start + AFTER_NS)
            if each is not request
        ]
        return sorted(near, key=lambda each: each.time)

    def twins(self, request: Request) -> Iterator[Request]:
        """Requests of which this may be another look: the same question of the same asker at the same time."""
        for each in self._between(request, request.view.client.address, request.time - DNS_APART_NS, request.time + DNS_APART_NS):
            if each is not request and _alike(each, request):
                yield each

    def _between(self, request: Request, host: str, begin: int, end: int) -> Iterator[Request]:
        dns = request.view.dns
        assert dns is not None
        for second in range(begin // SECOND, end // SECOND + 1):
            alike = self._by_question.get((host, dns.name, dns.qtype, second), ())
            yield from (each for each in islice(alike, MOST_ALIKE) if begin <= each.time <= end)


def _alike(one: Request, other: Request) -> bool:
    mine, its = one.view, other.view
    assert mine.dns is not None
    assert its.dns is not None
    return mine.dns.query_id == its.dns.query_id and mine.client.port == its.client.port
