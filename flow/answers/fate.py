"""Fate: where a DNS query died, told from what the client's end, the server's end and the server's own queries show.

Nothing is concluded from what was not seen unless coverage says that it would have been.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flows.flow.answers.place import told_apart
from flows.flow.answers.upstream import blame, in_words
from flows.flow.answers.view import State, View, is_slow, rcode_name
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.answers.drops import Drops
    from flows.flow.answers.party import Party
    from flows.flow.answers.reach import Reach
    from flows.flow.answers.requests import Request
    from flows.flow.answers.servers import Homes, Servers
    from flows.flow.answers.unseen import Unseen


class Judgement(NamedTuple):
    """fate: flows.v1.Fate. evidence: a sentence for people; with FATE_UNKNOWN why it cannot be told."""

    fate: int
    evidence: str


def troubled(request: Request) -> bool:
    """Whether there is something to explain."""
    view = request.view
    assert view.dns is not None
    if view.state is State.ANSWERED:
        return bool(view.dns.rcode) or is_slow(view)
    return view.state is State.GIVEN_UP


class Judge:
    """Tells fates with what is known of nodes, servers and drops so far."""

    def __init__(self, reach: Reach, servers: Servers, drops: Drops, unseen: Unseen) -> None:
        self._reach, self._servers, self._drops, self._unseen = reach, servers, drops, unseen

    def fate(self, request: Request, upstream: Sequence[Request]) -> Judgement:
        """Of a troubled request. upstream: the server's own queries about it (upstream_of)."""
        view = request.view
        assert view.dns is not None
        if view.dns.fate:  # whoever served the flow saw more than what it passed on
            return Judgement(view.dns.fate, view.dns.evidence)
        if view.at_client is None:
            return Judgement(extension_pb2.FATE_UNKNOWN, "the flow does not say whose view it is: only one is there")
        if view.state is State.ANSWERED:
            return self._failed(request, upstream) if view.dns.rcode else self._slow(request, upstream)
        return self._unanswered(request, upstream)

    def _unanswered(self, request: Request, upstream: Sequence[Request]) -> Judgement:
        view = request.view
        if request.at_server is not None:
            return self._unanswered_by(request, request.at_server, upstream)
        if (drop := self._drops.of(view)) is not None:
            elsewhere = drop.node and view.node and drop.node != view.node
            fate = extension_pb2.LOST_TO_SERVER if elsewhere else extension_pb2.NEVER_LEFT
            return Judgement(fate, f"{drop.node or _node(view)} dropped it: {drop.why}")
        if not upstream:
            return self._not_seen_at_server(view)
        got = f"{upstream[0].view.client.name} must have got it, for it asked in turn"
        evidence = f"{got} and was answered; whether it replied was not seen: its own view of the query is missing"
        return self._blamed(request, upstream, got) or Judgement(extension_pb2.FATE_UNKNOWN, evidence)

    def _unanswered_by(self, request: Request, server: View, upstream: Sequence[Request]) -> Judgement:
        """By a server that was seen to get it."""
        view, got = request.view, f"{server.server.name} got it (seen on {server.node or 'its node'})"
        replied = server.answered is not None and server.state is State.ANSWERED
        took = in_words((server.answered or 0) - server.time)
        if replied and request.at_client is not None and (server.answered or 0) <= view.changed:
            return self._lost_to_client(view, f"{got} and replied after {took}")
        if blamed := self._blamed(request, upstream, got):
            return blamed
        if not replied:
            return self._silent(view, server, got, upstream)
        return self._slow_server(request, server, f"{got} and replied after {took}, too late", upstream)

    def _lost_to_client(self, view: View, replied: str) -> Judgement:
        if flaw := self._reach.flaw(view.node, view.time, view.changed):
            return Judgement(extension_pb2.FATE_UNKNOWN, f"{replied}; whether {_node(view)} got the reply was not seen: {flaw}")
        return Judgement(extension_pb2.LOST_TO_CLIENT, f"{replied}; {_node(view)} did not see the reply")

    def _silent(self, view: View, server: View, got: str, upstream: Sequence[Request]) -> Judgement:
        if flaw := self._reach.flaw(server.node, server.time, view.changed):
            return Judgement(extension_pb2.FATE_UNKNOWN, f"{got}; whether it replied was not seen: {flaw}")
        return Judgement(extension_pb2.SERVER_SILENT, f"{got} and sent no reply{self._alone(server.server, upstream)}")

    def _slow_server(self, request: Request, server: View, took: str, upstream: Sequence[Request]) -> Judgement:
        if flaw := self._server_flaw(request):
            return Judgement(extension_pb2.FATE_UNKNOWN, f"{took}; whether it waited for an upstream was not seen: {flaw}")
        return Judgement(extension_pb2.SERVER_SLOW, f"{took}{self._alone(server.server, upstream)}")

    def _not_seen_at_server(self, view: View) -> Judgement:
        server, homes = view.server, self._servers.homes(view)
        if not homes.nodes:
            where = "outside the cluster" if not server.in_cluster and server.reserved else "on a node that is not known"
            return Judgement(extension_pb2.FATE_UNKNOWN, f"{server.name} is {where}, so whether it got the query was not seen")
        if flaw := self._flaw_at(homes, view):
            return Judgement(extension_pb2.FATE_UNKNOWN, f"not seen at {server.name}, but {flaw}")
        if self._answers_unseen(homes, view):
            why = "others that it answered were not seen there either: it may also run where nobody watches"
            return Judgement(extension_pb2.FATE_UNKNOWN, f"not seen at {server.name}, but {why}")
        left = f"left {_node(view)}, not seen at {server.name}, though {', '.join(homes.nodes)} lost nothing"
        return Judgement(extension_pb2.LOST_TO_SERVER, left)

    def _flaw_at(self, homes: Homes, view: View) -> str:
        """Why a query that was not seen at its server may have been there."""
        flaw = next((flaw for node in homes.nodes if (flaw := self._reach.flaw(node, view.time, view.changed))), "")
        return flaw or (self._reach.flaw_anywhere(view.time, view.changed) if homes.anywhere else "")

    def _answers_unseen(self, homes: Homes, view: View) -> bool:
        """Whether the server answered any query that was not seen at it, though it would have been."""
        return any(not self._flaw_at(homes, each) for each in self._unseen.like(view))

    def _failed(self, request: Request, upstream: Sequence[Request]) -> Judgement:
        view = request.view
        assert view.dns is not None
        rcode = rcode_name(view.dns.rcode)
        if blamed := self._blamed(request, upstream, f"{_server(request)} answered {rcode}"):
            return blamed
        if flaw := self._server_flaw(request):
            evidence = f"{rcode} from {view.server.name}; whether it asked an upstream was not seen: {flaw}"
            return Judgement(extension_pb2.FATE_UNKNOWN, evidence)
        alone = self._alone((request.at_server or view).server, upstream)
        return Judgement(extension_pb2.SERVER_REFUSED_IT, f"{_server(request)} answered {rcode} itself{alone}")

    def _slow(self, request: Request, upstream: Sequence[Request]) -> Judgement:
        view, server = request.view, request.at_server
        if blamed := self._blamed(request, upstream, f"{_server(request)} waited"):
            return blamed
        if server is None or server.latency is None or view.latency is None:
            flaw = self._server_flaw(request) or "its own view of the query was not seen"
            return Judgement(extension_pb2.FATE_UNKNOWN, f"{view.server.name} or the way there: {flaw}")
        took = in_words(server.latency)
        if 2 * server.latency < view.latency:
            evidence = f"{server.server.name} answered within {took}: the rest of {in_words(view.latency)} passed on the way"
            return Judgement(extension_pb2.FATE_UNKNOWN, evidence)
        return self._slow_server(request, server, f"{server.server.name} took {took}", upstream)

    def _blamed(self, request: Request, upstream: Sequence[Request], got: str) -> Judgement | None:
        """What the upstream has to answer for, if it was seen that it did not do so."""
        blamed = blame(upstream, request, got)
        if blamed is None or (silent := blamed.silent) is None:
            return Judgement(blamed.fate, blamed.evidence) if blamed is not None else None
        if flaw := self._reach.flaw(silent.node, silent.time, max(silent.changed, request.view.changed)):
            evidence = f"{got}; it asked {silent.server.name}; whether that answered was not seen: {flaw}"
            return Judgement(extension_pb2.FATE_UNKNOWN, evidence)
        return Judgement(blamed.fate, blamed.evidence)

    def _alone(self, server: Party, upstream: Sequence[Request]) -> str:
        """The end of a sentence about a server that has nobody to blame."""
        if upstream:
            return ", though its upstream had answered"
        return "; it asked nobody else" if told_apart(server) and not self._reach.hides(server) else ""

    def _server_flaw(self, request: Request) -> str:
        """Why nothing is known of what the server did; "" if all of it is."""
        view = request.at_server or request.view
        if self._reach.hides(view.server):
            return f"flows of the namespace {view.server.namespace} are not shown to you"
        if request.at_server is not None:
            flaw = self._reach.flaw(view.node, view.time, view.changed)
            return flaw or ("" if told_apart(view.server) else "it may have asked from another address")
        nodes = self._servers.homes(view).nodes
        if not nodes:
            return "the server is outside of what is watched" if not view.server.in_cluster else "the server's node is not known"
        flaw = next((flaw for node in nodes if (flaw := self._reach.flaw(node, view.time, view.changed))), "")
        # Answered, and no server that is watched saw it: a cache on the way, or a server that nobody knows.
        return flaw or "none of its pods that are watched saw the query"


def _server(request: Request) -> str:
    return (request.at_server or request.view).server.name


def _node(view: View) -> str:
    return view.node or "the client's node"
