"""Coverage: how far an answer can be trusted, from what each node's agent said and what the relay itself knows.

The time asked for begins at `since`. Without it, and with a number of flows that was reached, it begins at the oldest flow
shown: what was lost later might have been among them. Otherwise it is as far back as each agent goes, so that only losses in
what is kept count.

Who may see some namespaces only is told which nodes there are, their states, and when their answers have gaps: that is what
his answer's worth depends on. How much was lost, and texts that name addresses or others' pods, are not for him.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from flows.flow.losses import ON_PURPOSE
from flows.proto import flows_pb2, relay_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from flows.relay.clock import Clock

MOST_GAPS: Final = 64  # of one node; beyond, the oldest are told as one
MOST_COUNT: Final = (1 << 64) - 1  # what Gap.count holds; an agent that counts wrong must not break an answer
MOST_NS: Final = (1 << 63) - 1  # nor one that tells of times which no clock has
OUT_OF_DATE: Final = "the list of nodes may be out of date"
NO_NODES: Final = "no agents are known"


@dataclass(frozen=True, slots=True)
class Gap:
    """A time of which a node's flows are missing, or some of them; None: from or to where nobody knows. By the relay's clock."""

    reason: flows_pb2.GapReason
    from_ns: int | None
    to_ns: int | None
    count: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One node, as far as its answers go. from_ns: None: it did not say; times by the relay's clock."""

    name: str
    state: relay_pb2.NodeState
    from_ns: int | None = None
    to_ns: int | None = None
    gaps: tuple[Gap, ...] = ()
    clock: Clock | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """The time asked for; oldest_ns: of the oldest flow shown, if a number of newest flows was asked for and reached."""

    since_ns: int | None
    until_ns: int | None
    oldest_ns: int | None = None

    @property
    def from_ns(self) -> int | None:
        """Where it begins; None: as far back as each node goes."""
        known = [ns for ns in (self.since_ns, self.oldest_ns) if ns is not None]
        return max(known, default=None)


def coverage(
    asked: Asked, nodes: Iterable[Node], flows: int, *, discovery: str = "", limited: bool = False
) -> flows_pb2.Coverage:
    """Of an answer with so many flows. discovery: why the list of nodes may be out of date; limited: the caller is."""
    told = flows_pb2.Coverage(flows=flows)
    _set(told, "since", asked.since_ns)
    _set(told, "until", asked.until_ns)
    relevant = [replace(node, gaps=_relevant(asked, node)) for node in sorted(nodes, key=lambda node: node.name)]
    told.complete = bool(relevant) and not discovery
    for node in relevant:
        told.complete = told.complete and not node.gaps and node.state == relay_pb2.NODE_CONNECTED
        told.nodes.append(_message(node, limited=limited))
    doubt = f"{OUT_OF_DATE}: {discovery}" if discovery else NO_NODES if not relevant else ""
    if doubt:
        told.nodes.add(state=relay_pb2.UNKNOWN_NODE_STATE, message=OUT_OF_DATE if limited and discovery else doubt)
    return told


def _relevant(asked: Asked, node: Node) -> tuple[Gap, ...]:
    """The gaps that are of the time asked for, with the one before what the node keeps."""
    begin, gaps = asked.from_ns, node.gaps
    if begin is not None:
        gaps = tuple(gap for gap in gaps if gap.to_ns is None or gap.to_ns >= begin)
        known = any(gap.from_ns is None or gap.from_ns <= begin for gap in gaps)
        if node.from_ns is not None and node.from_ns > begin and not known:
            why = "its agent was started, or what it keeps begins, only then"
            gaps = (Gap(flows_pb2.GAP_REASON_UNKNOWN, begin, node.from_ns, message=why), *gaps)
    if asked.until_ns is not None:
        until = asked.until_ns
        gaps = tuple(gap for gap in gaps if gap.from_ns is None or gap.from_ns <= until)
    return _few(gaps)


def _few(gaps: tuple[Gap, ...]) -> tuple[Gap, ...]:
    """Ordered by their beginning; not more than MOST_GAPS."""
    ordered = tuple(sorted(gaps, key=lambda gap: gap.from_ns or 0))
    if len(ordered) <= MOST_GAPS:
        return ordered
    old, rest = ordered[: -MOST_GAPS + 1], ordered[-MOST_GAPS + 1 :]
    ends = [gap.to_ns for gap in old]
    last = None if None in ends else max(ns for ns in ends if ns is not None)
    joined = Gap(
        old[0].reason, old[0].from_ns, last, sum(gap.count for gap in old), f"{len(old)} gaps, the first: {old[0].message}"
    )
    return (joined, *rest)


def _message(node: Node, *, limited: bool) -> flows_pb2.NodeCoverage:
    told = flows_pb2.NodeCoverage(node=node.name, state=node.state, message="" if limited else node.message)
    _set(told, "from", node.from_ns)
    _set(told, "to", node.to_ns)
    for gap in node.gaps:
        added = told.gaps.add(reason=gap.reason)
        _set(added, "from", gap.from_ns)
        _set(added, "to", gap.to_ns)
        if not limited:
            added.count, added.message = min(gap.count, MOST_COUNT), gap.message
    if node.clock is not None:
        told.clock_offset.FromNanoseconds(node.clock.offset_ns)
        told.clock_error.FromNanoseconds(node.clock.error_ns)
    return told


def _set(message: flows_pb2.Coverage | flows_pb2.NodeCoverage | flows_pb2.Gap, name: str, ns: int | None) -> None:
    if ns is not None:
        timestamp: Timestamp = getattr(message, name)
        timestamp.seconds, timestamp.nanos = divmod(ns, 1_000_000_000)


@dataclass(slots=True)
class Told:
    """What one node's agent said in the streams that it gave to one answer, one after the other."""

    from_ns: int | None = None
    to_ns: int | None = None
    answered: bool = False  # whether its last stream said what it covers
    _before: list[Gap] = field(default_factory=list)  # of streams that ended
    _gaps: list[Gap] = field(default_factory=list)  # of this one, as said last
    _losses: list[Gap] = field(default_factory=list)  # since then

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """All gaps so far."""
        return (*self._before, *self._gaps, *self._losses)

    def begin(self) -> None:
        """A new stream begins."""
        self._before = list(_few(self.gaps))
        self._gaps, self._losses, self.answered = [], [], False

    def cover(self, node: flows_pb2.NodeCoverage, offset_ns: int) -> None:
        """Take what the agent says, by its clock, of all of the stream so far."""
        first, last = _ns(node, "from", offset_ns), _ns(node, "to", offset_ns)
        if first is not None:
            self.from_ns = first if self.from_ns is None else min(first, self.from_ns)
        self.to_ns = last if last is not None else self.to_ns
        self._gaps = [
            Gap(gap.reason, _ns(gap, "from", offset_ns), _ns(gap, "to", offset_ns), gap.count, gap.message) for gap in node.gaps
        ]
        self._losses, self.answered = [], True

    def lose(self, losses: Sequence[flows_pb2.Loss], offset_ns: int) -> None:
        """Take losses that came with flows."""
        for loss in losses:
            reason = flows_pb2.SAMPLED if loss.reason in ON_PURPOSE else flows_pb2.LOST
            gap = Gap(reason, _ns(loss, "first", offset_ns), _ns(loss, "last", offset_ns), loss.count, loss.reason)
            last = self._losses[-1] if self._losses else None
            if last is not None and last.message == gap.message:
                self._losses[-1] = replace(last, to_ns=gap.to_ns, count=last.count + gap.count)
            else:
                self._losses = list(_few((*self._losses, gap)))


def _ns(message: flows_pb2.NodeCoverage | flows_pb2.Gap | flows_pb2.Loss, name: str, offset_ns: int) -> int | None:
    if not message.HasField(name):
        return None
    timestamp: Timestamp = getattr(message, name)
    return min(max(timestamp.seconds * 1_000_000_000 + timestamp.nanos - offset_ns, -MOST_NS), MOST_NS)
