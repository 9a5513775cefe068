"""Limit: the newest or oldest N flows of a merged stream."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flows.flow.batch import concatenate
from flows.relay.merge import Rows

if TYPE_CHECKING:
    from flows.relay.query import Query


class Limit(Protocol):
    """Takes flows in order; done tells that no later one can matter."""

    done: bool
    holds: bool  # whether it gives out nothing before the end
    reached: bool  # whether it left out any flow

    def push(self, rows: Rows) -> Rows:
        """The flows that can be shown now that these came."""

    def end(self) -> Rows | None:
        """The flows that could only be shown once the stream has ended."""


class Everything:
    """No limit."""

    done = holds = reached = False

    def push(self, rows: Rows) -> Rows:
        return rows

    def end(self) -> Rows | None:
        return None


class Oldest:
    """The first number flows."""

    holds = reached = False

    def __init__(self, number: int) -> None:
        self._left = number
        self.done = number == 0

    def push(self, rows: Rows) -> Rows:
        shown = rows.part(0, min(len(rows), self._left))
        self._left -= len(shown)
        self.done = self._left == 0
        self.reached = self.done
        return shown

    def end(self) -> Rows | None:
        return None


class Newest:
    """The last number flows; holds at most that many and one window."""

    done, holds = False, True

    def __init__(self, number: int) -> None:
        self._number = number
        self._kept: deque[Rows] = deque()
        self._rows = 0
        self.reached = False

    def push(self, rows: Rows) -> Rows:
        if not len(rows):
            return rows
        late = self._kept and rows.at_ns[0] < self._kept[-1].at_ns[-1]
        self._kept.append(rows)
        self._rows += len(rows)
        self.reached = self.reached or self._rows >= self._number
        if late:
            self._kept = deque([self._in_order()])
            self._rows = len(self._kept[0])
        while self._rows - len(self._kept[0]) >= self._number:
            self._rows -= len(self._kept.popleft())
        return rows.part(0, 0)

    def end(self) -> Rows | None:
        if not self._kept:
            return None
        rows = self._in_order()
        self._kept, self._rows = deque(), 0
        return rows

    def _in_order(self) -> Rows:
        """The newest of what is kept."""
        kept = list(self._kept)
        rows = Rows(concatenate([part.batch for part in kept]), np.concatenate([part.at_ns for part in kept]))
        if (rows.at_ns[1:] < rows.at_ns[:-1]).any():  # some came late
            rows = rows.take(np.argsort(rows.at_ns, kind="stable"))
        return rows.part(max(0, len(rows) - self._number), len(rows))


def limit(query: Query) -> Limit:
    """The limit that a query states."""
    if not query.limited:
        return Everything()
    return Oldest(query.selection.number) if query.selection.first else Newest(query.selection.number)
