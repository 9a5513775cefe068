"""The ring of the last N requests with their answers: a request of any protocol, as one end's socket saw it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.store.request_columns import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    Rows = Mapping[str, NDArray[Any]]


_ZERO = np.array(0, np.uint8)


class RequestStore:
    """Columns of the last `capacity` requests, numbered from 0 in the order they came; `written` is the next number.

    add() and answer() are for the ring's reader, everything else for any thread.
    """

    def __init__(self, capacity: int) -> None:
        """Memory is taken as requests come."""
        self.capacity = capacity
        self.written = 0
        self.lock = threading.Lock()
        self._columns: dict[str, NDArray[Any]] = {
            name: np.zeros((capacity, *shape), dtype) for name, (dtype, shape) in COLUMNS.items()
        }
        self._used: set[str] = set()  # columns that ever had a value: the memory of others is not even touched

    @property
    def oldest(self) -> int:
        """Number of the oldest request still stored."""
        return max(0, self.written - self.capacity)

    def add(self, rows: Rows) -> NDArray[np.int64]:
        """Store n requests, at most `capacity`; columns that rows lack are zero. Returns their numbers (n,).

        A column may be one value for all, () instead of (n,), but not the first one.
        """
        count = len(next(iter(rows.values())))
        numbers = np.arange(self.written, self.written + count)
        with self.lock:
            at = self.written % self.capacity
            head = min(count, self.capacity - at)
            self._used |= rows.keys()
            for name in self._used:
                column, values = self._columns[name], rows.get(name, _ZERO)
                column[at : at + head] = values[:head] if values.ndim else values
                if head < count:
                    column[: count - head] = values[head:] if values.ndim else values
            self.written += count
        return numbers

    def answer(self, numbers: NDArray[np.int64], rows: Rows) -> None:
        """Set columns of requests that are still stored, each to (n,) values or one for all; those that are not are left out."""
        with self.lock:
            self._used |= rows.keys()
            here = numbers >= self.oldest
            if not here.all():
                numbers = numbers[here]
                rows = {name: values[here] if values.ndim else values for name, values in rows.items()}
            at = numbers % self.capacity
            for name, values in rows.items():
                self._columns[name][at] = values

    def stored(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which requests are still there; bool (n,). The caller holds the lock, or is the only writer."""
        mask: NDArray[np.bool_] = (numbers >= self.oldest) & (numbers < self.written)
        return mask

    def numbers_of(self, details: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Numbers (n,) of requests whose flows have these details (n,): the latest numbers that end in these 32 bits."""
        last = np.int64(self.written - 1)
        return last - (last.astype(np.uint32) - details).astype(np.int64)

    def take(self, numbers: NDArray[np.int64], names: Iterable[str] = COLUMNS) -> dict[str, NDArray[Any]]:
        """Copies of the given requests, by number. The caller holds the lock, or is the only writer, and they are stored."""
        at = numbers % self.capacity
        return {name: self._columns[name].take(at, axis=0) for name in names}  # of wide ones ten times as fast as indexing

    def column(self, name: str, first: int, last: int) -> NDArray[Any]:
        """Values of requests first..last-1, in order; a view where possible. The caller holds the lock, and they are stored."""
        values = self._columns[name]
        low, high = first % self.capacity, (last - 1) % self.capacity + 1
        if first >= last:
            return values[:0]
        return values[low:high] if low < high else np.concatenate((values[low:], values[:high]))
