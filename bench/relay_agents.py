"""Agents as the relay sees them, many in one process: `relay_agents.py FOLDER FIRST COUNT RATE SKEW_MS`.

Each is a gRPC server of its own. Their flows are made up, their clocks wrong by up to SKEW_MS, and what they send is late by up
to JITTER_SECONDS. Prints a line when all serve; ends when standard input does.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np

from flows.flow.batch import Batch, BatchWriter, objects
from flows.flow.ends import EndTable, varint
from flows.proto import extension_pb2, flow_pb2, flows_pb2, flows_pb2_grpc, observer_pb2, observer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECOND: Final = 1_000_000_000
JITTER_SECONDS: Final = 0.05
ENDS: Final = 20  # of one node: pods and whom they talk to
WATERMARK_SLACK_NS: Final = SECOND // 1000
STORED: Final = 200  # flows of the past that an agent can give


def end(node: int, number: int) -> bytes:
    """A pod's end, as long as real ones are."""
    message = flows_pb2.End()
    message.endpoint.namespace, message.endpoint.pod_name = f"team-{node % 40}", f"service-{number}-7d9c5b8f6-{node:05}"
    message.endpoint.identity, message.endpoint.cluster_name = 1 << 30 | number, "bench"
    message.endpoint.labels.extend(f"k8s:label-{index}=value-{number}" for index in range(6))
    message.endpoint.workloads.add(name=f"service-{number}", kind="Deployment")
    message.detail.node, message.detail.evidence = f"node-{node}", extension_pb2.CGROUP
    message.detail.process.pid, message.detail.process.name = 1000 + number, "server"
    message.detail.container.id, message.detail.container.runtime = f"{node:032x}{number:032x}", "containerd"
    return message.SerializeToString(deterministic=True)


def core(node: int) -> bytes:
    """A flow without its ends."""
    flow = flow_pb2.Flow(uuid=str(uuid.UUID(int=node)), verdict=flow_pb2.FORWARDED, Type=flow_pb2.L3_L4)
    flow.node_name, flow.Summary = f"node-{node}", "TCP Flags: SYN, ACK, FIN"
    flow.IP.source, flow.IP.destination, flow.IP.ipVersion = "10.244.12.34", "10.244.56.78", flow_pb2.IPv4
    flow.l4.TCP.source_port, flow.l4.TCP.destination_port = 40_000, 8080
    flow.l4.TCP.flags.SYN = flow.l4.TCP.flags.ACK = flow.l4.TCP.flags.FIN = True
    flow.event_type.type, flow.traffic_direction = 4, flow_pb2.EGRESS
    flow.is_reply.value = False
    return flow.SerializeToString()


def happened(true_ns: int) -> bytes:
    """A field to append to a flow: socket_cookie says when it really happened, for whoever checks the order."""
    return varint(flow_pb2.Flow.DESCRIPTOR.fields_by_name["socket_cookie"].number << 3) + varint(true_ns)


class Agent(flows_pb2_grpc.FlowsServicer, observer_pb2_grpc.ObserverServicer):
    """One node: RATE flows a second while somebody follows, STORED of the past."""

    def __init__(self, node: int, rate: float, skew_ms: int) -> None:
        self._node, self._rate = node, rate
        self._random = np.random.default_rng(node)
        self.skew_ns = int(self._random.integers(-skew_ms, skew_ms + 1)) * SECOND // 1000
        self._core = core(node)
        self._connection = extension_pb2.Connection(id=node + 1, event=extension_pb2.CLOSED).SerializeToString()
        self._table = EndTable()
        self._numbers = np.array([self._table.number(end(node, number)) for number in range(ENDS)], np.uint32)

    def _batch(self, true_ns: np.ndarray[Any, Any]) -> Batch:
        count = len(true_ns)
        source, destination = (self._random.choice(self._numbers, count) for _ in range(2))
        keys = self._random.integers(1, 1 << 63, count, dtype=np.uint64)
        return Batch(
            objects(self._core + happened(moment) for moment in true_ns.tolist()), objects([self._connection] * count),
            true_ns + self.skew_ns, true_ns + self.skew_ns, source, destination, keys, keys,
            np.ones(count, np.uint8), np.zeros(count, np.uint32), np.zeros(count, np.uint8),
        )  # fmt: skip

    async def GetFlows(  # noqa: N802 - gRPC's name
        self, request: flows_pb2.FlowsRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[flows_pb2.FlowBatch]:
        writer, asked = BatchWriter(self._table, [f"node-{self._node}"]), request.query
        now, sent = time.time_ns(), 0
        past = np.sort(now - self._random.integers(1, 60 * SECOND, STORED)) if asked.number else np.zeros(0, np.int64)
        message = writer.write(self._batch(past[-min(asked.number, STORED) :] if asked.number else past))
        self._place(message, now, sent, past=True)
        if not asked.follow:
            message.coverage.complete = True
            covered = message.coverage.nodes.add(node=f"node-{self._node}", state=1)
            covered.to.FromNanoseconds(now + self.skew_ns)
            getattr(covered, "from").FromNanoseconds(now - 3600 * SECOND)
        yield message
        delay = request.max_delay.ToNanoseconds() / SECOND or 0.1
        while asked.follow:
            await asyncio.sleep(delay)
            begin, now = now, time.time_ns()
            count = int(self._rate * (now - begin) / SECOND + self._random.random())
            message = writer.write(self._batch(np.sort(self._random.integers(begin, now, count))))
            sent += count
            self._place(message, now, sent, past=True)
            await asyncio.sleep(random.uniform(0, JITTER_SECONDS))
            yield message

    def _place(self, message: flows_pb2.FlowBatch, now: int, sent: int, *, past: bool) -> None:
        message.watermark_ns = now + self.skew_ns
        message.past = past
        message.positions.add(
            node=f"node-{self._node}", instance=self._node + 1, received=sent, watermark_ns=message.watermark_ns, **{"from": sent}
        )

    async def GetConnections(  # noqa: N802 - gRPC's name
        self, _request: flows_pb2.ConnectionsRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> flows_pb2.FlowBatch:
        return flows_pb2.FlowBatch(fresh=True)

    async def GetClock(  # noqa: N802 - gRPC's name
        self, _request: flows_pb2.ClockRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> flows_pb2.ClockResponse:
        return flows_pb2.ClockResponse(now_ns=time.time_ns() + self.skew_ns)

    async def ServerStatus(  # noqa: N802 - gRPC's name
        self, _request: observer_pb2.ServerStatusRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> observer_pb2.ServerStatusResponse:
        return observer_pb2.ServerStatusResponse(num_flows=STORED, max_flows=STORED, seen_flows=STORED, uptime_ns=SECOND)


async def serve(folder: str, nodes: range, rate: float, skew_ms: int) -> None:
    """Until standard input ends."""
    servers = []
    for node in nodes:
        server, agent = grpc.aio.server(), Agent(node, rate, skew_ms)
        flows_pb2_grpc.add_FlowsServicer_to_server(agent, server)  # type: ignore[no-untyped-call] # generated
        observer_pb2_grpc.add_ObserverServicer_to_server(agent, server)  # type: ignore[no-untyped-call] # generated
        server.add_insecure_port(f"unix://{folder}/{node}")
        await server.start()
        servers.append(server)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.gather(*(server.stop(None) for server in servers))


if __name__ == "__main__":
    begin, number = map(int, sys.argv[2:4])
    asyncio.run(serve(sys.argv[1], range(begin, begin + number), float(sys.argv[4]), int(sys.argv[5])))
