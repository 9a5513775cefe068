"""Lookups: from queries to what each process asked for once."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from flows.flow.answers.asker import Asker
from flows.flow.answers.lookup import ADDRESSES, NODATA, PAUSE_NS, TRUNCATED, Lookup, Try
from flows.flow.answers.requests import SECOND, Request
from flows.flow.answers.view import State, rcode_name
from flows.proto.extension_pb2 import ANSWER_CUT
from flows.proto.extension_pb2 import TRUNCATED as TRUNCATED_BY_SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.flow.answers.view import DnsPart, View

# Queries are put in order of their time; one is not looked at before those that began earlier have had their outcome.
ORDER_NS = 10 * SECOND
MOST_WAITING, MOST_OPEN = 50_000, 20_000


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
        lookup.add(new)
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
    good = answered and not dns.rcode
    return Try(
        name=dns.name,
        qtype=dns.qtype,
        server=view.server.address,
        asked=view.time,
        ended=view.answered or view.changed,
        answered=answered,
        result=_result(view, dns) if answered else "unanswered",
        addresses=dns.addresses if good else (),
        ttl=dns.ttl,
        transport=view.transport,
        cut=good and dns.qtype in ADDRESSES and ANSWER_CUT in view.marks,
        repetition=dns.attempt > 1,
        packets=2 if answered else 1,
    )


def _result(view: View, dns: DnsPart) -> str:
    """Of an answer. One that was cut here is not known to have no addresses."""
    if dns.rcode:
        return rcode_name(dns.rcode)
    if TRUNCATED_BY_SERVER in view.marks:
        return TRUNCATED
    return NODATA if not dns.addresses and dns.qtype in ADDRESSES and ANSWER_CUT not in view.marks else "NOERROR"
