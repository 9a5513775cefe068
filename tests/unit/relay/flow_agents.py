"""Agents with flows on real sockets: they answer as flows.agent.observer does, break off when told to, and keep requests."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from relay_agents import Agent, List, agents, connected, found, pool
from stream_samples import MS, AgentStream, Node, S, flow

from flows.agent.observer.query import parse_flows_request
from flows.flow.batch import BatchWriter
from flows.flow.ends import EndTable
from flows.flow.filter import Selection, select
from flows.flow.request import RequestError
from flows.proto import flows_pb2, observer_pb2, relay_pb2
from flows.relay.access.grant import FreeGrant
from flows.relay.access.scope import Denied, Scope
from flows.relay.metrics import Metrics
from flows.relay.quota import Quota
from flows.relay.service import serve
from flows.relay.status import Status
from flows.wire.limits import BATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flows.relay.access.credentials import Credentials
    from flows.relay.discovery.found import Found
    from flows.relay.pool import Pool


def end(namespace: str = "", pod: str = "", service: str = "") -> flows_pb2.End:
    message = flows_pb2.End()
    message.endpoint.namespace, message.endpoint.pod_name = namespace, pod
    if service:
        message.service.name, message.service.namespace = service, namespace
    return message


@dataclass
class FlowAgent(Agent):
    """clock_ahead_ns is of its flows, too. requests: as they came."""

    part: int = 3
    loses: int = 0  # events, told with the past and in coverage
    hold: asyncio.Event = field(default_factory=asyncio.Event)  # set: streams go on
    requests: list[Any] = field(default_factory=list)
    cut: list[grpc.StatusCode] = field(default_factory=list)  # codes with which streams end at once
    foreign_answers: list[observer_pb2.GetFlowsResponse] = field(default_factory=list)  # of a plain agent, beside flows

    def __post_init__(self) -> None:
        self.stored, self.table = Node(self.node), EndTable()
        self.number(end())
        self.hold.set()
        self.began = self.now() - 3600 * S
        self._breaks = asyncio.Event()

    def number(self, message: flows_pb2.End) -> int:
        return self.table.number(message.SerializeToString(deterministic=True))

    def now(self) -> int:
        return time.time_ns() + self.clock_ahead_ns

    def happen(self, *ages_ms: float, source: flows_pb2.End | None = None, destination: flows_pb2.End | None = None) -> None:
        """A flow of each age, by the true time; now if none is given."""
        now = self.now()
        for age in ages_ms or (0,):
            number = len(self.stored.times)
            self.stored.ends[number] = self.number(source or end()), self.number(destination or end())
            self.stored.times.append(now - int(age * MS))

    def uuids(self) -> list[str]:
        return [self.stored.uuid(number) for number in range(len(self.stored.times))]

    def restart(self) -> None:
        """Another process: nothing of before is there."""
        self.stored = Node(self.node, instance=self.stored.instance + 1)
        self.began = self.now()

    def break_off(self) -> None:
        """All streams end with an error."""
        breaks, self._breaks = self._breaks, asyncio.Event()
        breaks.set()

    async def GetFlows(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - both services have one
        self.requests.append(request)
        if self.cut:
            await context.abort(self.cut.pop(0), "told to")
        if isinstance(request, flows_pb2.FlowsRequest):
            try:
                parse_flows_request(request, self.node)
            except RequestError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        batched = isinstance(request, flows_pb2.FlowsRequest)
        answer: AsyncIterator[Any] = self._batches(request) if batched else self._responses(request)
        breaks = self._breaks
        async for message in answer:
            yield message
            while not self.hold.is_set() and not breaks.is_set():  # noqa: ASYNC110 - two events
                await asyncio.sleep(0.01)
            if breaks.is_set():
                await context.abort(grpc.StatusCode.UNAVAILABLE, "told to")

    async def _batches(self, request: flows_pb2.FlowsRequest) -> AsyncIterator[flows_pb2.FlowBatch]:
        query, node = request.query, self.stored
        node.promised = self.now() - 5 * MS
        position = request.resume[0] if request.resume else None
        stream = AgentStream(node, position, self.part, lambda numbers, times: self._selected(query, times))
        writer, past, last = BatchWriter(self.table, [self.node]), False, False
        while not last:
            rows, watermark, said = stream.next()
            message = writer.write(rows)
            message.watermark_ns = watermark
            message.positions.append(said)
            message.past, past = query.follow and not past and bool(watermark), past or bool(watermark)
            over = query.HasField("until") and node.promised > query.until.ToNanoseconds()
            last = not stream.waiting and (not query.follow or over)
            if last or message.past:
                self._cover(message, position)
            yield message
            if query.follow and not stream.waiting:
                await asyncio.sleep(request.max_delay.ToNanoseconds() / S)
                node.promised = self.now() - 5 * MS

    def _selected(self, query: observer_pb2.GetFlowsRequest, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        if query.follow and not query.number and not query.HasField("since"):
            return np.zeros(len(times), np.bool_)
        since = query.since.ToNanoseconds() if query.HasField("since") else None
        until = query.until.ToNanoseconds() if query.HasField("until") else None
        order = np.argsort(times, kind="stable")
        mask = np.zeros(len(times), np.bool_)
        mask[order] = select(
            np.ones(len(times), np.bool_), times[order], Selection(query.number, query.first, since=since, until=until)
        )
        return mask

    def _cover(self, message: flows_pb2.FlowBatch, position: flows_pb2.Position | None) -> None:
        covered = message.coverage.nodes.add(node=self.node, state=relay_pb2.NODE_CONNECTED)
        getattr(covered, "from").FromNanoseconds(self.began)
        covered.to.FromNanoseconds(self.stored.promised)
        if position is not None and position.instance != self.stored.instance:
            gap = covered.gaps.add(reason=flows_pb2.DOWN, message="the agent was restarted")
            getattr(gap, "from").FromNanoseconds(position.watermark_ns)
            gap.to.FromNanoseconds(self.began)
        if self.loses:
            loss = message.losses.add(node=self.node, reason="ring full", count=self.loses)
            loss.first.FromNanoseconds(self.now() - S)
            loss.last.FromNanoseconds(self.now() - S)
            gap = covered.gaps.add(reason=flows_pb2.LOST, count=self.loses, message="ring full")
            getattr(gap, "from").CopyFrom(loss.first)
            gap.to.CopyFrom(loss.last)
        message.coverage.complete = not covered.gaps

    async def _responses(self, request: observer_pb2.GetFlowsRequest) -> AsyncIterator[observer_pb2.GetFlowsResponse]:
        """As Hubble's agent: what is there in its order, then what comes."""
        for response in self.foreign_answers:
            yield response
        sent: int | None = None
        while True:
            times = np.array(self.stored.times, np.int64)
            chosen = self._selected(request, times) if sent is None else np.arange(len(times)) >= sent
            for number in np.flatnonzero(chosen).tolist():
                yield self._response(number)
            sent = len(times)
            if not request.follow:
                return
            await asyncio.sleep(0.02)

    def _response(self, number: int) -> observer_pb2.GetFlowsResponse:
        whole = flow(self.stored.uuid(number), self.stored.times[number], self.node)
        source, destination = (self.table[each].end for each in self.stored.ends.get(number, (0, 0)))
        whole.source.CopyFrom(source.endpoint)
        whole.destination.CopyFrom(destination.endpoint)
        return observer_pb2.GetFlowsResponse(flow=whole, node_name=self.node, time=whole.time)


class Revocable(FreeGrant):
    """A Grant that ends when a test says so."""

    def __init__(self, scope: Scope, revocation: asyncio.Future[Denied]) -> None:
        super().__init__(scope)
        self._revocation = revocation

    async def revoked(self) -> Denied:
        return await asyncio.shield(self._revocation)


@dataclass
class Caller:
    """An Access that lets a caller see some namespaces, and refuses or revokes when told to."""

    namespaces: frozenset[str] | None = None
    refusal: Exception | None = None
    revocation: asyncio.Future[Denied] | None = None
    grant: FreeGrant = field(init=False)

    async def admit(self, _credentials: Credentials) -> FreeGrant:
        if self.refusal is not None:
            raise self.refusal
        scope = Scope("jane", self.namespaces)
        self.grant = FreeGrant(scope) if self.revocation is None else Revocable(scope, self.revocation)
        return self.grant


@dataclass
class Served:
    """A relay that serves, and a channel to it."""

    pool: Pool
    discovery: List
    channel: grpc.aio.Channel
    metrics: Metrics

    def batches(self, request: flows_pb2.FlowsRequest) -> grpc.aio.UnaryStreamCall[flows_pb2.FlowsRequest, flows_pb2.FlowBatch]:
        method: grpc.aio.UnaryStreamMultiCallable[flows_pb2.FlowsRequest, flows_pb2.FlowBatch] = self.channel.unary_stream(
            "/flows.v1.Flows/GetFlows", flows_pb2.FlowsRequest.SerializeToString, flows_pb2.FlowBatch.FromString
        )
        return method(request)

    def flows(
        self, request: observer_pb2.GetFlowsRequest | None = None
    ) -> grpc.aio.UnaryStreamCall[observer_pb2.GetFlowsRequest, observer_pb2.GetFlowsResponse]:
        method: grpc.aio.UnaryStreamMultiCallable[observer_pb2.GetFlowsRequest, observer_pb2.GetFlowsResponse]
        method = self.channel.unary_stream(
            "/observer.Observer/GetFlows",
            observer_pb2.GetFlowsRequest.SerializeToString,
            observer_pb2.GetFlowsResponse.FromString,
        )
        return method(request or observer_pb2.GetFlowsRequest())


@asynccontextmanager
async def relay(
    tmp_path: Path,
    *running: Agent,
    foreign: bool = False,
    access: Caller | None = None,
    quota: Quota | None = None,
    away: Sequence[Found] = (),
) -> AsyncIterator[Served]:
    """A relay over these agents; away: nodes that discovery names and nobody serves."""
    async with agents(*running, foreign=foreign) as served:
        discovery = List(*map(found, served), *away)
        async with pool(discovery) as pooled:
            await connected(pooled, len(served))
            metrics, admitting = Metrics(), access or Caller()
            address = f"unix://{tmp_path}/relay.sock"
            server, _ = await serve([address], None, pooled, admitting, Status(pooled, "1"), metrics, "1", quota or Quota())
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", BATCH_BYTES)]
            async with grpc.aio.insecure_channel(address, options) as channel:
                try:
                    yield Served(pooled, discovery, channel, metrics)
                finally:
                    await server.stop(0)


def asked(**query: Any) -> flows_pb2.FlowsRequest:
    """A FlowsRequest; times in ns."""
    request = flows_pb2.FlowsRequest()
    for name, value in query.items():
        if name in ("since", "until"):
            getattr(request.query, name).FromNanoseconds(value)
        else:
            setattr(request.query, name, value)
    return request
