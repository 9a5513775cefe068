"""Requests: the views of both ends put together, so that each request is counted once."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.flow.answers.view import State, View

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

SECOND = 1_000_000_000
# How long after its outcome the other end's view may still come, and after it was given up a late answer.
LINGER_NS, LATE_NS = 2 * SECOND, 4 * SECOND
# When an outcome is no longer waited for: well after the agents' own limits (5 s for DNS, 60 s for HTTP).
HOLD_NS = {"dns": 15 * SECOND, "http": 75 * SECOND}
# How far apart two ends' views of one request may begin: less than resolvers wait before they ask again (1 s at least).
DNS_APART_NS, HTTP_APART_NS = 900_000_000, 5 * SECOND
# Between the clocks of two nodes: a relay corrects them to about a millisecond, NTP alone keeps them within some ten. Far less
# than the second after which resolvers ask again: what a server does for the next attempt is not taken for this one's.
CLOCKS_NS = 50_000_000
# Requests without an outcome that are kept; beyond that the oldest are taken as they are.
MOST_OPEN = 50_000
# After so many changes of what is due when, it is looked at how much of that is out of date.
SWEEP = 4_096

# No time is later.
MOST_NS = 1 << 63

_ASKED, _GIVEN_UP, _ANSWERED = State.ASKED, State.GIVEN_UP, State.ANSWERED


@dataclass(slots=True, eq=False)
class Request:
    """One request, as the client's end saw it, the server's, or both. unsided: its flows do not say whose view they are."""

    at_client: View | None = None
    at_server: View | None = None
    unsided: View | None = None
    due: int = 0
    # Where it is found as long as the other end's view may come, and by its own view.
    place: Hashable = None
    identities: tuple[Hashable, ...] = ()

    @property
    def view(self) -> View:
        """The one that counts: the client's, if there is one."""
        view = self.at_client or self.unsided or self.at_server
        assert view is not None
        return view

    @property
    def views(self) -> list[View]:
        return [view for view in (self.at_client, self.at_server, self.unsided) if view is not None]

    @property
    def time(self) -> int:
        """When it was asked; ns since 1970."""
        return self.view.time

    @property
    def state(self) -> State:
        """The client's: an answer that it did not get is none."""
        return self.view.state

    def _put(self, view: View) -> None:
        if view.at_client is None:
            self.unsided = view
        elif view.at_client:
            self.at_client = view
        else:
            self.at_server = view


class Requests:
    """Flows' views in, in about the order of their time; whole requests out, once nothing more is expected of them.

    cut_short: requests that were taken without an outcome because there were too many at once. late: answers that came after
    their request had been counted as unanswered. first: the time of the earliest flow.
    """

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._views: dict[Hashable, tuple[View, Request]] = {}  # of numbered ones
        self._asked: dict[Hashable, dict[Request, View]] = {}  # those without numbers that wait for an answer, in their order
        self._lone: dict[Hashable, dict[Request, None]] = {}  # those that may still get this side's view, in their order
        self._due: list[tuple[int, int, Request]] = []
        # A dict is slow to tell its first key once many before it are gone.
        self._open: OrderedDict[Request, None] = OrderedDict()
        self._pushed = 0
        self.watermark, self.first = 0, MOST_NS
        self.cut_short = self.late = 0

    def add(self, view: View) -> None:
        """What one flow says of a request."""
        self.watermark, self.first = max(self.watermark, view.changed), min(self.first, view.changed)
        identity = _identity(view)
        known = self._known(identity, view)
        if known is not None:
            known[0].merge(view)
            self._schedule(known[1], known[0])
            return
        if view.late and view.state is State.ANSWERED:
            self.late += 1
            return
        request = self._partner(view)
        request._put(view)
        self._note(identity, view, request)
        self._schedule(request, view)

    def advance(self, time_ns: int) -> None:
        """Flows up to this time have come, if any did."""
        self.watermark = max(self.watermark, time_ns)

    @property
    def whole(self) -> tuple[int, int]:
        """Of queries that began and ended between these times both ends' flows have come, however their clocks are off."""
        return self.first + CLOCKS_NS, self.watermark - LINGER_NS

    def settled(self) -> Iterable[Request]:
        """Those of which nothing more is expected; each is given once."""
        if len(self._open) > self._most or (self._due and self._due[0][0] <= self.watermark):
            return self._settled()
        return ()

    def _settled(self) -> Iterator[Request]:
        while self._due and self._due[0][0] <= self.watermark:
            due, _, request = heapq.heappop(self._due)
            if request.due == due and request in self._open:
                yield self._close(request)
        while len(self._open) > self._most:
            self.cut_short += 1
            yield self._close(next(iter(self._open)))

    def end(self) -> Iterator[Request]:
        """All that are left: nothing else comes."""
        for request in list(self._open):
            yield self._close(request)

    def _known(self, identity: Hashable, view: View) -> tuple[View, Request] | None:
        """The view that the flow goes on with: the same number; without numbers, the oldest that waits for an answer."""
        if view.number >= 0:
            return self._views.get(identity)
        if view.state is not State.ANSWERED or not (waiting := self._asked.get(identity)):
            return None
        request = next(iter(waiting))
        found = waiting.pop(request)
        if not waiting:
            del self._asked[identity]
        return found, request

    def _note(self, identity: Hashable, view: View, request: Request) -> None:
        """So that what else is told of the view is found to be of it."""
        if view.number >= 0:
            self._views[identity] = (view, request)
        elif view.state is State.ASKED:
            self._asked.setdefault(identity, {})[request] = view
        else:
            return
        request.identities += (identity,)

    def _partner(self, view: View) -> Request:
        """The request whose other end this view is of; a new one if there is none."""
        if view.at_client is None:
            return self._new(None)
        group = _group(view)
        near = self._lone.get((view.at_client, group))
        found = self._nearest(view, near) if near else None
        return self._new((not view.at_client, group)) if found is None else self._joined(found)

    def _new(self, place: Hashable) -> Request:
        request = Request(place=place)
        self._open[request] = None
        if place is not None:
            self._lone.setdefault(place, {})[request] = None
        return request

    def _joined(self, request: Request) -> Request:
        """It lacks nothing any more."""
        if (place := request.place) is not None:
            lone = self._lone[place]
            del lone[request]
            if not lone:
                del self._lone[place]
            request.place = None
        return request

    @staticmethod
    def _nearest(view: View, lone: Iterable[Request]) -> Request | None:
        time = view.time
        if view.dns is None:  # those of one connection come one after the other: in their order, whatever the clocks say
            return next((each for each in lone if abs(each.time - time) <= HTTP_APART_NS), None)
        near = [
            (sure, apart, position, request)
            for position, request in enumerate(lone)
            if (apart := abs(request.time - time)) <= DNS_APART_NS and (sure := rank(request.view, view)) is not None
        ]
        return min(near)[3] if near else None

    def _schedule(self, request: Request, view: View) -> None:
        client, server = request.at_client or request.unsided, request.at_server
        state = _ASKED if client is None else client.state
        if state is _ANSWERED or (request.at_client is None and view.state is _ANSWERED):
            due = view.changed + LINGER_NS
        elif state is _GIVEN_UP or (server is not None and server.state is _GIVEN_UP):
            due = view.changed + LATE_NS
        else:
            due = request.time + HOLD_NS["dns" if view.dns is not None else "http"]
        if due != request.due:
            request.due = due
            self._pushed += 1
            heapq.heappush(self._due, (due, self._pushed, request))
            if self._pushed % SWEEP == 0 and len(self._due) > 4 * len(self._open) + SWEEP:
                self._sweep()

    def _sweep(self) -> None:
        """Forget what was due later before it had its outcome: it would be kept for as long as that."""
        self._due = [each for each in self._due if each[2].due == each[0] and each[2] in self._open]
        heapq.heapify(self._due)

    def _close(self, request: Request) -> Request:
        del self._open[request]
        self._joined(request)
        for identity in request.identities:
            if self._views.pop(identity, None) is None and (waiting := self._asked.get(identity)):
                waiting.pop(request, None)
                if not waiting:
                    del self._asked[identity]
        return request


def _identity(view: View) -> tuple[Hashable, ...]:
    """What all flows of one view have in common."""
    if view.number >= 0:
        return (view.node, view.connection, view.number)
    ends = (view.client.address, view.client.port, view.server.address, view.server.port)
    if view.dns is not None:
        return (view.node, *ends, view.dns.name, view.dns.qtype)
    assert view.http is not None
    return (view.node, *ends, view.http.method, view.http.path)


def _group(view: View) -> tuple[Hashable, ...]:
    """What both ends' views of one request have in common, also where addresses were translated between them."""
    if view.dns is not None:
        return (view.transport, view.dns.query_id, view.dns.name, view.dns.qtype)
    assert view.http is not None
    return (view.client.address, view.client.port, view.http.method, view.http.path)


def rank(one: View, other: View) -> int | None:
    """How surely two views are of one request; None: they are not.

    0 by the client's address and port and by the server, 1 by the client alone, 2 by a DNS query's id and the server: musl asks
    all its servers at once, with one id and from one socket.
    """
    asker = one.client.port == other.client.port and one.client.address == other.client.address
    if one.dns is None:
        return 0 if asker else None
    client, server = (one, other) if one.at_client else (other, one)
    reached = {client.server.address, client.backend.address}
    same = server.server.address in reached or (client.server.service and client.server.service in server.server.services)
    if asker:
        apart = client.server.pod and server.server.pod and client.server.pod != server.server.pod
        return 0 if same else None if apart else 1
    return 2 if same and one.dns.query_id else None
