"""What stands around the reader in its tests: a kernel and names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

from samples import Names

from flows.agent.probe.payload import LONG_PAYLOAD, SHORT_PAYLOAD
from flows.agent.probe.record import RECORD, Counter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from flows.agent.reader import Reader


class Kernel:
    """Stands in for a probe: records and counters that a test puts in."""

    def __init__(self) -> None:
        self.waiting: list[NDArray[Any]] = []
        self.payloads: list[NDArray[Any]] = []
        self.shares: list[float] = []
        self.counts = dict.fromkeys(Counter, 0)
        self.swept: list[str] = []
        self.complete = True
        self.filled = 0.0
        self.handed_over = 0
        self.notes: list[tuple[int, int, int]] = []

    def wait(self, seconds: float) -> None:
        """Nothing to wait for."""

    def peek(self) -> NDArray[Any]:
        return np.concatenate(self.waiting) if self.waiting else np.zeros(0, RECORD)

    def note(self, instance: int, written: int, told: Mapping[Counter, int]) -> None:
        self.notes.append((instance, written, told[Counter.LOST_RING_FULL]))

    def peek_payloads(self) -> tuple[NDArray[Any], ...]:
        return np.zeros(0, LONG_PAYLOAD), np.concatenate([np.zeros(0, SHORT_PAYLOAD), *self.payloads])

    def sample(self, share: float) -> None:
        self.shares.append(share)

    def release(self) -> None:
        self.waiting, self.payloads = [], []

    def wake(self) -> None:
        """Nobody sleeps here."""

    def sweep(self) -> None:
        self.swept.append("all")

    def sweep_connections(self) -> None:
        self.swept.append("connections")

    def counters(self) -> dict[Counter, int]:
        return dict(self.counts)


class Enricher(Names):
    """Names everything 1 and 2; fails when told to."""

    fails = False

    def resolve(self, records: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.fails:
            raise ValueError("told to")
        return np.full(len(records), 1, np.uint32), np.full(len(records), 2, np.uint32)

    def apply_changes(self) -> None:
        """Nothing changes."""

    def late_names(self) -> list[Any]:
        return []

    def retain(self, numbers: NDArray[Any]) -> None:
        """Numbers are never given back here."""
        self.retained = numbers.tolist()


def stored(reader: Reader) -> list[int]:
    return [int(number) for number in reader._store.column("conn_id", 0, reader._store.written)]
