"""Requests: what a GetFlowsRequest or a FlowsRequest may say, checked alike by agents and relays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.flow.filter import FilterError, Selection, compile_filters
from flows.proto import flow_pb2, flows_pb2, observer_pb2

if TYPE_CHECKING:
    from google.protobuf.field_mask_pb2 import FieldMask
    from google.protobuf.timestamp_pb2 import Timestamp

    from flows.flow.filter import Filter

MILLISECOND, SECOND = 1_000_000, 1_000_000_000
MAX_SECONDS = 253_402_300_799  # the end of 9999 (google/protobuf/timestamp.proto)
MIN_DELAY_NS, MAX_DELAY_NS = 10 * MILLISECOND, 5 * SECOND


class RequestError(Exception):
    """The request cannot be answered as it stands; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a GetFlowsRequest asks for. mask: which fields to send; extensions: whether to send Flow.extensions."""

    selection: Selection
    mask: FieldMask | None
    extensions: bool


def check(request: observer_pb2.GetFlowsRequest, *, extensions: bool = True) -> Checked:
    """All but the filters. extensions: whether to send them if no mask says. Raises RequestError with what was expected."""
    if request.first and request.follow:
        raise RequestError("first cannot be specified with follow")
    mask = request.field_mask if request.field_mask.paths else None
    if mask is not None:
        if not mask.IsValidForDescriptor(flow_pb2.Flow.DESCRIPTOR):  # type: ignore[arg-type]
            raise RequestError(f"field_mask: not all of {', '.join(mask.paths)} are paths of flow.Flow, e.g. source.pod_name")
        extensions = any(path.partition(".")[0] == "extensions" for path in mask.paths)
    return Checked(_selection(request), mask, extensions)


def check_filters(request: observer_pb2.GetFlowsRequest) -> Filter:
    """The request's two lists, compiled. Raises RequestError with what was expected."""
    try:
        return compile_filters(request.whitelist, request.blacklist)
    except FilterError as error:
        raise RequestError(str(error)) from error


def check_delay(request: flows_pb2.FlowsRequest) -> int | None:
    """How often a follower wants a batch at least, in ns; None if it does not say. Raises RequestError."""
    if not request.HasField("max_delay"):
        return None
    delay = request.max_delay.seconds * SECOND + request.max_delay.nanos
    if not MIN_DELAY_NS <= delay <= MAX_DELAY_NS:
        raise RequestError(f"max_delay: {delay / SECOND:g} s is out of range, expected 10 ms to 5 s")
    return delay


def _selection(request: observer_pb2.GetFlowsRequest) -> Selection:
    return Selection(
        number=request.number,
        first=request.first,
        follow=request.follow,
        since=time_of("since", request.since) if request.HasField("since") else None,
        until=time_of("until", request.until) if request.HasField("until") else None,
    )


def time_of(name: str, timestamp: Timestamp) -> int:
    """Nanoseconds since 1970 of a request's field. Raises RequestError for what no Timestamp may be."""
    if abs(timestamp.seconds) > MAX_SECONDS or not 0 <= timestamp.nanos < SECOND:
        raise RequestError(f"{name}: {timestamp.seconds} s and {timestamp.nanos} ns is no time of the years 1 to 9999")
    return timestamp.seconds * SECOND + timestamp.nanos
