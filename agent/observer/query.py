"""Requests, checked: what to match, what to select, after what to go on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from flows.agent.observer.positions import NO_NUMBER, Resume, reach_of
from flows.flow.columns import Memo
from flows.flow.filter import Selection, has_patterns
from flows.flow.request import MILLISECOND, RequestError, check, check_delay, check_filters
from flows.proto import flows_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.field_mask_pb2 import FieldMask

    from flows.flow.columns import FlowTable, Mask
    from flows.flow.endpoint import Endpoint
    from flows.flow.filter import Filter

    Matches = Callable[[FlowTable], Mask]

# Dashboards and people ask the same again. A filter keeps a byte per condition and endpoint: some KB, and 2.5 MB at the most for
# lists of this size and 10,000 endpoints. Patterns keep up to 32 MB, and compile within milliseconds: they are not remembered.
REMEMBERED_FILTERS = 16
REMEMBERED_BYTES = 2_048
DELAY_NS = 100 * MILLISECOND  # between batches: less than people notice, and ten wake-ups a second


@dataclass(frozen=True, slots=True)
class Request:
    """A GetFlowsRequest that was checked. mask: which fields to send; extensions: whether to send Flow.extensions."""

    matches: Matches
    selection: Selection = field(default_factory=Selection)
    mask: FieldMask | None = None
    extensions: bool = True
    delay_ns: int = 2 * DELAY_NS  # as long as the kernel's records gather anyway
    resume: Resume | None = None


def parse_request(request: observer_pb2.GetFlowsRequest, *, extensions: bool = True) -> Request:
    """Check a request; extensions: whether to send them if no mask says. Raises RequestError with what was expected."""
    checked = check(request, extensions=extensions)
    return Request(_matches(request), checked.selection, checked.mask, checked.extensions)


def parse_flows_request(request: flows_pb2.FlowsRequest, node: str) -> Request:
    """Check a request for batches to the agent of a node. Raises RequestError with what was expected."""
    parsed = parse_request(request.query)
    if request.HasField("namespaces"):
        parsed = replace(parsed, matches=within_namespaces(parsed.matches, frozenset(request.namespaces.names)))
    return replace(parsed, delay_ns=check_delay(request) or DELAY_NS, resume=_resume(request, node))


def within_namespaces(matches: Matches, names: frozenset[str]) -> Matches:
    """The filter, for flows with an end in one of the namespaces, or at a Service of one."""

    def inside(endpoint: Endpoint) -> bool:
        return endpoint.namespace in names or (endpoint.service is not None and endpoint.service.namespace in names)

    sides = (("source", Memo(inside)), ("destination", Memo(inside)))

    def limited(table: FlowTable) -> Mask:
        source, destination = (table.categories(side).where(memo) for side, memo in sides)
        return matches(table) & (source | destination)

    return limited


def _resume(request: flows_pb2.FlowsRequest, node: str) -> Resume | None:
    if not request.resume:
        return None
    if len(request.resume) > 1 or request.resume[0].node not in ("", node):
        named = ", ".join(position.node for position in request.resume[:8])
        raise RequestError(f"resume: positions of {named}, expected one of {node}, whose agent this is")
    reach = reach_of(request.resume[0])
    if not 0 <= reach.first <= reach.received < NO_NUMBER:
        raise RequestError(f"resume: from {reach.first}, received {reach.received} is no position that an agent gave")
    return Resume(request.resume[0].instance, reach)


def _matches(request: observer_pb2.GetFlowsRequest) -> Filter:
    """The filter of a request's two lists. Raises RequestError."""
    lists = observer_pb2.GetFlowsRequest(whitelist=request.whitelist, blacklist=request.blacklist)
    if lists.ByteSize() > REMEMBERED_BYTES or has_patterns(lists.whitelist) or has_patterns(lists.blacklist):
        return check_filters(lists)
    return _remembered(lists.SerializeToString(deterministic=True))


@lru_cache(maxsize=REMEMBERED_FILTERS)
def _remembered(lists: bytes) -> Filter:
    """A repeated request finds what its filter has learnt of names. Raises RequestError.

    Filters are for one thread at a time: they are asked while the store's lock is held.
    """
    return check_filters(observer_pb2.GetFlowsRequest.FromString(lists))
