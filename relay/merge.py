"""Merge: the flows of several agents as one stream, by corrected time. Arrays in, arrays out.

Each agent is a lane: batches in the order of their time, and a watermark before which nothing more will come. What is below
the lowest watermark of all live lanes can be given out, in order. What comes later than that (its agent was silent for too
long, or away) is given out when it comes.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.flow.batch import Batch, concatenate
from flows.proto.flows_pb2 import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

LOWEST: Final = -(1 << 63)
HIGHEST: Final = (1 << 63) - 1
AHEAD_NS: Final = 1_000_000_000
"""An answer gets no further ahead of the time than this, whatever agents say: what comes then would all be late, and in no order.
Corrected clocks are off by milliseconds."""
STALLED_SECONDS: Final = 2.0
"""A watermark that has not moved for so long holds nobody up: twice the longest delay that agents are asked for."""


@dataclass(slots=True)
class Rows:
    """n flows in the order of at_ns (n,), int64: when they happened by the relay's clock. The batch has the nodes' own times."""

    batch: Batch
    at_ns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.at_ns)

    def take(self, rows: NDArray[np.integer]) -> Rows:
        """The given rows; copies."""
        return Rows(self.batch.take(rows), self.at_ns[rows])

    def part(self, first: int, last: int) -> Rows:
        """Rows first..last-1; views."""
        if first == 0 and last == len(self.at_ns):
            return self
        return Rows(_sliced(self.batch, slice(first, last)), self.at_ns[first:last])


@dataclass(slots=True)
class _Chunk:
    """One batch of a lane. taken: how many of its rows were given out; position: what was delivered once all are."""

    rows: Rows
    position: Position | None
    taken: int = 0


class Lane:
    """One agent's flows that wait to be given out. Times by the relay's clock unless they are said to be the node's."""

    def __init__(self, base: Position | None = None) -> None:
        """base: where its stream goes on."""
        self.live = True  # whether others wait for it
        self.watermark_ns = LOWEST
        self.waited = 0.0  # seconds that others have waited for it, in all
        self.rows = 0
        self.dirty = False  # whether position() may say something new
        self.offset_ns = 0  # of the node's clock; constant while flows wait, so that their order is
        self._chunks: deque[_Chunk] = deque()
        self._base, self._since = base, 0.0
        self._next = HIGHEST  # time of the oldest waiting flow
        # The last take() looked at so many batches and gave out what they had before this time: what has come since then may be
        # older than that, and positions do not speak of it yet.
        self._looked, self._given_ns = 0, LOWEST

    def add(self, batch: Batch, offset_ns: int, position: Position | None = None) -> None:
        """Take a batch in the order of its time; position: what was delivered with it."""
        if not self._chunks:
            self.offset_ns = offset_ns
        at_ns = batch.time_ns - self.offset_ns
        rows = Rows(batch, at_ns)
        if len(at_ns) > 1 and (at_ns[1:] < at_ns[:-1]).any():
            rows = rows.take(np.argsort(at_ns, kind="stable"))
        self._chunks.append(_Chunk(rows, position))
        if len(at_ns):
            self.rows += len(at_ns)
            self._next = min(self._next, int(rows.at_ns[0]))
        self._drain()
        self.dirty = True

    def advance(self, watermark_ns: int, now: float) -> None:
        """Nothing before watermark_ns will come any more. now: by a monotonic clock, in seconds."""
        if watermark_ns > self.watermark_ns:
            self.watermark_ns, self._since = watermark_ns, now

    def wait_from(self, now: float) -> None:
        """Count the time without a move of the watermark from here."""
        self._since = now

    def stalled(self, now: float, seconds: float = STALLED_SECONDS) -> bool:
        """Whether the watermark has not moved for too long."""
        return now - self._since > seconds

    def ready(self, bound_ns: int) -> list[NDArray[np.int64]]:
        """Times of the waiting flows before bound_ns."""
        if self._next >= bound_ns:
            return []
        waiting = (chunk.rows.at_ns[chunk.taken :] for chunk in self._chunks)
        return [at_ns[: int(at_ns.searchsorted(bound_ns))] for at_ns in waiting]

    def take(self, bound_ns: int) -> list[Rows]:
        """The waiting flows before bound_ns, or a little more where a position could not say otherwise what was given out."""
        if self._next >= bound_ns:
            return []
        bound_ns = max(bound_ns, self._floor())
        taken: list[Rows] = []
        self._next = HIGHEST
        for chunk in self._chunks:
            at_ns, first = chunk.rows.at_ns, chunk.taken
            last = chunk.taken = max(first, int(at_ns.searchsorted(bound_ns)))
            if last > first:
                taken.append(chunk.rows.part(first, last))
                self.rows -= last - first
            if last < len(at_ns):
                self._next = min(self._next, int(at_ns[last]))
        self._drain()
        self._looked, self._given_ns = len(self._chunks), bound_ns
        self.dirty = True
        return taken

    def change_ends(self, renumbered: Callable[[NDArray[np.uint32]], NDArray[np.uint32]]) -> None:
        """Exchange the numbers of the ends of waiting flows."""
        for chunk in self._chunks:
            batch = chunk.rows.batch
            source, destination = renumbered(batch.source), renumbered(batch.destination)
            chunk.rows = replace(chunk.rows, batch=replace(batch, source=source, destination=destination))

    def position(self) -> Position | None:
        """What was given out by the last take(); None as long as nothing can be said."""
        self.dirty = False
        looked = list(islice(self._chunks, self._looked))
        if not any(chunk.taken for chunk in looked):
            return self._base
        first = looked[0].position
        if first is None:
            return self._base
        received, base = first.received, self._base
        for chunk in looked:
            if chunk.position is not None and chunk.position.instance == first.instance:
                received = chunk.position.received
        before_ns = self._given_ns + self.offset_ns - 1  # by the node's clock: up to then all was given out, and none after
        said = Position(node=first.node, instance=first.instance, received=received, watermark_ns=before_ns)
        if base is not None and base.instance == first.instance:
            setattr(said, "from", getattr(base, "from"))
        return said

    def _floor(self) -> int:
        """Flows before go out with the first of them: a position has one time for all numbers that it leaves open."""
        base = self._base
        if base is None or getattr(base, "from") >= base.received:
            return LOWEST
        return min(base.watermark_ns - self.offset_ns, HIGHEST - 1) + 1

    def _drain(self) -> None:
        """Forget batches that were given out whole."""
        while self._chunks and self._chunks[0].taken == len(self._chunks[0].rows):
            self._base = self._chunks.popleft().position or self._base


class Merge:
    """All lanes of one query."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        self.watermark_ns = LOWEST  # flows before were given out, but for those that come late
        self.held: Lane | None = None  # the lane that all others waited for at the last take()

    def _holder(self) -> Lane | None:
        """The live lane that holds the others up."""
        return min((lane for lane in self.lanes if lane.live), key=lambda lane: lane.watermark_ns, default=None)

    def take(self, most: int | None = None, until_ns: int = HIGHEST) -> Rows | None:
        """The next flows in order, about `most` if there are more, and only those before until_ns; None if there are none.

        Late ones come first. Flows of the same nanosecond stay together.
        """
        holder = self.held = self._holder()
        bound = max(min(HIGHEST if holder is None else holder.watermark_ns, until_ns), self.watermark_ns)
        if most is not None:
            bound = self._lowered(bound, most)
        parts = [part for lane in self.lanes for part in lane.take(bound)]
        if not parts:
            if bound < HIGHEST:
                self._reached(bound)
            return None
        rows = _sorted(parts)
        # Without anybody to wait for there is no bound; what comes then is late only if it is older than what was given out.
        self._reached(bound if bound < HIGHEST else int(rows.at_ns[-1]) + 1)
        return rows

    def _reached(self, time_ns: int) -> None:
        self.watermark_ns = max(self.watermark_ns, min(time_ns, time.time_ns() + AHEAD_NS))

    def _lowered(self, bound_ns: int, most: int) -> int:
        times = [part for lane in self.lanes for part in lane.ready(bound_ns)]
        if sum(map(len, times)) <= most:
            return bound_ns
        return max(int(np.partition(np.concatenate(times), most - 1)[most - 1]) + 1, self.watermark_ns)

    def positions(self) -> list[Position]:
        """Those that have changed since the last call."""
        said = (lane.position() for lane in self.lanes if lane.dirty)
        return [position for position in said if position is not None]


def _sliced(batch: Batch, rows: slice) -> Batch:
    """Views, in the order of the columns. Written out, as it is done for each batch of each agent: 1 us, a third of a loop."""
    return Batch(
        batch.flows[rows],
        batch.connections[rows],
        batch.time_ns[rows],
        batch.start_ns[rows],
        batch.source[rows],
        batch.destination[rows],
        batch.opener[rows],
        batch.tuple[rows],
        batch.at_source[rows],
        batch.node[rows],
        batch.reply[rows],
    )


def _sorted(parts: Iterable[Rows]) -> Rows:
    listed = list(parts)
    if len(listed) == 1:
        return listed[0]
    at_ns = np.concatenate([part.at_ns for part in listed])
    batch = concatenate([part.batch for part in listed])
    if (at_ns[1:] >= at_ns[:-1]).all():
        return Rows(batch, at_ns)
    return Rows(batch, at_ns).take(np.argsort(at_ns, kind="stable"))
