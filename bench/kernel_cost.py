"""Kernel cost: run time of all eBPF programs of a running agent per connection and per request, both ends seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.agent_process import agent, count_run_time
from bench.figures import Measured
from bench.load import servers
from bench.pods import two_pods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.agent_process import AgentProcess
    from bench.load import Load

ROUNDS: Final = 4
SECONDS: Final = 3
LOADS: Final = (
    ("kernel_connection", True, "10 packets: opened, one request, closed"),
    ("kernel_request", False, "one request and its answer on an open connection"),
)


def measure() -> Iterator[Measured]:
    """Short connections, then keep-alive requests; without requests, then with all that is looked at by default."""
    with two_pods() as pods, servers(pods) as load:
        for suffix, flags in (("", ("--no-requests",)), ("_l7", ())):
            with agent(pods, None, *flags) as running, count_run_time():
                for name, close, note in LOADS:
                    yield Measured(name + suffix, [_ns_per_request(running, load, close=close) for _ in range(ROUNDS)], note)


def _ns_per_request(running: AgentProcess, load: Load, *, close: bool) -> float:
    before = running.bpf_run_ns()
    requests = load.wrk(SECONDS, close=close)
    return (running.bpf_run_ns() - before) / requests
