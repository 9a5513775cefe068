"""Reach: of which nodes, and of which times, "not seen" means that it was not there."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from flows.flow.answers.view import nanoseconds
from flows.proto import flows_pb2, relay_pb2

if TYPE_CHECKING:
    from flows.flow.answers.party import Party
    from flows.proto.flows_pb2 import Coverage, Gap, NodeCoverage

_GAPS = {
    flows_pb2.DOWN: " (it was down)",
    flows_pb2.LOST: " (it lost events)",
    flows_pb2.OVERWRITTEN: " (it no longer has all flows)",
    flows_pb2.LATE: " (it was not watched yet)",
    flows_pb2.SAMPLED: " (it looks at samples only)",
}
# Flows are there, only names are not.
_WITHOUT_LOSS = frozenset({flows_pb2.UNNAMED})


class Reach:
    """What coverage tells; several answers may tell of the same nodes. told: whether any did."""

    def __init__(self, *coverages: Coverage, doubt: str = "") -> None:
        """doubt: why nothing follows from what was not seen, whatever was watched; "": nothing speaks against it."""
        self.doubt = doubt
        self._nodes: dict[str, list[NodeCoverage]] = {}
        self._nameless = False
        self.told = False
        # Those of which the caller may see flows; None: nobody limits what is shown.
        self.namespaces: frozenset[str] | None = None
        for coverage in coverages:
            self.add(coverage)

    def add(self, coverage: Coverage) -> None:
        """The end of one more answer."""
        self.told = True
        fresh: dict[str, list[NodeCoverage]] = {}
        for node in coverage.nodes:
            self._nameless |= not node.node
            fresh.setdefault(node.node, []).append(node)
        self._nodes |= fresh

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
        return next((flaw for each in self._nodes[node] if (flaw := _flaw(each, from_ns, to_ns))), "")

    def hides(self, end: Party) -> bool:
        """Whether flows of an end to others than the caller's own may be there without being shown."""
        return self.namespaces is not None and bool(end.namespace) and end.namespace not in self.namespaces

    def flaw_anywhere(self, from_ns: int, to_ns: int) -> str:
        """The same of all nodes: for what may have been at any of them."""
        if self.doubt or not self.told:
            return self.doubt or "the server does not tell what was watched"
        if self._nameless or not self._nodes:
            return "not all nodes are known"
        return next((flaw for node in sorted(self._nodes) if (flaw := self.flaw(node, from_ns, to_ns))), "")


def _flaw(node: NodeCoverage, from_ns: int, to_ns: int) -> str:
    if node.state not in {relay_pb2.NODE_CONNECTED, relay_pb2.UNKNOWN_NODE_STATE}:
        return f"{node.node} did not answer"
    if node.HasField("from") and nanoseconds(getattr(node, "from")) > from_ns:
        return f"{node.node} was not watched then"
    gap = next((gap for gap in node.gaps if gap.reason not in _WITHOUT_LOSS and _within(gap, from_ns, to_ns)), None)
    return f"{node.node} has a gap then{_GAPS.get(gap.reason, '')}" if gap is not None else ""


def _within(gap: Gap, from_ns: int, to_ns: int) -> bool:
    begin = nanoseconds(getattr(gap, "from")) if gap.HasField("from") else None
    end = nanoseconds(gap.to) if gap.HasField("to") else None
    return (begin is None or begin <= to_ns) and (end is None or end >= from_ns)
