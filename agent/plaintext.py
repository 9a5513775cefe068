"""Plaintext of TLS libraries, attached to by a thread of its own beside the ring's reader: it reads files and waits."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from flows.agent.probe.openssl import OpenSslError, OpenSslProbe
from flows.agent.probe.openssl_budget import Budget, allowed
from flows.agent.probe.openssl_source import OpenSslSettings, PlaintextCounter
from flows.agent.probe.payload import whole
from flows.flow.losses import PAUSED, SAMPLED

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from flows.agent.enrich.enricher import Enricher
    from flows.agent.probe.cgroup import Subtree
    from flows.agent.probe.probe import Probe
    from flows.agent.probe.settings import PlaintextSettings

log = logging.getLogger("flows.agent")

RESCAN_SECONDS = 2.0  # processes that live for less and bring their own library are missed
LOOK_SECONDS = 0.05  # how often to look at what reading costs: so long a burst is read that is beyond the budget
IDLE_SECONDS = 0.1  # the same while nobody calls: to wake up costs 0.3 ms
# Counters whose growth means that requests are missing, with the word that users read.
LOSSES = {
    PlaintextCounter.LOST_RING_FULL: "plaintext ring full",
    PlaintextCounter.SESSIONS_FULL: "TLS session table full",
    PlaintextCounter.CALLS_LOST: "TLS call table full",
    PlaintextCounter.SAMPLED_OUT: SAMPLED,
}
# What is never seen, so that it is said once how much of it there is.
BLIND = {
    PlaintextCounter.SOCKET_UNKNOWN: "calls of TLS libraries were left out, for their socket is not known (another thread sends)",
    PlaintextCounter.UNREADABLE: "buffers of TLS libraries could not be read",
}


class Plaintext(threading.Thread):
    """Reads what OpenSSL and GnuTLS encrypt, as soon as it is attached. peek() and release() are for the ring's reader."""

    def __init__(
        self,
        packets: Probe,
        subtree: Subtree,
        enricher: Enricher,
        settings: PlaintextSettings,
        lose: Callable[[str, int, int, int], None],
    ) -> None:
        """Not started yet. lose: FlowStore.lose."""
        super().__init__(name="plaintext", daemon=True)
        self._packets, self._subtree, self._enricher = packets, subtree, enricher
        self._settings, self._lose = settings, lose
        self._paused_ns = 0  # since when (ns since 1970) nothing is read that was not told yet; 0: it is read
        self._probe: OpenSslProbe | None = None
        self._told = dict.fromkeys(PlaintextCounter, 0)
        self._reported: set[tuple[str, str]] = set()

    def run(self) -> None:
        """Attach, and follow processes until the agent ends, with which all is detached.

        Without them, or the rights to look at it, flows go on without plaintext.
        """
        excluded = self._excluded if self._settings.off_limits else None
        try:
            probe = OpenSslProbe(OpenSslSettings(), self._subtree, excluded)
        except OpenSslError as error:
            log.warning("%s; TLS is seen by its ClientHello only", error)
            return
        self._show_calls(probe)
        self._probe = probe
        log.info("reading plaintext of OpenSSL and GnuTLS in %d files", probe.files())
        budget = Budget(allowed(self._settings.budget_percent, os.cpu_count() or 1), time.monotonic())
        while True:
            rescan = time.monotonic() + RESCAN_SECONDS
            while time.monotonic() < rescan:
                time.sleep(LOOK_SECONDS if budget.busy else IDLE_SECONDS)
                self._guarded(lambda: self._keep_to(budget, probe))
            self._guarded(lambda: self._rescan(probe))

    def _guarded(self, act: Callable[[], None]) -> None:
        """The thread outlives any fault."""
        try:
            act()
        except OpenSslError as error:
            log.warning("%s; it is tried again", error)
            time.sleep(RESCAN_SECONDS)
        except Exception:
            log.exception("looking for TLS libraries failed and is tried again")

    def _keep_to(self, budget: Budget, probe: OpenSslProbe) -> None:
        reading = budget.look(time.monotonic(), probe.count(PlaintextCounter.CALLS))
        if reading and self._paused_ns:
            self._show_calls(probe)
            probe.resume()
            self._tell_pause(0)
        elif not reading and not self._paused_ns:
            now = time.time_ns()
            probe.pause()
            self._packets.hide_calls()  # packets need not look for whose they are
            self._paused_ns = now
            self._tell_pause(now)
            if probe.slice == 1:
                log.info("%s of %g %% of all CPUs (--plaintext-budget)", PAUSED, self._settings.budget_percent)

    def _tell_pause(self, goes_on_ns: int) -> None:
        """What came since the last word is not known, nor how much. goes_on_ns: since when there will be more to tell, or 0."""
        self._lose(PAUSED, 0, self._paused_ns, goes_on_ns or time.time_ns())
        self._paused_ns = goes_on_ns

    def _show_calls(self, probe: OpenSslProbe) -> None:
        try:
            self._packets.show_calls(probe.calls)
        except OSError as error:
            words = "HTTPS of programs that keep their socket from OpenSSL (curl) is not seen; restart the agent to try again"
            log.warning("telling calls of OpenSSL which socket sends: %s: %s", error.strerror, words)

    def _rescan(self, probe: OpenSslProbe) -> None:
        since = time.time_ns()
        probe.rescan()
        counters = probe.counters()
        for counter, words in LOSSES.items():
            if counters[counter] > self._told[counter]:
                self._lose(words, counters[counter] - self._told[counter], since - int(RESCAN_SECONDS * 1e9), since)
        for counter, words in BLIND.items():
            if counters[counter] and not self._told[counter]:
                log.warning("%s", words)
        if self._paused_ns:
            self._tell_pause(since)
        self._told = counters
        self._report(probe)

    def _report(self, probe: OpenSslProbe) -> None:
        for process in probe.unseen():
            key = (process.comm, process.reason)
            if key not in self._reported and len(self._reported) < 1_024:
                self._reported.add(key)
                log.info("TLS of %s (pid %d) is not seen: %s", process.comm, process.pid, process.reason)

    def _excluded(self, cgroup_id: int) -> bool | None:
        namespace = self._enricher.namespace_of(cgroup_id)
        return None if namespace is None else namespace in self._settings.off_limits

    def peek(self) -> tuple[NDArray[np.void], ...]:
        """Copies of what waits, long ones first: requests before their answers."""
        if self._probe is None:
            return ()
        short, long = self._probe.peek()
        return whole(long.copy()), whole(short.copy())

    @property
    def slice(self) -> int:
        """Which time of reading without a pause this is. As soon as it is another, the rings have all that there is of before."""
        return self._probe.slice if self._probe is not None else 0

    @property
    def filled(self) -> float:
        """How much of its fuller ring waits, 0 to 1."""
        return self._probe.filled if self._probe is not None else 0.0

    def sample(self, share: float) -> None:
        """Let only this share of requests leave the kernel from now on."""
        if self._probe is not None:
            self._probe.sample(share)

    def release(self) -> None:
        """Free the room of what peek() gave."""
        if self._probe is not None:
            self._probe.release()
