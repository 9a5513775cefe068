"""CPU of a running agent that knows 10,000 pods while 100 of them change a second: over HTTPS, each change by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bench.agent_process import agent
from bench.figures import Measured
from bench.kubernetes_api import kubernetes_api
from bench.kubernetes_server import PODS
from bench.pods import two_pods
from bench.resident import wait_for_lists

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.agent_process import AgentProcess
    from bench.kubernetes_api import Api

RATE: Final = 100
WINDOWS: Final = 3
SECONDS: Final = 8.0
SETTLE_SECONDS: Final = 4.0  # what listing costs is not what watching costs


class ChangeError(Exception):
    """The stand-in did not tell as many changes as it was to."""


def measure() -> Iterator[Measured]:
    """Some windows with changes and one without, in one run."""
    with kubernetes_api(tls=True) as api, two_pods() as pods, agent(pods, api.kubeconfig) as running:
        wait_for_lists(api)
        time.sleep(SETTLE_SECONDS)
        quiet, _ = _window(running, api)
        api.change(RATE)
        windows = [_window(running, api) for _ in range(WINDOWS)]
        sent = sum(sent for _, sent in windows) / WINDOWS
        note = f"{PODS:,} pods known; {sent / 1e3:,.0f} kB/s of events; {quiet:.2f} without changes"
        yield Measured("pod_changes", [percent for percent, _ in windows], note)


def _window(running: AgentProcess, api: Api) -> tuple[float, float]:
    """Percent of a core, and bytes of events a second. Raises ChangeError."""
    (changes, sent), cpu, start = api.changed(), running.cpu_seconds(), time.monotonic()
    time.sleep(SECONDS)
    took, spent = time.monotonic() - start, running.cpu_seconds() - cpu
    changes, sent = api.changed()[0] - changes, api.changed()[1] - sent
    if changes and changes < 0.9 * RATE * took:
        raise ChangeError(f"only {changes / took:.0f} changes a second; is the machine busy?")
    return 100 * spent / took, sent / took
