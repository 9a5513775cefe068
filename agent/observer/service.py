"""observer.Observer on gRPC: Hubble's API over one agent's store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc

from flows.agent.observer.answer import Answer
from flows.agent.observer.coverage import set_time, source_of
from flows.agent.observer.limits import Limit, LimitError
from flows.agent.observer.query import parse_request
from flows.flow.batch import compose
from flows.flow.request import RequestError
from flows.proto import flow_pb2, observer_pb2, observer_pb2_grpc
from flows.wire.clients import understands_extensions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from google.protobuf.field_mask_pb2 import FieldMask

    from flows.agent.observer.answer import Part
    from flows.agent.observer.fresh import Fresh
    from flows.agent.observer.observer import Observer
    from flows.agent.observer.query import Request
    from flows.agent.store.store import Loss

RATE_SECONDS = 60  # flows_rate is over the last minute, as in Hubble


class ObserverService(observer_pb2_grpc.ObserverServicer):
    """One agent's Observer.

    What the protocol leaves to relays (GetNodes) or to Cilium (agent and debug events) is UNIMPLEMENTED.
    """

    def __init__(self, observer: Observer, fresh: Fresh, streams: Limit, histories: Limit) -> None:
        """fresh: has what the kernel still holds moved into the store. streams, histories: how many there may be at once."""
        self._observer, self._fresh = observer, fresh
        self._streams, self._histories = streams, histories
        self._started = time.monotonic_ns()

    async def GetFlows(  # noqa: N802 - gRPC's name
        self, request: observer_pb2.GetFlowsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[observer_pb2.GetFlowsResponse]:
        """Stream flows; first, follow, number, since and until are as in Hubble (pkg/hubble/observer/local_observer.go)."""
        try:
            parsed = parse_request(request, extensions=understands_extensions(context))
        except RequestError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        try:
            with self._streams.one():
                await context.send_initial_metadata((("hubble-server-version", self._observer.version),))
                async for part in Answer(self._observer, parsed, self._fresh, self._histories).parts():
                    for response in self._responses(part, parsed):
                        yield response
        except LimitError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    def _responses(self, part: Part, request: Request) -> Iterator[observer_pb2.GetFlowsResponse]:
        """Losses first, then flows."""
        for loss in part.losses:
            yield self._lost(loss)
        ends = self._observer.ends
        ends.begin()
        batch = self._observer.batch(part.selected, ends, extensions=request.extensions)
        for raw in compose(batch, ends.table):
            yield _response(flow_pb2.Flow.FromString(raw), request.mask)

    def _lost(self, loss: Loss) -> observer_pb2.GetFlowsResponse:
        event = flow_pb2.LostEvent(source=source_of(loss), num_events_lost=loss.count)
        set_time(event.first, loss.first_ns)
        set_time(event.last, loss.last_ns)
        response = observer_pb2.GetFlowsResponse(lost_events=event, node_name=self._observer.node)
        set_time(response.time, loss.last_ns)
        return response

    async def ServerStatus(  # noqa: N802 - gRPC's name
        self, _request: observer_pb2.ServerStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> observer_pb2.ServerStatusResponse:
        """Say how full the store is and how fast it fills."""
        await context.send_initial_metadata((("hubble-server-version", self._observer.version),))
        store = self._observer.store
        return observer_pb2.ServerStatusResponse(
            num_flows=store.written - store.oldest,
            max_flows=store.capacity,
            seen_flows=store.written,
            uptime_ns=time.monotonic_ns() - self._started,
            version=f"flows v{self._observer.version}",
            flows_rate=store.rate(time.time_ns(), RATE_SECONDS),
        )

    async def GetNamespaces(  # noqa: N802 - gRPC's name
        self, _request: observer_pb2.GetNamespacesRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> observer_pb2.GetNamespacesResponse:
        """List the namespaces that stored flows name."""
        namespaces = self._observer.namespaces()
        return observer_pb2.GetNamespacesResponse(
            namespaces=[observer_pb2.Namespace(cluster=cluster, namespace=namespace) for cluster, namespace in namespaces]
        )


def masked(flow: flow_pb2.Flow, mask: FieldMask) -> flow_pb2.Flow:
    """A flow with the fields of the mask."""
    shown = flow_pb2.Flow()
    mask.MergeMessage(flow, shown)
    return shown


def _response(flow: flow_pb2.Flow, mask: FieldMask | None) -> observer_pb2.GetFlowsResponse:
    """As in Hubble, node_name and time are those of the masked flow."""
    shown = flow if mask is None else masked(flow, mask)
    response = observer_pb2.GetFlowsResponse(flow=shown, node_name=shown.node_name)
    if shown.HasField("time"):
        response.time.CopyFrom(shown.time)
    return response
