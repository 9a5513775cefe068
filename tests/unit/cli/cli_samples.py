"""Flows that the command tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flows.flow.batch import Batch, BatchWriter, objects
from flows.flow.ends import EndTable
from flows.proto import extension_pb2, flow_pb2, flows_pb2, relay_pb2
from flows.proto.observer_pb2 import GetFlowsResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND = 1_000_000_000


def at(second: int, name: str = "n") -> GetFlowsResponse:
    """A flow of that second; its summary names it."""
    response = GetFlowsResponse(flow=flow_pb2.Flow(Summary=f"{name}{second}", verdict="FORWARDED"), node_name=name)
    response.time.seconds = response.flow.time.seconds = second
    return response


def loss(second: int) -> GetFlowsResponse:
    """Lost events, reported at that second."""
    response = GetFlowsResponse(lost_events=flow_pb2.LostEvent(source="HUBBLE_RING_BUFFER", num_events_lost=second))
    response.time.seconds = second
    return response


def shown(text: str) -> list[str]:
    """What compact lines are about: the flows' summaries, and how many events were lost."""
    return [line.rsplit(" ", 1)[1].strip("()") for line in text.splitlines()]


def batch(seconds: Sequence[int], node: str = "n", *, source: str = "", destination: str = "") -> flows_pb2.FlowBatch:
    """A whole stream's first batch: flows of these seconds, whose summaries name node and second, between two pods."""
    ends, n = EndTable(), len(seconds)
    numbers = [
        ends.number(flows_pb2.End(endpoint=flow_pb2.Endpoint(namespace="shop", pod_name=name)).SerializeToString())
        for name in (source or f"{node}-client", destination or f"{node}-server")
    ]
    flows = []
    for second in seconds:
        flow = flow_pb2.Flow(Summary=f"{node}{second}", verdict="FORWARDED", node_name=node)
        flow.IP.source, flow.IP.destination = "10.0.0.1", "10.0.0.2"
        flow.time.seconds = second
        flows.append(flow.SerializeToString())
    zero = np.zeros(n, np.uint64)
    columns = Batch(
        flows=objects(flows),
        connections=objects([connection_bytes(second) for second in seconds]),
        time_ns=np.array(seconds, np.int64) * SECOND,
        start_ns=np.array(seconds, np.int64) * SECOND,
        source=np.full(n, numbers[0], np.uint32),
        destination=np.full(n, numbers[1], np.uint32),
        opener=zero,
        tuple=zero,
        at_source=np.ones(n, np.uint8),
        node=np.zeros(n, np.uint32),
        reply=np.zeros(n, np.uint8),
    )
    return BatchWriter(ends, [node]).write(columns)


def connection_bytes(second: int) -> bytes:
    return extension_pb2.Connection(id=second).SerializeToString()


def covered(*nodes: flows_pb2.NodeCoverage, complete: bool = True) -> flows_pb2.FlowBatch:
    """The last batch of an answer."""
    return flows_pb2.FlowBatch(coverage=flows_pb2.Coverage(nodes=nodes, complete=complete))


def answered(name: str) -> flows_pb2.NodeCoverage:
    """A node that has nothing to hide."""
    return flows_pb2.NodeCoverage(node=name, state=relay_pb2.NODE_CONNECTED)


def refused(name: str) -> flows_pb2.NodeCoverage:
    """A node that did not answer."""
    return flows_pb2.NodeCoverage(node=name, state=relay_pb2.NODE_UNAVAILABLE, message="connection refused")
