"""Requests, checked: what to match, what to select, after what to go on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from flows.agent.observer.positions import NO_NUMBER, Resume, reach_of
from flows.flow.columns import Memo
from flows.flow.filter import FilterError, Selection, compile_filters
from flows.proto import flow_pb2, flows_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.field_mask_pb2 import FieldMask
    from google.protobuf.timestamp_pb2 import Timestamp

    from flows.flow.columns import FlowTable, Mask
    from flows.flow.endpoint import Endpoint
    from flows.flow.filter import Filter

    Matches = Callable[[FlowTable], Mask]

REMEMBERED_FILTERS = 64  # dashboards and people ask the same again; a filter keeps some bytes per endpoint
MILLISECOND, SECOND = 1_000_000, 1_000_000_000
MAX_SECONDS = 253_402_300_799  # the end of 9999
DELAY_NS = 100 * MILLISECOND  # between batches: less than people notice, and ten wake-ups a second
MIN_DELAY_NS, MAX_DELAY_NS = 10 * MILLISECOND, 5_000 * MILLISECOND


class RequestError(Exception):
    """The request cannot be answered as it stands; the text says what to change."""


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
    if request.first and request.follow:
        raise RequestError("first cannot be specified with follow")
    mask = request.field_mask if request.HasField("field_mask") and request.field_mask.paths else None
    if mask is not None and not mask.IsValidForDescriptor(flow_pb2.Flow.DESCRIPTOR):  # type: ignore[arg-type]
        raise RequestError(f"field_mask: not all of {', '.join(mask.paths)} are paths of flow.Flow, e.g. source.pod_name")
    lists = observer_pb2.GetFlowsRequest(whitelist=request.whitelist, blacklist=request.blacklist)
    try:
        matches = _compiled(lists.SerializeToString(deterministic=True))
    except FilterError as error:
        raise RequestError(str(error)) from error
    if mask is not None:
        extensions = any(path.split(".")[0] == "extensions" for path in mask.paths)
    return Request(matches, _selection(request), mask, extensions)


def parse_flows_request(request: flows_pb2.FlowsRequest, node: str) -> Request:
    """Check a request for batches to the agent of a node. Raises RequestError with what was expected."""
    parsed = parse_request(request.query)
    if request.HasField("namespaces"):
        parsed = replace(parsed, matches=within_namespaces(parsed.matches, frozenset(request.namespaces.names)))
    return replace(parsed, delay_ns=_delay(request), resume=_resume(request, node))


def within_namespaces(matches: Matches, names: frozenset[str]) -> Matches:
    """The filter, for flows with an end in one of the namespaces, or at a Service of one."""

    def inside(endpoint: Endpoint) -> bool:
        return endpoint.namespace in names or (endpoint.service is not None and endpoint.service.namespace in names)

    sides = (("source", Memo(inside)), ("destination", Memo(inside)))

    def limited(table: FlowTable) -> Mask:
        source, destination = (table.categories(side).where(memo) for side, memo in sides)
        return matches(table) & (source | destination)

    return limited


def _delay(request: flows_pb2.FlowsRequest) -> int:
    if not request.HasField("max_delay"):
        return DELAY_NS
    delay = request.max_delay.seconds * SECOND + request.max_delay.nanos
    if not MIN_DELAY_NS <= delay <= MAX_DELAY_NS:
        raise RequestError(f"max_delay: {delay / SECOND:g} s is out of range, expected 10 ms to 5 s")
    return delay


def _resume(request: flows_pb2.FlowsRequest, node: str) -> Resume | None:
    if not request.resume:
        return None
    if len(request.resume) > 1 or request.resume[0].node != node:
        named = ", ".join(position.node for position in request.resume[:8])
        raise RequestError(f"resume: positions of {named}, expected one of {node}, whose agent this is")
    reach = reach_of(request.resume[0])
    if not 0 <= reach.first <= reach.received < NO_NUMBER:
        raise RequestError(f"resume: from {reach.first}, received {reach.received} is no position that an agent gave")
    return Resume(request.resume[0].instance, reach)


@lru_cache(maxsize=REMEMBERED_FILTERS)
def _compiled(lists: bytes) -> Filter:
    """The filter of a request's two lists. A repeated request finds what its filter has learnt of names.

    Filters are for one thread at a time: they are asked while the store's lock is held.
    """
    request = observer_pb2.GetFlowsRequest.FromString(lists)
    return compile_filters(request.whitelist, request.blacklist)


def _selection(request: observer_pb2.GetFlowsRequest) -> Selection:
    return Selection(
        number=request.number,
        first=request.first,
        follow=request.follow,
        since=time_of("since", request.since) if request.HasField("since") else None,
        until=time_of("until", request.until) if request.HasField("until") else None,
    )


def time_of(name: str, timestamp: Timestamp) -> int:
    """Nanoseconds since 1970 of a request's field. Raises RequestError for what is none (google/protobuf/timestamp.proto)."""
    if abs(timestamp.seconds) > MAX_SECONDS or not 0 <= timestamp.nanos < SECOND:
        raise RequestError(f"{name}: {timestamp.seconds} s and {timestamp.nanos} ns is no time of the years 1 to 9999")
    return timestamp.seconds * SECOND + timestamp.nanos
