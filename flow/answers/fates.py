"""Fates: where the DNS queries among some flows died, view by view: for who serves flows and can ask for those of all ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.answers.drops import Drops
from flows.flow.answers.fate import Judge, Judgement, troubled
from flows.flow.answers.reach import Reach
from flows.flow.answers.recent import Recent
from flows.flow.answers.requests import Request, Requests
from flows.flow.answers.servers import Servers
from flows.flow.answers.unseen import Unseen
from flows.flow.answers.upstream import upstream_of
from flows.flow.answers.view import State, view_told

if TYPE_CHECKING:
    from flows.flow.answers.told import Told
    from flows.flow.answers.view import View
    from flows.proto.flows_pb2 import Coverage

    Identity = tuple[str, int, int]


def identity_of(view: View) -> Identity:
    """What all flows of one end's view have in common: node, connection id, number of the request."""
    return view.node, view.connection, view.number


class Fates:
    """Flows in, in about the order of their time; judgements out. Memory: all that is put in."""

    def __init__(self) -> None:
        self._requests, self._found = Requests(), list[Request]()
        self._servers, self._drops, self._unseen = Servers(), Drops(), Unseen()

    def take(self, known: Told) -> None:
        """One flow: a view of a query, or what else tells of servers and drops."""
        view = view_told(known)
        if view is None or view.dns is None:
            self._servers.learn_opener(known)
            self._drops.take(known)
            return
        self._requests.add(view)
        self._servers.learn_view(view)

    def settle(self) -> None:
        """Put together what came."""
        new = list(self._requests.end())
        for request in new:
            self._servers.learn(request)
            self._unseen.learn(request, *self._requests.whole)
        self._found += new

    def homeless(self) -> list[str]:
        """DNS Services (`namespace/name`) that did not answer, and of whose pods nothing is known yet."""
        views = [request.view for request in self._found if request.view.state is State.GIVEN_UP]
        return sorted({view.server.service for view in views if view.server.service and not self._servers.behind(view.server)})

    def judged(self, coverage: Coverage | None, doubt: str = "") -> dict[Identity, Judgement]:
        """Of all that failed, were slow or were not answered. coverage, doubt: see Reach; of the flows that were put in."""
        recent = Recent(len(self._found))
        for request in self._found:
            recent.add(request)
        reach = Reach(*([coverage] if coverage is not None else []), doubt=doubt)
        judge = Judge(reach, self._servers, self._drops, self._unseen)
        told: dict[Identity, Judgement] = {}
        for request in filter(troubled, self._found):
            judgement = judge.fate(request, upstream_of(request, recent, self._servers))
            told |= {identity_of(view): judgement for view in request.views}
        return told
