"""Clock: how far a node's clock is from ours, by round trips, as NTP does it.

RFC 5905: an answer's time is compared with the middle of its round trip, so that no error is greater than half of that
trip (8); of the last samples the one with the shortest trip is the best (10); it grows worse with age (PHI, 7.2).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SAMPLES: Final = 8  # kept, as in NTP's clock filter
BURST: Final = 5  # taken at connect; with the first, which also warms the connection, milliseconds in all
DRIFT: Final = 15e-6  # PHI: how fast clocks may run apart


@dataclass(frozen=True, slots=True)
class Clock:
    """offset_ns: a node's clock minus ours. error_ns: by how much that may be wrong, either way."""

    offset_ns: int
    error_ns: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer. at_ns: when, by the monotonic clock."""

    at_ns: int
    offset_ns: int
    round_trip_ns: int

    def error_ns(self, now_ns: int) -> int:
        """How wrong it may be at a later time."""
        return self.round_trip_ns // 2 + int((now_ns - self.at_ns) * DRIFT)


class ClockFilter:
    """The last samples of one node."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)

    def add(self, sample: Sample) -> Clock:
        """Take a new sample and say what the clock is. One that contradicts what was known means that a clock was set."""
        best = self._best(sample.at_ns)
        if best is not None:
            apart = abs(sample.offset_ns - best.offset_ns)
            if apart > sample.error_ns(sample.at_ns) + best.error_ns(sample.at_ns):
                self._samples.clear()
        self._samples.append(sample)
        best = self._best(sample.at_ns) or sample
        return Clock(best.offset_ns, best.error_ns(sample.at_ns))

    def _best(self, now_ns: int) -> Sample | None:
        return min(self._samples, key=lambda one: one.error_ns(now_ns), default=None)


async def take_sample(ask: Callable[[], Awaitable[int]]) -> Sample:
    """Ask a node what time it is (nanoseconds since 1970) and compare. Raises what ask raises."""
    wall_ns, began_ns = time.time_ns(), time.monotonic_ns()
    theirs_ns = await ask()
    ended_ns = time.monotonic_ns()
    trip_ns = ended_ns - began_ns
    return Sample(ended_ns, theirs_ns - (wall_ns + trip_ns // 2), trip_ns)
