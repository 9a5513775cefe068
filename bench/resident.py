"""Resident memory of a running agent: after its start, and when it knows 10,000 pods and its store is full."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bench.agent_process import agent
from bench.figures import Measured
from bench.kubernetes_api import kubernetes_api
from bench.kubernetes_server import PODS
from bench.load import servers
from bench.pods import two_pods
from flows.agent.enrich.kube_objects import resources
from flows.agent.options import DEFAULT_FLOWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.agent_process import AgentProcess
    from bench.kubernetes_api import Api
    from bench.load import Load

STARTS: Final = 3
SETTLE_SECONDS: Final = 1.0
LIST_SECONDS: Final = 30.0
FILL_SECONDS: Final = 3  # of wrk: 120,000 flows, twice the store
FILLS: Final = 3
MAX_FILLS: Final = 10  # on a machine too slow to fill the store with three


class FillError(Exception):
    """What was to be held in memory did not get there."""


def measure() -> Iterator[Measured]:
    """Some starts without an API, one long run with one."""
    with two_pods() as pods, servers(pods) as load:
        started = []
        for _ in range(STARTS):
            with agent(pods) as running:
                time.sleep(SETTLE_SECONDS)
                started.append(running.resident_mb())
        yield Measured("resident_start", started)
        with kubernetes_api() as api, agent(pods, api.kubeconfig) as running:
            wait_for_lists(api)
            listed = running.resident_mb()
            full = fill(running, load)
            yield Measured("resident_full", full, f"{PODS:,} pods listed, store still empty: {listed:.1f}")


def wait_for_lists(api: Api) -> None:
    """Wait until all resources are listed. Raises FillError."""
    wanted = {resource.path for resource in resources("bench")}
    deadline = time.monotonic() + LIST_SECONDS
    while missing := wanted - api.watched():
        if time.monotonic() > deadline:
            raise FillError(f"not listed after {LIST_SECONDS:g} s: {', '.join(sorted(missing))}")
        time.sleep(0.1)
    time.sleep(SETTLE_SECONDS)  # what was listed last is still to be taken in


def fill(running: AgentProcess, load: Load) -> list[float]:
    """Fill the store some times over; resident MB after each. Raises FillError."""
    resident = []
    for _ in range(MAX_FILLS):
        load.wrk(FILL_SECONDS, close=True)
        time.sleep(SETTLE_SECONDS)
        if running.status().num_flows >= DEFAULT_FLOWS:
            resident.append(running.resident_mb())
        if len(resident) == FILLS:
            return resident
    raise FillError(f"the store holds {running.status().num_flows:,} flows after {MAX_FILLS} loads")
