"""Throughput kept: the same loads with and without the agent, in pairs, taken in turns."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from bench.agent_process import agent
from bench.empty_program import EGRESS, INGRESS, attached
from bench.figures import Measured
from bench.load import servers
from bench.pods import two_pods
from bench.report import number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.load import Load
    from bench.pods import Pods

PAIRS: Final = 10
SECONDS: Final = 2  # of each load each time
SETTLE_SECONDS: Final = 8.0  # compilers, also that of the plaintext's programs, and the programs' removal are no part of the load

LOADS: Final[dict[str, Callable[[Load], float]]] = {
    "kept_keepalive": lambda load: load.wrk(SECONDS, close=False),
    "kept_https": lambda load: load.https(SECONDS),
    "kept_connections": lambda load: load.wrk(SECONDS, close=True),
    "kept_iperf3": lambda load: load.iperf3(SECONDS),
}
UNITS: Final = {
    "kept_keepalive": (1, "requests/s"),
    "kept_https": (1, "requests/s"),
    "kept_connections": (1, "connections/s"),
    "kept_iperf3": (1e9, "Gbit/s"),
}


def measure() -> Iterator[Measured]:
    """Percent kept, one value for each pair."""
    results: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    with two_pods() as pods, servers(pods) as load:
        _run_all(load)  # the first run of all is slower: caches, CPU frequency, ports
        for watched in order(PAIRS):
            results[watched[0]].extend(_runs(pods, load, watched))
        floor = [_beside_empty_programs(pods, load, first) for first in (True, False) * (PAIRS // 2)]
    for name in LOADS:
        pairs = [(with_it[name], without[name]) for with_it, without in zip(results[True], results[False], strict=True)]
        yield Measured(name, [100 * with_it / without for with_it, without in pairs], _note(name, pairs))
    yield Measured("kept_empty", [100 * with_them / without for with_them, without in floor], _note("kept_keepalive", floor))


def order(pairs: int) -> list[tuple[bool, ...]]:
    """Runs with (True) and without the agent, neighbours of a kind joined: on, off off, on on, off off, ...

    What drifts slowly favours neither, and the agent starts only once in two pairs.
    """
    turns = [turn for pair in range(pairs) for turn in ((True, False) if pair % 2 == 0 else (False, True))]
    joined: list[tuple[bool, ...]] = []
    for turn in turns:
        if joined and joined[-1][0] == turn:
            joined[-1] += (turn,)
        else:
            joined.append((turn,))
    return joined


def _runs(pods: Pods, load: Load, watched: tuple[bool, ...]) -> list[dict[str, float]]:
    with agent(pods) if watched[0] else contextlib.nullcontext():
        time.sleep(SETTLE_SECONDS)
        return [_run_all(load) for _ in watched]


def _beside_empty_programs(pods: Pods, load: Load, first: bool) -> tuple[float, float]:
    """Keep-alive requests with and without programs that do nothing where the agent's are; first: with them first."""
    results = {}
    for attach in (first, not first):
        with contextlib.ExitStack() as stack:
            for direction in (INGRESS, EGRESS) if attach else ():
                stack.enter_context(attached(pods.observed, direction))
            results[attach] = LOADS["kept_keepalive"](load)
    return results[True], results[False]


def _run_all(load: Load) -> dict[str, float]:
    return {name: run(load) for name, run in LOADS.items()}


def _note(name: str, pairs: list[tuple[float, float]]) -> str:
    scale, unit = UNITS[name]
    per_second = scale if name == "kept_iperf3" else SECONDS
    fastest = max(without for _, without in pairs) / per_second
    return f"{len(pairs)} pairs of {SECONDS} s; {number(fastest)} {unit} without the agent at best"
