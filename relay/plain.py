"""Plain agents: those that serve only observer.Observer. Their responses as batches, a little later and in order."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.flow.batch import COLUMNS, Batch, objects
from flows.proto import flow_pb2, flows_pb2
from flows.relay.link import PeerError
from flows.relay.query import NO_NUMBER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from flows.proto.observer_pb2 import GetFlowsResponse
    from flows.relay.tables import Tables

REORDER_NS: Final = 500_000_000
"""How much later than it happened a flow may come and still be put in order. Hubble's agents send within some ms, but a proxy's
flows come when the request ends, and rings of several CPUs are read one after the other."""
GATHER_SECONDS: Final = 0.05  # responses are taken together for so long
MOST_GATHERED: Final = 512
QUIET_SECONDS: Final = 0.25  # the past is over when a follower has got nothing for so long
_LAST: Final = NO_NUMBER - 1


class PlainReader:
    """One stream's responses as messages of flows.v1.Flows would tell them."""

    def __init__(self, node: str, tables: Tables, *, follow: bool, since_ns: int | None) -> None:
        """node: the agent's, for responses that do not name it. since_ns: where the stream goes on, by the node's clock."""
        self._node, self._tables, self._follow = node, tables, follow
        self._waiting: list[tuple[int, bytes, bytes, bytes, str]] = []  # time, flow, source, destination, node
        self._watermark_ns = since_ns - 1 if since_ns is not None else 0
        self._newest_ns = 0

    def read(
        self, responses: Sequence[GetFlowsResponse], now_ns: int, *, last: bool = False
    ) -> tuple[Batch, flows_pb2.FlowBatch]:
        """The flows that are in order now, and a message with all else: losses, states, watermark, position.

        now_ns: by the node's clock, if anybody knows; last: nothing will follow.
        """
        message = flows_pb2.FlowBatch()
        for response in responses:
            self._take(response, message, now_ns)
        self._waiting.sort(key=lambda flow: flow[0])
        newest = now_ns if self._follow else self._newest_ns
        if last:
            self._watermark_ns = max(self._watermark_ns, self._newest_ns)
        else:
            self._watermark_ns = max(self._watermark_ns, newest - REORDER_NS)
        count = sum(flow[0] <= self._watermark_ns for flow in self._waiting)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        message.watermark_ns = self._watermark_ns + 1
        message.positions.add(node=self._node, received=_LAST, watermark_ns=self._watermark_ns)
        return self._batch(taken), message

    def _take(self, response: GetFlowsResponse, message: flows_pb2.FlowBatch, now_ns: int) -> None:
        kind = response.WhichOneof("response_types")
        if kind == "flow":
            self._add(response)
        elif kind == "node_status":
            message.node_status.append(response.node_status)
        elif kind == "lost_events":
            lost = response.lost_events
            reason = flow_pb2.LostEventSource.Name(lost.source) if lost.source in flow_pb2.LostEventSource.values() else ""
            loss = message.losses.add(node=response.node_name or self._node, reason=reason, count=lost.num_events_lost)
            loss.source = lost.source
            for name, bound in (("first", loss.first), ("last", loss.last)):
                if lost.HasField(name):
                    bound.CopyFrom(getattr(lost, name))
                elif response.HasField("time"):
                    bound.CopyFrom(response.time)
                else:
                    bound.FromNanoseconds(now_ns)

    def _add(self, response: GetFlowsResponse) -> None:
        flow = response.flow
        at = flow.time if flow.HasField("time") else response.time
        ends = [self._end(flow, role) for role in ("source", "destination")]
        for name in ("source", "destination", "source_service", "destination_service"):
            flow.ClearField(name)
        time_ns = at.seconds * 1_000_000_000 + at.nanos
        self._newest_ns = max(self._newest_ns, time_ns)
        node = response.node_name or flow.node_name or self._node
        self._waiting.append((time_ns, flow.SerializeToString(), ends[0], ends[1], node))

    @staticmethod
    def _end(flow: flow_pb2.Flow, role: str) -> bytes:
        end = flows_pb2.End()
        if flow.HasField(role):
            end.endpoint.CopyFrom(getattr(flow, role))
        if flow.HasField(f"{role}_service"):
            end.service.CopyFrom(getattr(flow, f"{role}_service"))
        return end.SerializeToString(deterministic=True)

    def _batch(self, flows: Sequence[tuple[int, bytes, bytes, bytes, str]]) -> Batch:
        columns = {name: np.zeros(len(flows), dtype) for name, dtype in COLUMNS.items()}
        table = self._tables
        columns["time_ns"][:] = [flow[0] for flow in flows]
        columns["source"][:] = [table.ends.number(flow[2]) for flow in flows]
        columns["destination"][:] = [table.ends.number(flow[3]) for flow in flows]
        columns["node"][:] = [table.node(flow[4]) for flow in flows]
        return Batch(objects(flow[1] for flow in flows), objects([b""] * len(flows)), **columns)


async def gathered(stream: AsyncIterator[GetFlowsResponse], *, follow: bool) -> AsyncGenerator[list[GetFlowsResponse], None]:
    """Responses taken together, also none: every GATHER_SECONDS while following."""
    queue: asyncio.Queue[GetFlowsResponse | None] = asyncio.Queue(2 * MOST_GATHERED)
    pump = asyncio.create_task(_pump(stream, queue))
    try:
        ended = False
        while not ended:
            taken: list[GetFlowsResponse] = []
            until = time.monotonic() + GATHER_SECONDS
            while len(taken) < MOST_GATHERED and not ended:
                try:
                    async with asyncio.timeout(max(0.0, until - time.monotonic()) if follow or taken else None):
                        response = await queue.get()
                except TimeoutError:
                    break
                ended = response is None
                if response is not None:
                    taken.append(response)
            yield taken
        await pump
    finally:
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)


async def _pump(stream: AsyncIterator[GetFlowsResponse], queue: asyncio.Queue[GetFlowsResponse | None]) -> None:
    try:
        async for response in stream:
            await queue.put(response)
    except PeerError:
        await queue.put(None)
        raise
    await queue.put(None)
