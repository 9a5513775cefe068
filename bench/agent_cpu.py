"""CPU of a running agent, percent of one core: at 3,500 flows a second, and while wrk runs at full speed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bench.agent_process import agent
from bench.figures import Measured
from bench.load import servers
from bench.pods import two_pods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.agent_process import AgentProcess
    from bench.load import Load

WINDOWS: Final = 3
PACED_SECONDS: Final = 6
FULL_SECONDS: Final = 4
FLOWS_PER_CONNECTION: Final = 4  # established and closed, at both ends
PACED_CONNECTIONS: Final = 3_500 // FLOWS_PER_CONNECTION
SETTLE_SECONDS: Final = 5.0  # what starting costs is not what running costs

REQUESTS_PER_SECOND: Final = 5_000

LOADS: Final[dict[str, Callable[[Load], object]]] = {
    "cpu_paced": lambda load: load.paced(PACED_CONNECTIONS, PACED_SECONDS),
    "cpu_requests": lambda load: load.paced_requests(REQUESTS_PER_SECOND, PACED_SECONDS),
    "cpu_keepalive": lambda load: load.wrk(FULL_SECONDS, close=False),
    "cpu_connections": lambda load: load.wrk(FULL_SECONDS, close=True),
}


def measure() -> Iterator[Measured]:
    """Each load, in windows of some seconds."""
    with two_pods() as pods, servers(pods) as load, agent(pods) as running:
        time.sleep(SETTLE_SECONDS)
        for name, run in LOADS.items():
            windows = [_window(running, load, run) for _ in range(WINDOWS)]
            flows = sum(flows for _, flows in windows) / WINDOWS
            yield Measured(name, [percent for percent, _ in windows], f"{flows:,.0f} flows/s stored")


def _window(running: AgentProcess, load: Load, run: Callable[[Load], object]) -> tuple[float, float]:
    """Percent of a core, and flows stored a second, over one run of a load."""
    flows, cpu, start = running.status().seen_flows, running.cpu_seconds(), time.monotonic()
    run(load)
    took = time.monotonic() - start
    spent = running.cpu_seconds() - cpu
    return 100 * spent / took, (running.status().seen_flows - flows) / took
