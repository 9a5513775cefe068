"""Agents and a pool for tests of the join: real messages, no connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.json_format import ParseDict
from join_samples import Row, S, batch

from flows.flow.batch import BatchWriter, compose
from flows.flow.ends import EndTable
from flows.proto import extension_pb2, flow_pb2, flows_pb2, observer_pb2, relay_pb2
from flows.relay.clock import Clock
from flows.relay.link import PeerError
from flows.relay.others import Others

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import grpc

NOW = 1000 * S
NODES = ["node-1", "node-2", "node-3"]


class Agent:
    """A peer that answers GetConnections of its rows as an agent does: by opener and time."""

    def __init__(
        self,
        name: str,
        rows: Iterable[Row] = (),
        *,
        addresses: Iterable[str] = (),
        offset: int = 0,
        error: int = 0,
        state: relay_pb2.NodeState = relay_pb2.NODE_CONNECTED,
        batched: bool = True,
    ) -> None:
        self.name, self.rows, self.addresses = name, list(rows), frozenset(addresses)
        self.clock: Clock | None = Clock(offset, error)
        self.state: int = state
        self.batched: bool | None = batched
        self.asked: list[flows_pb2.ConnectionsRequest] = []
        self.fails: grpc.StatusCode | None = None
        self.answer: Callable[[flows_pb2.ConnectionsRequest], Awaitable[flows_pb2.FlowBatch]] = self.told
        self.coverage = flows_pb2.NodeCoverage(node=name, state=relay_pb2.NODE_CONNECTED)
        getattr(self.coverage, "from").FromNanoseconds(S)
        self.coverage.to.FromNanoseconds(NOW)

    async def get_connections(self, request: flows_pb2.ConnectionsRequest, timeout: float) -> flows_pb2.FlowBatch:  # noqa: ASYNC109 - Peer's signature
        return await self.answer(request)

    async def told(self, request: flows_pb2.ConnectionsRequest) -> flows_pb2.FlowBatch:
        self.asked.append(request)
        if self.fails:
            raise PeerError(self.fails, f"asking {self.name}: it fails")
        openers = np.frombuffer(request.openers, "<u8").tolist()
        since, until = request.since.ToNanoseconds(), request.until.ToNanoseconds()
        rows = [row for row in self.rows if row.opener in openers and since <= row.time <= until]
        ends = EndTable()
        message = BatchWriter(ends, NODES).write(batch(rows, ends))
        message.coverage.nodes.add().CopyFrom(self.coverage)
        return message

    def openers(self) -> list[list[int]]:
        return [np.frombuffer(request.openers, "<u8").tolist() for request in self.asked]


class Agents:
    def __init__(self, *peers: Agent) -> None:
        self._peers = peers

    def peers(self) -> tuple[Agent, ...]:
        return self._peers


class Query:
    """One query through Others; windows are lists of rows."""

    def __init__(self, *peers: Agent, namespaces: frozenset[str] | None = None, **request: Any) -> None:
        self.peers, self.ends, self.nodes = peers, EndTable(), list(NODES)
        self.now = NOW
        wanted = ParseDict(request, observer_pb2.GetFlowsRequest())
        self.others = Others(Agents(*peers), self.ends, self.nodes, wanted, namespaces=namespaces, now_ns=lambda: self.now)
        self.counts = self.others.counts

    async def window(self, *rows: Row) -> list[flow_pb2.Flow]:
        """The flows that come of it."""
        joined = await self.others.joined(batch(rows, self.ends))
        self.last = joined
        return [flow_pb2.Flow.FromString(raw) for raw in compose(joined, self.ends)]


def extension(flow: flow_pb2.Flow) -> extension_pb2.FlowExtension:
    unpacked = extension_pb2.FlowExtension()
    flow.extensions.Unpack(unpacked)
    return unpacked


def views(flows: Iterable[flow_pb2.Flow]) -> list[int]:
    return [extension(flow).connection.other_view for flow in flows]


def names(flows: Iterable[flow_pb2.Flow]) -> list[tuple[str, str]]:
    return [(flow.source.pod_name, flow.destination.pod_name) for flow in flows]
