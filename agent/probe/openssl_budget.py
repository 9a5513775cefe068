"""What reading plaintext may cost. Each call of OpenSSL that a probe stops costs its process time: under load up to half of it.

Within the budget all is read. Above, it is read in slices, and what is between them is told as not looked at. Pure: who asks
attaches and detaches.
"""

from __future__ import annotations

CALL_SECONDS = 5e-6  # of one call, entry and return, on a virtual machine under load; half of that on bare metal
BURST_SECONDS = 2.0  # of the budget, that may be used up at once
SLICE_SECONDS = 1.0  # a request that takes longer than a slice is not paired with its answer
MOST_PAUSED = 60.0  # a slice comes at least once in so many seconds, whatever it costs
ALL, UNBOUNDED = 100, 1e18


def allowed(percent: float, cpus: int) -> float:
    """Calls per second that take so many percent of all CPUs' time; 100: without a bound, whatever a call takes here."""
    return percent / 100 * cpus / CALL_SECONDS if percent < ALL else UNBOUNDED


class Budget:
    """Calls that may be stopped in the long run, against those that were. A pause pays for the slice that comes after it."""

    def __init__(self, calls_per_second: float, now: float) -> None:
        """Reading begins now (time.monotonic())."""
        self.reading = True
        self.busy = False  # calls were made between the last two looks
        self._allowed = calls_per_second
        self._left = BURST_SECONDS * calls_per_second
        self._seen, self._seen_at = 0, now
        self._until = now  # a slice or a pause lasts so long at least

    def look(self, now: float, calls: int) -> bool:
        """Whether to read from now on; calls: that were stopped since the start."""
        made, passed = calls - self._seen, now - self._seen_at
        self._seen, self._seen_at, self.busy = calls, now, made > 0
        if self.reading:
            self._left = min(self._left + passed * self._allowed - made, BURST_SECONDS * self._allowed)
        if now < self._until:
            return self.reading
        if not self.reading:
            self.reading, self._left, self._until = True, 0.0, now + SLICE_SECONDS
        elif self._left < 0:
            rate = made / passed
            self.reading, self._until = False, now + min(SLICE_SECONDS * rate / self._allowed, MOST_PAUSED)
        return self.reading
