"""Counters that the kernel keeps for each CPU: only their sums mean anything."""

from __future__ import annotations

import numpy as np

from flows.agent.probe import bpf
from flows.agent.probe.lanes import cpus


def counted(table: int, counter: int) -> int:
    """One counter of a per-CPU array map of u64, summed over CPUs; table: its descriptor. Raises OSError."""
    raw = bpf.lookup(table, counter.to_bytes(4, "little"), 8 * cpus())
    return int(np.frombuffer(raw, "<u8").sum())
