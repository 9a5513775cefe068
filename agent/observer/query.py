"""One GetFlows request against the store: what matches, as messages, now and while it follows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.observer import other_ends
from flows.agent.observer.decode import Decoder, Row, set_time, to_rows
from flows.agent.store.table import FlowIds, StoreTable
from flows.flow.filter import Filter, FilterError, Selection, compile_filters, select
from flows.proto import flow_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.field_mask_pb2 import FieldMask
    from numpy.typing import NDArray

    from flows.agent.enrich.enricher import Enricher
    from flows.agent.store.store import FlowStore, Loss
    from flows.flow.endpoint import Endpoint

REMEMBERED_FILTERS = 64  # dashboards and people ask the same again; a filter keeps some bytes per endpoint
# How far back a follower looks for the other end of a connection: both ends' records are milliseconds apart.
FOLLOW_BACK = 4_096


class RequestError(Exception):
    """The request cannot be answered as it stands; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Request:
    """A GetFlowsRequest that was checked: what to match, what to select, which fields to send."""

    matches: Filter
    selection: Selection
    mask: FieldMask | None
    extensions: bool = True  # whether to fill Flow.extensions where no mask says


def parse_request(request: observer_pb2.GetFlowsRequest, *, extensions: bool = True) -> Request:
    """Check a request. Raises RequestError with what was expected."""
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
    return Request(matches, _selection(request), mask, extensions)


@lru_cache(maxsize=REMEMBERED_FILTERS)
def _compiled(lists: bytes) -> Filter:
    """The filter of a request's two lists. A repeated request finds what its filter has learnt of names. For one thread."""
    request = observer_pb2.GetFlowsRequest.FromString(lists)
    return compile_filters(request.whitelist, request.blacklist)


def _selection(request: observer_pb2.GetFlowsRequest) -> Selection:
    return Selection(
        number=request.number,
        first=request.first,
        follow=request.follow,
        since=request.since.ToNanoseconds() if request.HasField("since") else None,
        until=request.until.ToNanoseconds() if request.HasField("until") else None,
    )


class Endpoints:
    """Endpoints by number, as a sequence whose identity changes with the enricher's generation, as filters' memories require."""

    def __init__(self, enricher: Enricher) -> None:
        """A view of the enricher's endpoints as of now."""
        self.generation = enricher.generation
        self._enricher = enricher

    def __len__(self) -> int:
        return self._enricher.number_limit

    def __getitem__(self, number: int) -> Endpoint:
        return self._enricher.endpoint(number)


@dataclass(frozen=True, slots=True)
class Node:
    """This agent's node, as its flows show it."""

    name: str  # `cluster/node`
    labels: tuple[str, ...] = ()


@dataclass(slots=True)
class Selected:
    """A snapshot of the flows to show, in time order, with what is needed to decode them outside the lock."""

    numbers: list[int]
    rows: list[Row]
    others: list[Row | None]
    losses: list[Loss]


class Observer:
    """Answers queries; all state is in the store and the enricher."""

    def __init__(self, store: FlowStore, enricher: Enricher, node: Node, version: str) -> None:
        """version: of the agent, as emitter of its flows."""
        self.store, self.node = store, node
        self._enricher = enricher
        self._ids = FlowIds()
        self._decoder = Decoder(node.name, node.labels, version, store.processes, self._ids)
        self._endpoints = Endpoints(enricher)

    def _table(self, first: int, last: int) -> StoreTable:
        if self._endpoints.generation != self._enricher.generation:
            self._endpoints = Endpoints(self._enricher)
        endpoints: Any = self._endpoints
        node = (self.node.name, self.node.labels)
        return StoreTable(self.store, first, last, endpoints=endpoints, node=node, ids=self._ids)

    def history(self, request: Request) -> tuple[Selected, int]:
        """Flows of the past that the request selects, and the number from which on a follower goes on."""
        store, selection = self.store, request.selection
        with store.lock:
            last = store.written
            if selection.follow and not selection.number and selection.since is None:
                return Selected([], [], [], []), last
            table = self._table(store.oldest, last)
            times = table.numbers("time").values
            order = np.argsort(times, kind="stable")  # CPUs and sweeps write records a little out of order
            shown = select(request.matches(table)[order], times[order], selection)
            numbers = store.oldest + order[shown]
            passed = int(numbers.min()) if selection.number and len(numbers) else store.oldest
            losses = [loss for loss in store.losses if loss.position >= passed]
            return self._select(numbers, store.oldest, losses), last

    def news(self, request: Request, cursor: int) -> tuple[Selected, int, int]:
        """Matching flows from cursor on, the next cursor, and how many were overwritten before they could be read."""
        store = self.store
        with store.lock:
            last, first = store.written, max(cursor, store.oldest)
            losses = [loss for loss in store.losses if cursor < loss.position <= last]
            if first == last:
                return Selected([], [], [], losses), last, first - cursor
            table = self._table(first, last)
            numbers = first + np.flatnonzero(request.matches(table))
            return self._select(numbers, max(store.oldest, last - FOLLOW_BACK), losses), last, first - cursor

    def _select(self, numbers: NDArray[np.int64], back_to: int, losses: list[Loss]) -> Selected:
        if not len(numbers):
            return Selected([], [], [], losses)
        columns = self.store.take(numbers)
        order = np.argsort(columns["time"], kind="stable")
        numbers, columns = numbers[order], {name: column[order] for name, column in columns.items()}
        found = other_ends.find(self.store, columns, back_to)
        here = np.flatnonzero(found >= 0)
        others: list[Row | None] = [None] * len(numbers)
        for index, row in zip(here.tolist(), to_rows(self.store.take(found[here])), strict=True):
            others[index] = row
        return Selected(numbers.tolist(), to_rows(columns), others, losses)

    def responses(self, selected: Selected, request: Request) -> Iterator[observer_pb2.GetFlowsResponse]:
        """Messages for a snapshot: losses first, then flows."""
        for loss in selected.losses:
            yield self._lost(loss)
        flows = self._decoder.flows(selected.numbers, selected.rows, selected.others, self._enricher.endpoint)
        for flow in flows:
            if request.mask is not None:
                flow = _masked(flow, request.mask)  # noqa: PLW2901 - the same flow, with less in it
            elif not request.extensions:
                flow.ClearField("extensions")
            yield _response(flow)

    def overwritten(self, count: int, now_ns: int) -> observer_pb2.GetFlowsResponse:
        """What a follower is told that was too slow for the store."""
        event = flow_pb2.LostEvent(source=flow_pb2.HUBBLE_RING_BUFFER, num_events_lost=count)
        response = observer_pb2.GetFlowsResponse(lost_events=event, node_name=self.node.name)
        set_time(response.time, now_ns)
        return response

    def _lost(self, loss: Loss) -> observer_pb2.GetFlowsResponse:
        event = flow_pb2.LostEvent(source=flow_pb2.PERF_EVENT_RING_BUFFER, num_events_lost=loss.count)
        set_time(event.first, loss.first_ns)
        set_time(event.last, loss.last_ns)
        response = observer_pb2.GetFlowsResponse(lost_events=event, node_name=self.node.name)
        set_time(response.time, loss.last_ns)
        return response

    def namespaces(self) -> Sequence[tuple[str, str]]:
        """(cluster, namespace) of all endpoints that stored flows name, sorted."""
        used = self.store.endpoints_in_use().tolist()
        endpoints = [self._enricher.endpoint(number) for number in used]
        return sorted({(endpoint.cluster, endpoint.namespace) for endpoint in endpoints if endpoint.namespace})


def _masked(flow: flow_pb2.Flow, mask: FieldMask) -> flow_pb2.Flow:
    shown = flow_pb2.Flow()
    mask.MergeMessage(flow, shown)
    return shown


def _response(flow: flow_pb2.Flow) -> observer_pb2.GetFlowsResponse:
    response = observer_pb2.GetFlowsResponse(flow=flow, node_name=flow.node_name)
    if flow.HasField("time"):
        response.time.CopyFrom(flow.time)
    return response
