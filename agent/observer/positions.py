"""Positions: up to where a stream has delivered this agent's flows, and where its batches may end so that this can be said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.proto import flows_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


NO_NUMBER = 1 << 62  # of no flow


@dataclass(frozen=True, slots=True)
class Reach:
    """Flows numbered from `first` on were delivered if not later than watermark_ns, from `received` on not at all.

    Of those below `first` nothing is missing. watermark_ns: since 1970, by the clock of flows.
    """

    first: int
    received: int
    watermark_ns: int

    def missing(self, numbers: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Where a flow has not been delivered; bool (n,)."""
        mask: NDArray[np.bool_] = (numbers >= self.received) | (numbers >= self.first) & (times > self.watermark_ns)
        return mask

    def after(self, sent_ns: int, end: int) -> Reach:
        """When all missing flows below number `end` were sent that are not later than sent_ns.

        Of two ranges of numbers, that were missing from different times on, nothing before the watermark may be left: no Reach
        could say so. cuts() sees to it.
        """
        later = max(sent_ns, self.watermark_ns) if self.first < self.received else sent_ns
        return Reach(min(self.first, end), end, later)

    def message(self, node: str, instance: int) -> flows_pb2.Position:
        """As clients keep it."""
        position = flows_pb2.Position(node=node, instance=instance, received=self.received, watermark_ns=self.watermark_ns)
        setattr(position, "from", self.first)
        return position


def reach_of(position: flows_pb2.Position) -> Reach:
    """What a client gives back."""
    return Reach(getattr(position, "from"), position.received, position.watermark_ns)


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a stream goes on that broke off. instance: of the agent's process that the reach was said by."""

    instance: int
    reach: Reach

    def within(self, instance: int) -> Reach:
        """What that means in another process: its numbers are others, and all that is later than the watermark is missing."""
        return self.reach if instance == self.instance else Reach(0, NO_NUMBER, self.reach.watermark_ns)


def cuts(times: NDArray[Any], size: int, reach: Reach) -> Iterator[int]:
    """Where to cut flows (n,), ordered by time, into batches of about `size`: their ends, the last one n.

    Flows of the same nanosecond stay together: a Reach tells them apart by their time only.
    """
    n = len(times)
    # When the stream goes on after a Reach of two ranges, all that is not later than its watermark must go at once.
    done = int(np.searchsorted(times, reach.watermark_ns, "right")) if reach.first < reach.received else 0
    end = 0
    while end < n:
        end = max(end + size, done)
        if end < n:
            end = int(np.searchsorted(times, times[end - 1], "right"))
        yield min(end, n)
