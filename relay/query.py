"""Query: what a client asked for, checked, and what each agent is asked therefore."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from flows.flow.request import MILLISECOND, SECOND, RequestError, check, check_delay, check_filters
from flows.proto import flows_pb2, observer_pb2
from flows.relay.mask import Mask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.flow.filter import Selection
    from flows.relay.clock import Clock

SLACK_NS: Final = 10 * MILLISECOND  # clocks run apart between two measurements: so much later an answer may end on one node
NO_NUMBER: Final = 1 << 62  # of no flow
MOST_FLOWS: Final = 1_000_000
"""The most flows that a number may ask for: the newest are held until the last is known, each of some 600 bytes, and so by every
such request at once. Also the most that `hubble observe --last` takes of a file."""
UNLIMITED: Final = 1 << 63  # Hubble's --all is a number that no agent keeps
DELAY_NS: Final = 100 * MILLISECOND  # between the batches of one agent: less than people notice
SLOW_NS: Final = SECOND
"""The longest delay that the relay chooses. A gRPC message costs some 100 us of a core on the way through, whatever is in it,
so 1,000 agents at 100 ms would take all of one; at 1 s they take a tenth, and each batch has ten times the flows."""
AGENTS_AT_DELAY: Final = 100  # up to so many agents need no longer one

# What the relay itself needs of flows besides what a field mask leaves: ends for access, the rest for joining both views.
NEEDED: Final = ("source", "destination", "source_service", "destination_service", "IP", "l4", "extensions")
PLAIN_NEEDED: Final = ("time", "node_name", "uuid", "source", "destination", "source_service", "destination_service")


@dataclass(frozen=True, slots=True)
class Query:
    """A checked request. Times in ns since 1970 by the relay's clock; whoever sends it to an agent shifts them.

    mask: what is sent of each flow; extensions: whether Flow.extensions are. delay_ns: None: as the relay sees fit.
    positions: by node, where to go on. namespaces: the limit that the request itself sets. began_ns: when it was asked.
    """

    request: observer_pb2.GetFlowsRequest
    selection: Selection
    mask: Mask | None = None
    extensions: bool = True
    delay_ns: int | None = None
    positions: Mapping[str, flows_pb2.Position] = field(default_factory=dict)
    namespaces: frozenset[str] | None = None
    began_ns: int = 0

    @property
    def limited(self) -> bool:
        """Whether a number of flows limits the answer. One that goes on after positions is not."""
        return 0 < self.selection.number < UNLIMITED and not self.positions

    @property
    def since_ns(self) -> int | None:
        """The begin of the time asked for; None: as far back as agents go."""
        selection = self.selection
        if self.positions:
            since = min(position.watermark_ns for position in self.positions.values())
            return since if since > 0 else None
        return self.began_ns if selection.follow and not selection.number and selection.since is None else selection.since

    @property
    def whole(self) -> observer_pb2.GetFlowsRequest:
        """The request without its field mask: joins see all of a flow."""
        request = observer_pb2.GetFlowsRequest()
        request.CopyFrom(self.request)
        request.ClearField("field_mask")
        return request


def parse(request: observer_pb2.GetFlowsRequest, *, extensions: bool = True, now_ns: int | None = None) -> Query:
    """Check a request of Observer; extensions: whether to send them if no mask says. Raises RequestError."""
    checked = check(request, extensions=extensions)
    if MOST_FLOWS < request.number < UNLIMITED:
        cure = "ask for a time with since and until, or for all"
        raise RequestError(f"number: {request.number} flows are more than {MOST_FLOWS}: {cure}")
    check_filters(request)
    mask = Mask(checked.mask) if checked.mask is not None else None
    return Query(request, checked.selection, mask, checked.extensions, began_ns=now_ns or time.time_ns())


def parse_batched(request: flows_pb2.FlowsRequest, *, now_ns: int | None = None) -> Query:
    """Check a request of Flows. Raises RequestError."""
    positions = {position.node: position for position in request.resume}
    if len(positions) < len(request.resume):
        raise RequestError("resume: expected one position of each node")
    for position in positions.values():
        if not getattr(position, "from") <= position.received < NO_NUMBER:
            raise RequestError(f"resume: the position of {position.node} is none that a batch had")
    limit = frozenset(request.namespaces.names) if request.HasField("namespaces") else None
    query = parse(request.query, now_ns=now_ns)
    return replace(query, delay_ns=check_delay(request), positions=positions, namespaces=limit)


def delay_ns(query: Query, agents: int) -> int:
    """How often each of so many agents is to send a batch at least: the more there are, the less often, if the client lets us."""
    fit = min(max(DELAY_NS, DELAY_NS * agents // AGENTS_AT_DELAY), SLOW_NS)
    return fit if query.delay_ns is None else min(fit, query.delay_ns)


def offset_ns(clock: Clock | None) -> int:
    """By how much a node's times are corrected: its clock's offset, unless that may be nothing but the measurement's error."""
    if clock is None or abs(clock.offset_ns) <= clock.error_ns:
        return 0
    return clock.offset_ns


@dataclass(frozen=True, slots=True)
class Start:
    """Where one agent's stream begins. position: after it; late: the agent joins what is followed already: since the time asked
    for, or since it was asked.
    """

    position: flows_pb2.Position | None = None
    late: bool = False


def for_agent(
    query: Query, start: Start, clock: Clock | None, agents: int, namespaces: frozenset[str] | None
) -> flows_pb2.FlowsRequest:
    """What an agent is asked that serves flows.v1.Flows. namespaces: what the caller may see."""
    asked = _asked(query, start, clock)
    if asked.HasField("field_mask"):
        asked.field_mask.paths.extend(NEEDED)
    request = flows_pb2.FlowsRequest(query=asked)
    request.max_delay.FromNanoseconds(delay_ns(query, agents))
    if start.position is not None and start.position.instance:
        request.resume.append(start.position)
        request.resume[0].node = ""  # it may call its node otherwise than its discovery does
    elif start.position is not None:
        request.query.since.FromNanoseconds(start.position.watermark_ns + 1)
    limit = namespaces if namespaces is not None else query.namespaces
    if limit is not None:
        request.namespaces.names.extend(sorted(limit))
    return request


def for_observer(query: Query, start: Start, clock: Clock | None) -> observer_pb2.GetFlowsRequest:
    """What an agent is asked that serves only observer.Observer: to go on after a position is to ask by time."""
    asked = _asked(query, start, clock)
    if asked.HasField("field_mask"):
        asked.field_mask.paths.extend(PLAIN_NEEDED)
    if start.position is not None:
        asked.since.FromNanoseconds(max(0, start.position.watermark_ns + 1))
    return asked


def _asked(query: Query, start: Start, clock: Clock | None) -> observer_pb2.GetFlowsRequest:
    """Filters, mask and selection, in the node's time."""
    asked = observer_pb2.GetFlowsRequest()
    asked.CopyFrom(query.request)
    shift, selection = offset_ns(clock), query.selection
    if start.position is not None or start.late:
        for name in ("number", "first", "since"):
            asked.ClearField(name)
        if start.position is None:
            asked.since.FromNanoseconds((query.began_ns if selection.since is None else selection.since) + shift)
    elif selection.since is not None and shift:
        asked.since.FromNanoseconds(selection.since + shift)
    if selection.until is not None and shift:
        asked.until.FromNanoseconds(selection.until + shift)
    if selection.until is None and not selection.follow and clock is not None:  # all nodes' answers end at one moment
        asked.until.FromNanoseconds(query.began_ns + clock.offset_ns + max(SLACK_NS, clock.error_ns))
    return asked
