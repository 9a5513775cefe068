"""Selected flows: a snapshot out of the store, in time order, with what this node knows of their other ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.observer import other_ends

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.store.store import FlowStore, Loss

    Columns = dict[str, NDArray[Any]]


@dataclass(slots=True)
class Selected:
    """n flows. columns as in agent/store/columns.py, and remote_pid, remote_process, joined (whether the remote end is known
    by the other socket's flow). end: flows below this number were looked at.
    """

    numbers: NDArray[np.int64]
    columns: Columns
    end: int
    losses: list[Loss] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def times(self) -> NDArray[np.int64]:
        """ns since 1970 (n,), ascending."""
        return self.columns["time"]

    def part(self, first: int, last: int) -> Selected:
        """Rows first..last-1, without losses; views."""
        columns = {name: column[first:last] for name, column in self.columns.items()}
        return Selected(self.numbers[first:last], columns, self.end)


def take(store: FlowStore, numbers: NDArray[np.int64]) -> Columns:
    """Copies of flows, ordered by time, in the store's columns and `number`. The caller holds the lock."""
    columns: Columns = {**store.take(numbers), "number": numbers}
    order = np.argsort(columns["time"], kind="stable")
    return {name: column[order] for name, column in columns.items()}


def around(store: FlowStore, first: int, last: int) -> Columns:
    """Copies of what other ends are found by, of flows first..last-1. The caller holds the lock."""
    return {name: store.column(name, first, last).copy() for name in other_ends.COLUMNS}


def joined(store: FlowStore, columns: Columns, stored: Columns, first: int) -> None:
    """Name remote ends by the flows of the other sockets: sets remote, remote_pid, remote_process and joined of columns.

    stored: around() from number `first` on. Takes the lock for a moment: flows that were overwritten meanwhile do not count.
    """
    found = other_ends.find(stored, columns)
    numbers = np.where(found >= 0, found + first, -1)
    with store.lock:
        here = np.flatnonzero(numbers >= store.oldest)
        others = store.take(numbers[here], ("local", "pid", "process"))
    count = len(numbers)
    columns["joined"] = np.zeros(count, np.bool_)
    columns["remote_pid"], columns["remote_process"] = np.zeros(count, np.uint32), np.zeros(count, np.uint32)
    columns["joined"][here] = True
    for name, other in (("remote", "local"), ("remote_pid", "pid"), ("remote_process", "process")):
        columns[name][here] = others[other]
