"""Kernel cost: run time of all eBPF programs of a running agent per connection and per request, both ends seen."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.agent_process import agent, count_run_time
from bench.empty_program import attached
from bench.figures import Measured
from bench.load import servers
from bench.pods import two_pods
from bench.report import number

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
    with two_pods() as pods, servers(pods) as load, attached(pods.observed) as nothing:
        for suffix, flags in (("", ("--no-requests",)), ("_l7", ())):
            with agent(pods, None, *flags) as running, count_run_time():
                for name, close, note in LOADS:
                    rounds = [_per_request(running, load, nothing, close=close) for _ in range(ROUNDS)]
                    yield Measured(name + suffix, [ns for ns, _ in rounds], f"{note}; {_counting(rounds)}")


def _per_request(running: AgentProcess, load: Load, nothing: int, *, close: bool) -> tuple[float, float]:
    """Run time in ns, and what of it is the kernel's counting."""
    before, idle = running.bpf_runs(), _runs(nothing)
    requests = load.wrk(SECONDS, close=close)
    ns, runs = (now - then for now, then in zip(running.bpf_runs(), before, strict=True))
    idle_ns, idle_runs = (now - then for now, then in zip(_runs(nothing), idle, strict=True))
    return ns / requests, runs / requests * idle_ns / idle_runs


def _counting(rounds: list[tuple[float, float]]) -> str:
    counting = statistics.median(counting for _, counting in rounds)
    return f"{number(counting)} ns of it are the counting, as an empty program beside it shows"


def _runs(program: int) -> tuple[int, int]:
    fields = dict(re.findall(r"^(run_\w+):\s*(\d+)$", Path(f"/proc/self/fdinfo/{program}").read_text(), re.MULTILINE))
    return int(fields["run_time_ns"]), int(fields["run_cnt"])
