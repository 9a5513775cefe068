"""Reach: of which nodes, and of which times, "not seen" means that it was not there."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from flows.flow.answers.former import BEGINNING, END, Flaw, Former
from flows.flow.answers.view import nanoseconds
from flows.proto import flows_pb2, relay_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flows.flow.answers.party import Party
    from flows.proto.flows_pb2 import Coverage, NodeCoverage

_GAPS = {
    flows_pb2.DOWN: " (it was down)",
    flows_pb2.LOST: " (it lost events)",
    flows_pb2.OVERWRITTEN: " (it no longer has all flows)",
    flows_pb2.LATE: " (it was not watched yet)",
    flows_pb2.SAMPLED: " (it looks at samples only)",
}
# Times of which it is remembered whether all nodes were seen.
MOST_TIMES = 16_384
# Flows are there, only names are not.
_WITHOUT_LOSS = frozenset({flows_pb2.UNNAMED})


class _Known(NamedTuple):
    """A node, as one answer tells of it. away: why it has told nothing, of whatever time; "": it has."""

    away: str
    flaws: list[Flaw]

    def flaw(self, from_ns: int, to_ns: int) -> str:
        return self.away or next((each.why for each in self.flaws if each.touches(from_ns, to_ns)), "")

    def former(self, since: int, until: int) -> list[Flaw]:
        """The same once other answers have told of what was not between these times."""
        flaws = [Flaw(each.begin, min(each.end, max(until, each.begin)), each.why) for each in self.flaws]
        return [Flaw(since, until, self.away), *flaws] if self.away else flaws


class Reach:
    """What coverage tells; several answers may tell of the same nodes. told: whether any did."""

    def __init__(self, *coverages: Coverage, doubt: str = "") -> None:
        """doubt: why nothing follows from what was not seen, whatever was watched; "": nothing speaks against it."""
        self.doubt = doubt
        self._nodes: dict[str, list[_Known]] = {}
        self._former, self._told_from, self._told_to = Former(), BEGINNING, BEGINNING
        self._anywhere: dict[tuple[int, int], str] = {}  # what was told of times, as one is asked for again and again
        self._nameless = False
        self.told = False
        # Those of which the caller may see flows; None: nobody limits what is shown.
        self.namespaces: frozenset[str] | None = None
        for coverage in coverages:
            self.add(coverage)

    def add(self, coverage: Coverage, told_to: int | None = None) -> None:
        """The end of one more answer.

        told_to: where it does not bring again what former ones should have brought, up to when flows have come: their flaws stay
        those of that time. None: it brings all that is looked into, and only its own flaws count.
        """
        fresh: dict[str, list[_Known]] = {}
        for node in coverage.nodes:
            self._nameless |= not node.node
            fresh.setdefault(node.node, []).append(_known(node))
        if told_to is not None:
            if self.told:
                self._remember(fresh)
            self._told_from, self._told_to = self._told_to, told_to
        self.told = True
        self._nodes |= fresh
        self._anywhere.clear()

    def _remember(self, fresh: Iterable[str]) -> None:
        """What the answer before lacked: nodes were away at some time since the one before that; or were not known."""
        for name, told in self._nodes.items():
            for each in told:
                self._former.keep(name, each.former(self._told_from, self._told_to))
        for name in set(fresh) - set(self._nodes):
            self._former.keep(name, [Flaw(BEGINNING, self._told_to, f"{name} was not known then")])

    def doubtful(self, doubt: str) -> Reach:
        """A copy with this doubt."""
        other = copy(self)
        other.doubt = doubt
        return other

    @property
    def nodes(self) -> frozenset[str]:
        """All that are known."""
        return frozenset(self._nodes) - {""}

    def flaw(self, node: str, from_ns: int, to_ns: int) -> str:
        """Why "not seen" means nothing at a node in that time; "" if it means that it was not there."""
        if self.doubt or not self.told:
            return self.doubt or "the server does not tell what was watched"
        if node not in self._nodes:
            return f"{node or 'its node'} has no agent"
        now = next((flaw for each in self._nodes[node] if (flaw := each.flaw(from_ns, to_ns))), "")
        return now or self._former.flaw(node, from_ns, to_ns)

    def hides(self, end: Party) -> bool:
        """Whether flows of an end to others than the caller's own may be there without being shown."""
        return self.namespaces is not None and bool(end.namespace) and end.namespace not in self.namespaces

    def flaw_anywhere(self, from_ns: int, to_ns: int) -> str:
        """The same of all nodes: for what may have been at any of them."""
        if self.doubt or not self.told:
            return self.doubt or "the server does not tell what was watched"
        if self._nameless or not self._nodes:
            return "not all nodes are known"
        if (known := self._anywhere.get((from_ns, to_ns))) is None:
            known = next((flaw for node in sorted(self._nodes) if (flaw := self.flaw(node, from_ns, to_ns))), "")
            if len(self._anywhere) >= MOST_TIMES:
                self._anywhere.clear()
            self._anywhere[from_ns, to_ns] = known
        return known


def _known(node: NodeCoverage) -> _Known:
    answered = node.state in {relay_pb2.NODE_CONNECTED, relay_pb2.UNKNOWN_NODE_STATE}
    return _Known("" if answered else f"{node.node} did not answer", list(_flaws(node)))


def _flaws(node: NodeCoverage) -> Iterator[Flaw]:
    if node.HasField("from"):
        yield Flaw(BEGINNING, nanoseconds(getattr(node, "from")) - 1, f"{node.node} was not watched then")
    for gap in node.gaps:
        if gap.reason not in _WITHOUT_LOSS:
            begin = nanoseconds(getattr(gap, "from")) if gap.HasField("from") else BEGINNING
            end = nanoseconds(gap.to) if gap.HasField("to") else END
            yield Flaw(begin, end, f"{node.node} has a gap then{_GAPS.get(gap.reason, '')}")
