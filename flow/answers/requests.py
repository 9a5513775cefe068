"""Requests: the views of both ends put together, so that each request is counted once."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.flow.answers.view import State, View

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = 1_000_000_000
# How long after its outcome the other end's view may still come, and after it was given up a late answer.
LINGER_NS, LATE_NS = 2 * SECOND, 4 * SECOND
# When an outcome is no longer waited for: well after the agents' own limits (5 s for DNS, 60 s for HTTP).
HOLD_NS = {"dns": 15 * SECOND, "http": 75 * SECOND}
# How far apart two ends' views of one request may begin: less than resolvers wait before they ask again (1 s at least).
DNS_APART_NS, HTTP_APART_NS = 900_000_000, 5 * SECOND
# Requests without an outcome that are kept; beyond that the oldest are taken as they are.
MOST_OPEN = 50_000


@dataclass(slots=True, eq=False)
class Request:
    """One request, as the client's end saw it, the server's, or both. unsided: its flows do not say whose view they are."""

    at_client: View | None = None
    at_server: View | None = None
    unsided: View | None = None
    due: int = 0

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

    def lacks(self, view: View) -> bool:
        """Whether the view may be the other end's of this request."""
        if view.at_client is None or self.unsided is not None:
            return False
        return (self.at_client if view.at_client else self.at_server) is None


class Requests:
    """Flows' views in, in about the order of their time; whole requests out, once nothing more is expected of them.

    cut_short: requests that were taken without an outcome because there were too many at once. late: answers that came after
    their request had been counted as unanswered.
    """

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._views: dict[tuple[Any, ...], list[tuple[View, Request]]] = {}
        self._groups: defaultdict[tuple[Any, ...], list[Request]] = defaultdict(list)
        self._due: list[tuple[int, int, Request]] = []
        self._open: dict[Request, None] = {}
        self._pushed = 0
        self.watermark = 0
        self.cut_short = self.late = 0

    def add(self, view: View) -> None:
        """What one flow says of a request."""
        self.watermark = max(self.watermark, view.changed)
        known = self._known(view)
        if known is not None:
            known[0].merge(view)
            self._schedule(known[1], known[0])
            return
        if view.late and view.state is State.ANSWERED:
            self.late += 1
            return
        request = self._partner(view)
        if request is None:
            request = Request()
            self._open[request] = None
        request._put(view)
        self._groups[_group(view)].append(request)
        self._views.setdefault(_identity(view), []).append((view, request))
        self._schedule(request, view)

    def advance(self, time_ns: int) -> None:
        """Flows up to this time have come, if any did."""
        self.watermark = max(self.watermark, time_ns)

    def settled(self) -> Iterator[Request]:
        """Those of which nothing more is expected; each is given once."""
        while self._due and self._due[0][0] <= self.watermark:
            due, _, request = heapq.heappop(self._due)
            if request in self._open and request.due == due:
                yield self._close(request)
        while len(self._open) > self._most:
            self.cut_short += 1
            yield self._close(next(iter(self._open)))

    def end(self) -> Iterator[Request]:
        """All that are left: nothing else comes."""
        for request in list(self._open):
            yield self._close(request)

    def _known(self, view: View) -> tuple[View, Request] | None:
        """The view that the flow goes on with: the same number; without numbers, the oldest that waits for an answer."""
        alike = self._views.get(_identity(view), ())
        if view.number >= 0:
            return alike[0] if alike else None
        if view.state is not State.ANSWERED:
            return None
        return next((pair for pair in alike if pair[0].state is State.ASKED), None)

    def _partner(self, view: View) -> Request | None:
        apart = DNS_APART_NS if view.dns is not None else HTTP_APART_NS
        near = [
            (rank, abs(request.time - view.time), position, request)
            for position, request in enumerate(self._groups.get(_group(view), ()))
            if request.lacks(view) and abs(request.time - view.time) <= apart and (rank := _rank(request.view, view)) is not None
        ]
        if not near:
            return None
        if view.dns is None:  # those of one connection come one after the other: in their order, whatever the clocks say
            return min(near, key=lambda each: each[2])[3]
        return min(near, key=lambda each: each[:3])[3]

    def _schedule(self, request: Request, view: View) -> None:
        wait = HOLD_NS["dns" if view.dns is not None else "http"]
        due = request.time + wait
        if any(each.state is State.ANSWERED for each in request.views if each.at_client is not False):
            due = view.changed + LINGER_NS
        elif any(each.state is State.GIVEN_UP for each in request.views):
            due = view.changed + LATE_NS
        elif request.at_client is None and view.state is State.ANSWERED:
            due = view.changed + LINGER_NS
        request.due = due
        self._pushed += 1
        heapq.heappush(self._due, (due, self._pushed, request))

    def _close(self, request: Request) -> Request:
        self._open.pop(request)
        for view in request.views:
            self._forget(self._groups, _group(view), request)
            alike = self._views.get(_identity(view), [])
            alike[:] = [pair for pair in alike if pair[1] is not request]
            if not alike:
                self._views.pop(_identity(view), None)
        return request

    @staticmethod
    def _forget(groups: dict[tuple[Any, ...], list[Request]], key: tuple[Any, ...], request: Request) -> None:
        if (group := groups.get(key)) is None:
            return
        group[:] = [each for each in group if each is not request]
        if not group:
            del groups[key]


def _identity(view: View) -> tuple[Any, ...]:
    """What all flows of one view have in common."""
    if view.number >= 0:
        return (view.node, view.connection, view.number)
    ends = (view.client.address, view.client.port, view.server.address, view.server.port)
    if view.dns is not None:
        return (view.node, *ends, view.dns.name, view.dns.qtype)
    assert view.http is not None
    return (view.node, *ends, view.http.method, view.http.path)


def _group(view: View) -> tuple[Any, ...]:
    """What both ends' views of one request have in common, also where addresses were translated between them."""
    if view.dns is not None:
        return (view.transport, view.dns.query_id, view.dns.name, view.dns.qtype)
    assert view.http is not None
    return (view.client.address, view.client.port, view.http.method, view.http.path)


def _rank(one: View, other: View) -> int | None:
    """How surely two views are of one request: 0 by the client's address and port, 1 by a DNS query's id; None: they are not."""
    if (one.client.address, one.client.port) == (other.client.address, other.client.port):
        return 0
    if one.dns is None or not one.dns.query_id:
        return None
    client, server = (one, other) if one.at_client else (other, one)
    reached = {client.server.address, client.backend.address}
    same = server.server.address in reached or (client.server.service and client.server.service in server.server.services)
    return 1 if same else None
