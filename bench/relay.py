"""The relay over 1,000 agents: memory, time to connect, a question to all, flows to one follower, and their order."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from bench.figures import Measured
from bench.relay_process import RelayError, agents, relay
from flows.proto import flows_pb2, flows_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.relay_process import RelayProcess

AGENTS: Final = 1_000
RATE: Final = 70.0  # of each agent: 70,000/s in all, more than the target, so that the relay and not the offer is measured
LAST: Final = 100
ROUNDS: Final = 10
FOLLOW_SECONDS: Final = 15.0
SKEW_MS: Final = 200
ORDER_AGENTS, ORDER_RATE = 30, 100.0  # calm enough for clocks to be measured well on two cores
FOLLOWER: Final = Path(__file__).with_name("relay_follower.py")


def measure() -> Iterator[Measured]:
    """All figures; agents, relay and follower share the machine."""
    with agents(AGENTS, RATE, SKEW_MS) as peers, relay(peers) as running:
        yield Measured("relay_connect", [running.connected_seconds], f"{AGENTS:,} agents, from the relay's start")
        idle = running.resident_mb()
        yield Measured("relay_last", [_last(running) for _ in range(ROUNDS + 1)][1:], "gRPC client, batched, warm")
        cpu, began = running.cpu_seconds(), time.monotonic()
        got = _follow(running, FOLLOW_SECONDS)
        share = (running.cpu_seconds() - cpu) / (time.monotonic() - began)
        told = f"{got['delay_ms']:.0f} ms behind, relay's CPU {share:.0%} of a core, {got['lost']:.0f} told as lost"
        yield Measured("relay_flows", [got["per_second"]], told)
        yield Measured("relay_resident", [running.resident_mb()], f"after that; {idle:.0f} with idle connections")
    yield from _order()


def _order() -> Iterator[Measured]:
    for name, skew in (("relay_order_jitter", 0), ("relay_order_skew", SKEW_MS)):
        with agents(ORDER_AGENTS, ORDER_RATE, skew) as peers, relay(peers) as running:
            time.sleep(3)  # until clocks are measured
            got = _follow(running, FOLLOW_SECONDS)
        right = 100 * (1 - (got["beyond"] if skew else got["inverted"]))
        yield Measured(
            name,
            [right],
            f"{got['flows']:.0f} flows, out of order by {got['furthest_ms']:.3f} ms at most; clocks: {got['clock_ms']:.3f} ms",
        )


def _last(running: RelayProcess) -> float:
    """Seconds until the newest LAST flows of all nodes are there. Raises RelayError when they are not."""
    request = flows_pb2.FlowsRequest()
    request.query.number = LAST
    with grpc.insecure_channel(running.address) as channel:
        stub: Any = flows_pb2_grpc.FlowsStub(channel)  # type: ignore[no-untyped-call] # generated
        grpc.channel_ready_future(channel).result(10)
        start = time.perf_counter()
        batches = list(stub.GetFlows(request))
        took = time.perf_counter() - start
    shown, coverage = sum(len(batch.flows) for batch in batches), batches[-1].coverage
    answered = sum(node.state == 1 for node in coverage.nodes)
    if (shown, answered) != (LAST, AGENTS):
        raise RelayError(f"the newest {LAST} of {AGENTS} nodes: got {shown} of {answered}")
    return took


def _follow(running: RelayProcess, seconds: float) -> dict[str, float]:
    words = [sys.executable, str(FOLLOWER), running.address, str(seconds)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=seconds * 4 + 30)
    result: dict[str, float] = json.loads(done.stdout)
    return result
