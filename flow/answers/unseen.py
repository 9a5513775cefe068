"""Unseen: queries that were answered by no server that was seen to get them: then one may run where nobody watches."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from flows.flow.answers.place import address_at
from flows.flow.answers.requests import SECOND
from flows.flow.answers.view import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.flow.answers.place import Trait
    from flows.flow.answers.requests import Request
    from flows.flow.answers.view import View

# Servers that answered so last, and the newest such queries of one.
MOST_SERVERS, MOST_OF_ONE = 10_000, 8
# For how long before and after it such a query tells of others: pods come and go.
AROUND_NS = 600 * SECOND


class Unseen:
    """By the server's address, and by its Service."""

    def __init__(self) -> None:
        self._queries: OrderedDict[Trait, deque[Request]] = OrderedDict()

    def learn(self, request: Request, begin: int, end: int) -> None:
        """Takes a query if nobody saw it at its server. begin, end: between them all came that was seen of it."""
        view = request.at_client
        if view is None or request.at_server is not None or view.state is not State.ANSWERED:
            return
        if view.time < begin or view.changed > end:
            return
        for key in _keys(view):
            self._queries.setdefault(key, deque(maxlen=MOST_OF_ONE)).append(request)
            self._queries.move_to_end(key)
        while len(self._queries) > MOST_SERVERS:
            self._queries.popitem(last=False)

    def like(self, view: View) -> Iterator[View]:
        """The clients' views of such queries to the same server."""
        for key in _keys(view):
            for request in self._queries.get(key, ()):
                other = request.at_client
                if other is not None and request.at_server is None and abs(other.time - view.time) <= AROUND_NS:
                    yield other


def _keys(view: View) -> list[Trait]:
    return [each for each in (address_at(view.server.address, view.node), view.server.service) if each]
