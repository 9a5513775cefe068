"""Pace: how many first bytes come, and which share of requests may leave the kernel, so that looking at them stays cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.http1_rows import pick
from flows.agent.probe.lanes import left_out, pairing_hash
from flows.agent.probe.payload import Origin, PayloadKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.probe.settings import ProbeSettings

    Arrays = tuple[NDArray[np.void], ...]

SECOND: Final = 1_000_000_000
# Times as large a share, at most, as in the second before: loads that come and go begin with a flood otherwise.
RECOVERY: Final = 2.0
# So many seconds' worth may come at once: of a load that is kept from its CPU for twice as long, what it makes up for then.
BURST_SECONDS: Final = 0.25
SHORTEST: Final = SECOND // 50  # a rate of less time says little


class Pace:
    """For the ring's reader only. Times are CLOCK_MONOTONIC, ns."""

    def __init__(self, settings: ProbeSettings, now_ns: int, handed_over: int) -> None:
        """Everything is looked at so far. handed_over: see overrun(); what was there before the agent is no flood."""
        self.share = 1.0  # of requests, that leaves the kernel
        self._allowed, self._sampled = settings.payloads_per_second, settings.sampled_per_second
        self._most = self._room = BURST_SECONDS * self._allowed
        self._before, self._since_ns = 1.0, now_ns  # the share before, and when it changed
        self._seen, self._looked_ns = handed_over, now_ns
        self._offered = self._flood = 0.0
        self._fell = False  # the share, while something of before may wait

    def take(self, payloads: Arrays) -> None:
        """First bytes, arrays (n,) of payload.h, that left. Of HTTP/1's, which alone are sampled, each stands for more."""
        for each in payloads:
            self._offered += len(each)
            if self.share < 1 or self._before < 1:
                sampled = each["kind"] <= PayloadKind.HTTP_RESPONSE
                times = each["time_ns"][sampled]
                older = int(np.count_nonzero(times < self._since_ns))
                self._offered += older * (1 / self._before - 1) + (len(times) - older) * (1 / self.share - 1)

    def thin(self, payloads: Arrays) -> Arrays:
        """Those without what would leave the kernel no more: of a flood, what came before it was noticed is not looked at."""
        if not self._fell:
            return payloads
        self._fell = False
        return tuple(pick(each, ~_left_out(each, left_out(self.share))) for each in payloads)

    def overrun(self, handed_over: int, now_ns: int) -> bool:
        """Whether so much comes that next() must not wait. handed_over: first bytes that left in the lanes' life, read or not."""
        new, passed = handed_over - self._seen, now_ns - self._looked_ns
        self._seen, self._looked_ns = handed_over, now_ns
        self._room = min(self._most, self._room + self._allowed * passed / SECOND - new)
        if self._room >= 0:
            return False
        self._room, self._flood = self._most, new * SECOND / max(passed, SHORTEST) / self.share
        return True

    def next(self, lost: int, now_ns: int) -> float:
        """The share from now on. lost: first bytes that found no room since the last time."""
        seconds = max(now_ns - self._since_ns, SECOND // 10) / SECOND
        a_second = max((self._offered + lost) / seconds, self._flood)
        wanted = self._sampled / a_second if a_second > self._allowed else 1.0
        self._before, self.share = self.share, min(wanted, self.share * RECOVERY)
        self._fell |= self.share < self._before
        self._since_ns, self._offered, self._flood = now_ns, 0.0, 0.0
        return self.share


def _left_out(payloads: NDArray[np.void], below: int) -> NDArray[np.bool_]:
    """Which of these (n,) would not leave the kernel: as is_sampled_out() of bpf/flows.c has it; bool (n,)."""
    kind, sequence = payloads["kind"], payloads["sequence"]
    pairing = np.where(kind == PayloadKind.HTTP_REQUEST, payloads["acknowledged"], sequence)
    sampled = (kind <= PayloadKind.HTTP_RESPONSE) & (payloads["origin"] == Origin.PACKET)
    mask: NDArray[np.bool_] = sampled & (pairing_hash(pairing) < below)
    return mask
