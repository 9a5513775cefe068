"""Memory per stored flow: all that a full store has allocated, by Python's and NumPy's own account."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING

from bench import records
from bench.figures import Measured
from flows.agent.options import DEFAULT_FLOWS
from flows.agent.store.store import FlowStore

if TYPE_CHECKING:
    from collections.abc import Iterator


def measure() -> Iterator[Measured]:
    """Fill a store of the default size, and weigh it."""
    with records.cluster() as (enricher, cgroups):
        batch = records.batch(DEFAULT_FLOWS, cgroups, 0)
        local, remote = enricher.resolve(batch)
        tracemalloc.start()
        try:
            store = FlowStore(DEFAULT_FLOWS)
            store.append(batch, local, remote, time.time_ns() - time.monotonic_ns())
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    yield Measured("stored_flow", [held / store.written], f"{held / 1e6:.1f} MB for {store.written:,} flows")
