"""Agents on real sockets, as a relay meets them: ours, foreign ones with Observer only, silent ones, ones that die."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio

from flows.proto import flows_pb2, flows_pb2_grpc, observer_pb2, observer_pb2_grpc, relay_pb2
from flows.relay.dialer import Dialer
from flows.relay.discovery.found import Found
from flows.relay.keeper import Pace
from flows.relay.pool import Pool
from flows.wire.addresses import bind
from flows.wire.limits import server_options

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from flows.relay.peer import Peer
    from flows.wire.tls import ServerTls

# Everything that takes seconds in a cluster, in tenths of them.
FAST = Pace(connect=0.5, answer=0.3, probe=0.1, backoff=(0.1, 0.4), lasted=0.2, again=0.05)
MINUTES = 60 * 10**9


@dataclass
class Agent(observer_pb2_grpc.ObserverServicer, flows_pb2_grpc.FlowsServicer):
    """One agent: what it answers, and what it was asked."""

    node: str = "node-1"
    clock_ahead_ns: int = 0
    seen: int = 100
    namespaces: tuple[str, ...] = ("shop",)
    refusal: grpc.StatusCode | None = None  # of ServerStatus and GetNamespaces
    delay: float = 0.0  # before GetClock answers
    asked: dict[str, int] = field(default_factory=dict)
    server: grpc.aio.Server | None = None
    port: int = 0

    def count(self, method: str) -> None:
        self.asked[method] = self.asked.get(method, 0) + 1

    async def GetClock(self, request: Any, context: Any) -> flows_pb2.ClockResponse:  # noqa: N802
        self.count("GetClock")
        await asyncio.sleep(self.delay)
        return flows_pb2.ClockResponse(now_ns=time.time_ns() + self.clock_ahead_ns)

    async def GetConnections(self, request: Any, context: Any) -> flows_pb2.FlowBatch:  # noqa: N802
        self.count("GetConnections")
        return flows_pb2.FlowBatch(nodes=[self.node])

    async def GetFlows(self, request: Any, context: Any) -> Any:  # noqa: N802 - both services have one
        self.count("GetFlows")
        if isinstance(request, flows_pb2.FlowsRequest):
            if request.query.follow:
                number = 0
                while True:
                    number += 1
                    yield flows_pb2.FlowBatch(watermark_ns=number)
                    await asyncio.sleep(0.02)
            yield flows_pb2.FlowBatch(coverage=flows_pb2.Coverage(nodes=[flows_pb2.NodeCoverage(node=self.node)]))
        else:
            yield observer_pb2.GetFlowsResponse(node_name=self.node)

    async def ServerStatus(self, request: Any, context: Any) -> observer_pb2.ServerStatusResponse:  # noqa: N802
        self.count("ServerStatus")
        if self.refusal is not None:
            await context.abort(self.refusal, "not now")
        return observer_pb2.ServerStatusResponse(
            num_flows=10, max_flows=20, seen_flows=self.seen, uptime_ns=self.seen * MINUTES, flows_rate=0.5, version="flows v9"
        )

    async def GetNamespaces(self, request: Any, context: Any) -> observer_pb2.GetNamespacesResponse:  # noqa: N802
        self.count("GetNamespaces")
        if self.refusal is not None:
            await context.abort(self.refusal, "not now")
        return observer_pb2.GetNamespacesResponse(namespaces=[observer_pb2.Namespace(namespace=one) for one in self.namespaces])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, address: str = "127.0.0.1:0", *, foreign: bool = False, tls: ServerTls | None = None) -> None:
        """Serve; again at the same port after stop()."""
        self.server = grpc.aio.server(options=server_options())
        observer_pb2_grpc.add_ObserverServicer_to_server(self, self.server)  # type: ignore[no-untyped-call]
        if not foreign:
            flows_pb2_grpc.add_FlowsServicer_to_server(self, self.server)  # type: ignore[no-untyped-call]
        wanted = address if not self.port else self.address
        if tls is None:
            bound = bind(self.server, [wanted], None)
            self.port = bound[0]
        else:
            self.port = self.server.add_secure_port(wanted, tls.credentials())
        await self.server.start()

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop(0)
            self.server = None


@asynccontextmanager
async def agents(*running: Agent, foreign: bool = False, tls: ServerTls | None = None) -> AsyncIterator[tuple[Agent, ...]]:
    """Started, and stopped at the end."""
    for agent in running:
        await agent.start(foreign=foreign, tls=tls)
    try:
        yield running
    finally:
        for agent in running:
            await agent.stop()


class List:
    """A discovery that a test changes."""

    def __init__(self, *found: Found) -> None:
        self.status = ""
        self.now: Sequence[Found] = found
        self._told: Callable[[Sequence[Found]], None] | None = None

    async def follow(self, found: Callable[[Sequence[Found]], None]) -> None:
        self._told = found
        found(self.now)
        await asyncio.Event().wait()

    def set(self, *found: Found, status: str = "") -> None:
        assert self._told is not None
        self.now, self.status = found, status
        self._told(found)


def found(agent: Agent, **more: Any) -> Found:
    return Found(agent.node, (agent.address,), **more)


def pool(*discoveries: Any, dialer: Dialer | None = None) -> Pool:
    return Pool(discoveries, dialer or Dialer(), FAST)


def names(pooled: Pool) -> list[str]:
    return [peer.name for peer in pooled.peers()]


async def until(condition: Callable[[], Any], pooled: Pool) -> None:
    """Wait for changes of a pool until a condition holds; the test's own time limit ends what never will."""
    changes = pooled.changes()
    while not condition():
        await anext(changes)


async def connected(pooled: Pool, count: int = 1) -> tuple[Peer, ...]:
    """Wait until so many peers are connected, and give them."""

    def those() -> list[Peer]:
        return [peer for peer in pooled.peers() if peer.state == relay_pb2.NODE_CONNECTED]

    await until(lambda: len(those()) >= count, pooled)
    return tuple(those())
