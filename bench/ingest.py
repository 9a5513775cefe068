"""Ingest: what a record costs the agent's reader from the ring to stored, enriched and counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bench import records
from bench.figures import Measured
from bench.load import running, servers
from bench.pods import two_pods
from flows.agent.options import DEFAULT_FLOWS
from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.probe import Probe
from flows.agent.probe.settings import ProbeSettings
from flows.agent.reader import Reader
from flows.agent.store.store import FlowStore

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH: Final = 4096  # what 50 ms bring at 20,000 connections/s
BATCHES: Final = 16  # 9 MB: like the ring, more than the caches hold
ROUNDS: Final = 200  # reads of a batch; three times through the store
WINDOWS: Final = 6
WINDOW_SECONDS: Final = 1.0
READ_SECONDS: Final = 0.2  # by then a quarter of the ring is full


class BatchError(Exception):
    """Records did not get into the store: what was timed is not ingest."""


def measure() -> Iterator[Measured]:
    """Made-up batches, then a real ring."""
    yield made_up()
    yield real()


def made_up() -> Measured:
    """Batches of a node of a large cluster, again and again; ns per record of each batch, CPU time."""
    settings = ProbeSettings()
    with records.cluster() as (enricher, cgroups):
        source = records.Replay([records.batch(BATCH, cgroups, seed) for seed in range(BATCHES)])
        reader = Reader(source, enricher, FlowStore(DEFAULT_FLOWS), settings)
        times = [_batch_ns(reader) / BATCH for _ in range(ROUNDS)]
        _check(reader, ROUNDS * BATCH)
    return Measured("ingest_batch", times[BATCHES:], f"{records.PODS:,} pods known, {records.LOCAL_PODS} here")


def real() -> Measured:
    """The ring that wrk's connections fill; ns per record over windows of a second, CPU time of the reader's thread."""
    settings = ProbeSettings()
    with two_pods() as pods, servers(pods) as load, Probe(settings, find_subtree(pods.observed)) as probe:
        enricher = records.knowing(pods.observed)
        reader = Reader(probe, enricher, FlowStore(DEFAULT_FLOWS), settings)
        with running(load.wrk_command(int(WINDOWS * WINDOW_SECONDS) + 2, close=True)):
            windows = [_window(reader, probe) for _ in range(WINDOWS)]
        enricher.close()
        _check(reader, 1)
    rate, size = reader.counts.records / (WINDOWS * WINDOW_SECONDS), reader.counts.records / reader.counts.batches
    return Measured("ingest_ring", windows, f"{rate:,.0f} records/s, {size:,.0f} in a batch; both CPUs under load")


def _batch_ns(reader: Reader) -> int:
    start = time.thread_time_ns()
    reader.batch()
    return time.thread_time_ns() - start


def _window(reader: Reader, probe: Probe) -> float:
    """Read for a while as the reader's own loop does; ns per record."""
    before, spent = reader.counts.records, 0
    deadline = time.monotonic() + WINDOW_SECONDS
    while time.monotonic() < deadline:
        probe.wait(WINDOW_SECONDS)
        time.sleep(READ_SECONDS)
        spent += _batch_ns(reader)
    return spent / max(1, reader.counts.records - before)


def _check(reader: Reader, at_least: int) -> None:
    counts = reader.counts
    if counts.records < at_least:
        raise BatchError(f"{counts.records} records stored, {at_least} expected")
