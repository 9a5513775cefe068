"""One client of the relay: `relay_follower.py ADDRESS SECONDS`. Prints as JSON what it got, how fast, and in which order."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final

import grpc
import numpy as np

from flows.proto import flow_pb2, flows_pb2, flows_pb2_grpc

WARM_SECONDS: Final = 3.0  # until all agents' streams run


def cookies(flows: list[bytes]) -> list[int]:
    """When flows really happened (relay_agents.happened)."""
    return [flow_pb2.Flow.FromString(flow).socket_cookie for flow in flows]


def clock_error(address: str) -> int:
    """How well the relay knows the nodes' clocks, in ns: the worst of them."""
    request = flows_pb2.FlowsRequest()
    request.query.number = 1
    with grpc.insecure_channel(address) as channel:
        stub: Any = flows_pb2_grpc.FlowsStub(channel)  # type: ignore[no-untyped-call] # generated
        coverage = list(stub.GetFlows(request))[-1].coverage
    return max((node.clock_error.ToNanoseconds() for node in coverage.nodes), default=0)


def follow(address: str, seconds: float) -> dict[str, float]:
    """Follow everything for so long.

    inverted: share of neighbours in the wrong order; beyond: of those that differ by more than the clocks are known to.
    """
    request = flows_pb2.FlowsRequest()
    request.query.follow = True
    batches: list[list[bytes]] = []
    lost = 0
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        stub: Any = flows_pb2_grpc.FlowsStub(channel)  # type: ignore[no-untyped-call] # generated
        stream = stub.GetFlows(request)
        began, until = 0.0, time.monotonic() + WARM_SECONDS + seconds
        for batch in stream:
            now = time.monotonic()
            if not began and now > until - seconds:
                began = now
            if began and batch.flows:
                batches.append(list(batch.flows))
                lost += sum(loss.count for loss in batch.losses)
            if now > until:
                break
        stream.cancel()
    spent = time.monotonic() - began
    happened = np.array([moment for flows in batches for moment in cookies(flows)], np.int64)
    back = np.maximum(0, -np.diff(happened))
    clock_ns = clock_error(address)
    return {
        "flows": len(happened),
        "per_second": len(happened) / spent,
        "lost": lost,
        "inverted": float((back > 0).mean()) if len(back) else 0.0,
        "beyond": float((back > 2 * clock_ns).mean()) if len(back) else 0.0,
        "furthest_ms": float(back.max()) / 1e6 if len(back) else 0.0,
        "clock_ms": clock_ns / 1e6,
        "delay_ms": float(time.time_ns() - int(happened[-1])) / 1e6 if len(happened) else 0.0,
    }


if __name__ == "__main__":
    print(json.dumps(follow(sys.argv[1], float(sys.argv[2]))))
