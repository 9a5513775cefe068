"""Requests as they are meant, without regard to cost: each view is compared with all that may be of the same request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.answers.lookup import Lookup
from flows.flow.answers.lookups import _try
from flows.flow.answers.requests import (
    DNS_APART_NS,
    HOLD_NS,
    HTTP_APART_NS,
    LATE_NS,
    LINGER_NS,
    Request,
    _group,
    _identity,
    rank,
)
from flows.flow.answers.view import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.flow.answers.lookup import Try
    from flows.flow.answers.view import View


class PlainRequests:
    """The same as flows.flow.answers.requests.Requests, in lists that are looked through from end to end."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: list[Request] = []
        self._due: dict[Request, tuple[int, int]] = {}
        self._changes = self.watermark = self.cut_short = self.late = 0

    def add(self, view: View) -> None:
        self.watermark = max(self.watermark, view.changed)
        known = self._known(view)
        if known is not None:
            known[0].merge(view)
            self._schedule(known[1], known[0])
        elif view.late and view.state is State.ANSWERED:
            self.late += 1
        else:
            request = self._partner(view)
            if request is None:
                request = Request()
                self._open.append(request)
            request._put(view)
            self._schedule(request, view)

    def settled(self) -> Iterator[Request]:
        while due := sorted((when, each) for each, when in self._due.items() if when[0] <= self.watermark):
            yield self._close(due[0][1])
        while len(self._open) > self._most:
            self.cut_short += 1
            yield self._close(self._open[0])

    def end(self) -> Iterator[Request]:
        while self._open:
            yield self._close(self._open[0])

    def _known(self, view: View) -> tuple[View, Request] | None:
        alike = [(each, one) for one in self._open for each in one.views if _identity(each) == _identity(view)]
        if view.number < 0:
            alike = [pair for pair in alike if view.state is State.ANSWERED and pair[0].state is State.ASKED]
        return alike[0] if alike else None

    def _partner(self, view: View) -> Request | None:
        apart = DNS_APART_NS if view.dns is not None else HTTP_APART_NS
        near = [
            (sure if view.dns is not None else 0, abs(each.time - view.time) if view.dns is not None else 0, position)
            for position, each in enumerate(self._open)
            if _lacks(each, view)
            and _group(each.view) == _group(view)
            and abs(each.time - view.time) <= apart
            and (sure := rank(each.view, view)) is not None
        ]
        return self._open[min(near)[2]] if near else None

    def _schedule(self, request: Request, view: View) -> None:
        due = request.time + HOLD_NS["dns" if view.dns is not None else "http"]
        if any(each.state is State.ANSWERED for each in request.views if each.at_client is not False):
            due = view.changed + LINGER_NS
        elif any(each.state is State.GIVEN_UP for each in request.views):
            due = view.changed + LATE_NS
        elif request.at_client is None and view.state is State.ANSWERED:
            due = view.changed + LINGER_NS
        self._changes += 1
        if self._due.get(request, (0, 0))[0] != due:
            self._due[request] = (due, self._changes)

    def _close(self, request: Request) -> Request:
        self._open.remove(request)
        del self._due[request]
        return request


def _lacks(request: Request, view: View) -> bool:
    """Whether the view may be the other end's of the request."""
    if view.at_client is None or request.unsided is not None:
        return False
    return (request.at_client if view.at_client else request.at_server) is None


def plain_lookups(requests: list[Request]) -> list[list[Try]]:
    """The tries of each lookup of one process: each query is compared with all lookups before, the newest first."""
    lookups: list[Lookup] = []
    for request in sorted(requests, key=lambda each: each.time):
        new = _try(request)
        alike = [each for each in lookups if each.tries[0].name.partition(".")[0] == new.name.partition(".")[0]]
        lookup = next((each for each in reversed(alike) if each.goes_on_with(new)), None)
        if lookup is None:
            lookup = Lookup(request.view.client)
            lookups.append(lookup)
        lookup.add(new)
    return [each.tries for each in lookups]
