"""`flows observe --last 20` as a person runs it: a new process each time, against an agent whose store is full."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Final

from bench.agent_process import FLOWS, agent
from bench.figures import Measured
from bench.load import servers
from bench.pods import two_pods
from bench.resident import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS: Final = 10
LAST: Final = 20
SECONDS: Final = 20.0


class ObserveError(Exception):
    """The command did not show what it was asked for."""


def measure() -> Iterator[Measured]:
    """Wall clock time from the command to its end."""
    with two_pods() as pods, servers(pods) as load, agent(pods) as running:
        fill(running, load)
        times = [_observe(running.address) for _ in range(ROUNDS + 1)]
    yield Measured("observe_cold", times[1:], f"a new process each time; the very first: {times[0]:.2f}")


def _observe(address: str) -> float:
    """Seconds of one run. Raises ObserveError."""
    words = [str(FLOWS), "observe", "--last", str(LAST), "--server", address, "-o", "json"]
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    took = time.perf_counter() - start
    shown = sum('"flow"' in line for line in done.stdout.splitlines())
    if done.returncode or shown != LAST:
        raise ObserveError(f"{' '.join(words)}: status {done.returncode}, {shown} flows\n{done.stderr.strip()}")
    return took
