"""flows.v1.Flows on gRPC: this agent's flows in batches, for relays."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from flows.agent.observer.answer import PART, Answer
from flows.agent.observer.coverage import Asked, coverage, loss_message
from flows.agent.observer.limits import Limit, LimitError
from flows.agent.observer.openers import Openers
from flows.agent.observer.query import parse_flows_request
from flows.agent.observer.service import masked
from flows.flow.batch import BatchWriter, concatenate, objects
from flows.flow.request import RequestError, time_of
from flows.proto import flow_pb2, flows_pb2, flows_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.field_mask_pb2 import FieldMask

    from flows.agent.observer.answer import Part
    from flows.agent.observer.fresh import Fresh
    from flows.agent.observer.observer import Observer
    from flows.agent.observer.query import Request
    from flows.agent.observer.selected import Selected
    from flows.flow.batch import Batch

MAX_OPENERS = 65_536  # half a MiB; a relay asks for those of one batch


class FlowsService(flows_pb2_grpc.FlowsServicer):
    """One agent's flows in batches."""

    def __init__(self, observer: Observer, fresh: Fresh, streams: Limit, histories: Limit) -> None:
        """As ObserverService."""
        self._observer, self._fresh = observer, fresh
        self._streams, self._histories = streams, histories

    async def GetFlows(  # noqa: N802 - gRPC's name
        self, request: flows_pb2.FlowsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[flows_pb2.FlowBatch]:
        """Stream what Observer/GetFlows would. Followers get a batch, if only an empty one, each max_delay.

        After `resume`, number and since do not count, and whoever asks for the first N has to stop by itself.
        """
        try:
            parsed = parse_flows_request(request, self._observer.node)
            self._check(parsed)
        except RequestError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        try:
            with self._streams.one():
                await context.send_initial_metadata((("hubble-server-version", self._observer.version),))
                writer = _Writer(self._observer, parsed)
                async for part in Answer(self._observer, parsed, self._fresh, self._histories).parts():
                    yield writer.message(part)
        except LimitError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    def _check(self, request: Request) -> None:
        resume, written = request.resume, self._observer.store.written
        if resume is not None and resume.instance == self._observer.instance and resume.reach.received > written:
            raise RequestError(f"resume: received {resume.reach.received}, but this agent has seen {written} flows only")

    async def GetConnections(  # noqa: N802 - gRPC's name
        self, request: flows_pb2.ConnectionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> flows_pb2.FlowBatch:
        """Answer with the flows of connections by their openers' hashes, as far as they were open between since and until."""
        try:
            openers, asked = parse_connections(request)
        except RequestError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        asked_ns = time.time_ns()
        watermark_ns = max(await self._fresh(), self._observer.watch.began_ns)
        selected, left_out = await asyncio.to_thread(self._observer.of_openers, openers)
        ends = self._observer.new_ends()
        batches = []
        for start in range(0, len(selected), PART):
            batches.append(self._observer.batch(selected.part(start, start + PART), ends))
            await asyncio.sleep(0)
        node = self._observer.node
        message = BatchWriter(ends.table, [node]).write(concatenate(batches))
        message.watermark_ns = watermark_ns
        message.coverage.CopyFrom(coverage(node, asked, self._observer.known(watermark_ns, asked_ns), len(selected)))
        if left_out:
            message.losses.add(node=node, reason=f"only the newest {len(selected)} flows are told", count=left_out)
        return message

    async def GetClock(  # noqa: N802 - gRPC's name
        self, _request: flows_pb2.ClockRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> flows_pb2.ClockResponse:
        """Tell the time that flows are stamped with."""
        return flows_pb2.ClockResponse(now_ns=time.time_ns())


def parse_connections(request: flows_pb2.ConnectionsRequest) -> tuple[Openers, Asked]:
    """Check a request. Raises RequestError with what was expected."""
    count, rest = divmod(len(request.openers), 8)
    if rest:
        raise RequestError(f"openers: {len(request.openers)} bytes, expected 8 for each")
    if count > MAX_OPENERS:
        raise RequestError(f"openers: {count}, expected {MAX_OPENERS} at most; ask in parts")
    since = time_of("since", request.since) if request.HasField("since") else None
    until = time_of("until", request.until) if request.HasField("until") else None
    return Openers(np.frombuffer(request.openers, "<u8"), since, until), Asked(since, until)


class _Writer:
    """One stream's messages."""

    def __init__(self, observer: Observer, request: Request) -> None:
        self._observer, self._request = observer, request
        self._nodes = [observer.node]
        self._table = observer.ends.table
        self._writer = BatchWriter(self._table, self._nodes)

    def message(self, part: Part) -> flows_pb2.FlowBatch:
        """The message of a part."""
        node = self._observer.node
        message = self._writer.write(self._batch(part.selected))
        message.losses.extend(loss_message(node, loss) for loss in part.losses)
        message.watermark_ns, message.past = part.watermark_ns, part.past
        message.positions.append(part.reach.message(node, self._observer.instance))
        if part.coverage is not None:
            message.coverage.CopyFrom(part.coverage)
        return message

    def _batch(self, selected: Selected) -> Batch:
        ends = self._observer.ends
        ends.begin()
        if ends.table is not self._table:
            self._table = ends.table
            self._writer.change_tables(self._table, self._nodes)
        batch = self._observer.batch(selected, ends, extensions=self._request.extensions)
        if self._request.mask is not None:
            batch.flows = _masked(batch, self._request.mask)
        return batch


def _masked(batch: Batch, mask: FieldMask) -> Any:
    """The flows, without their ends, as the mask leaves them (n,); ends are always whole."""
    return objects(masked(flow_pb2.Flow.FromString(flow), mask).SerializeToString() for flow in batch.flows)
