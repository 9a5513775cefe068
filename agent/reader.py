"""The agent's one thread besides asyncio: ring to store, a batch at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flows.agent.pace import Pace
from flows.agent.probe.lanes import left_out
from flows.agent.probe.payload import wipe
from flows.agent.probe.record import Counter
from flows.agent.store.store import Renaming
from flows.flow.endpoint import Evidence
from flows.flow.losses import SAMPLED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from flows.agent.enrich.enricher import Enricher
    from flows.agent.enrich.names import LateNames
    from flows.agent.l7.requests import Requests
    from flows.agent.plaintext import Plaintext
    from flows.agent.probe.batch import Records
    from flows.agent.probe.settings import ProbeSettings
    from flows.agent.source import Source
    from flows.agent.store.store import FlowStore

log = logging.getLogger("flows.agent")

RETAIN_SECONDS = 60.0  # how often endpoint numbers that no flow uses any more are given back

# Counters whose growth means that flows are missing, with the word that users read.
LOSSES = {
    Counter.LOST_RING_FULL: "ring full",
    Counter.LOST_CONNECTION: "connection table full",
    Counter.LOST_EXCHANGE: "exchange table full",
    Counter.LOST_PAYLOAD: "request ring full",
    Counter.LOST_END: "end of connection missed",
    Counter.NOT_RUN: "program not run",  # an upper bound: most of what it was to be told of is of no interest, or found later
    Counter.SAMPLED_OUT: SAMPLED,
    Counter.PASSED_OVER: SAMPLED,  # requests, answers, and parts of bodies: nobody looked
}
# Earlier rows of a connection that its first bytes are told of, too: both come within one batch or two.
LOOK_BACK = 4_096


@dataclass
class Counts:
    """What the reader has seen since the start; written by it alone."""

    records: int = 0
    batches: int = 0
    faults: int = 0  # rounds that ended in an exception; records lost that way are told as losses
    kernel: dict[Counter, int] = field(default_factory=lambda: dict.fromkeys(Counter, 0))


@dataclass
class Job:
    """Something to do every so many seconds, at once at first."""

    seconds: float
    act: Callable[[], None]
    due: float = 0.0


class Reader(threading.Thread):
    """Moves records from the probe through the enricher into the store until stopped."""

    def __init__(
        self,
        probe: Source,
        enricher: Enricher,
        store: FlowStore,
        settings: ProbeSettings,
        instance: int = 0,
        told: Mapping[Counter, int] | None = None,
        requests: Requests | None = None,
        plaintext: Plaintext | None = None,
    ) -> None:
        """Not started yet.

        requests: pairs what the probe's first bytes, and plaintext, tell; None: nobody looks at them. instance: this process, to
        the agent after it; told: losses that the agent before told.
        """
        super().__init__(name="ring-reader", daemon=True)
        self.counts = Counts()
        self.counts.kernel.update(told or {})
        self._instance = instance
        self._probe, self._enricher, self._store, self._settings = probe, enricher, store, settings
        self._requests, self._plaintext = requests, plaintext
        self._pace = Pace(settings, time.monotonic_ns(), probe.handed_over)
        self._slice = self._slice_told = 0  # of plaintext: which the batch in hand ends with, and which handlers know
        self._lively = False  # the last batch had something: first bytes wake nobody, so what may follow is waited for
        self._reported: dict[str, int] = {}
        self._ended = threading.Event()
        self._hurried = threading.Event()
        self._waiting: deque[Callable[[], None]] = deque()
        self._counted_ns = time.time_ns()

    def stop(self) -> None:
        """End, after the batch in hand."""
        self._ended.set()
        self._hurry()
        self.join()

    def freshen(self, done: Callable[[], None]) -> None:
        """Have what waits in the ring moved now; done is called afterwards, from this thread."""
        self._waiting.append(done)
        self._hurry()

    def _hurry(self) -> None:
        self._hurried.set()
        self._probe.wake()

    def run(self) -> None:
        """Loop: thin, so that one round can be tested without it."""
        jobs = [
            Job(self._settings.sweep_seconds, lambda: self.sweep(full=False)),
            Job(self._settings.full_sweep_seconds, lambda: self.sweep(full=True)),
            Job(RETAIN_SECONDS, self._retain),
        ]
        while not self._ended.is_set():
            for job in jobs:
                if job.due <= time.monotonic():
                    job.due = time.monotonic() + job.seconds
                    self._guarded(job.act)
            due = min(job.due for job in jobs)
            if not self._lively:
                self._probe.wait(max(0.0, due - time.monotonic()))
            self._gather(due)
            self._round()

    def _gather(self, until: float) -> None:
        """Let more come in, at most until then: until somebody hurries, or a ring fills."""
        until = min(until, time.monotonic() + self._settings.batch_seconds)
        self._keep_up()
        while (left := until - time.monotonic()) > 0 and self._filled() < self._settings.filled:
            if self._hurried.wait(min(left, self._settings.look_seconds)):
                break
            self._keep_up()
        self._hurried.clear()

    def _filled(self) -> float:
        return max(self._probe.filled, self._plaintext.filled if self._plaintext is not None else 0.0)

    def _round(self) -> None:
        waiting = len(self._waiting)  # those who come while the batch is in hand wait for the next
        self._guarded(self.batch)
        if waiting and not self._probe.complete:  # behind a record that takes its CPU some microseconds more may be others
            self._hurry()
            return
        for _ in range(waiting):
            self._guarded(self._waiting.popleft())

    def _guarded(self, act: Callable[[], None]) -> None:
        """The thread outlives any fault: flows go on, and the fault is counted and logged."""
        try:
            act()
        except Exception:
            self.counts.faults += 1
            log.exception("the ring's reader had a fault and goes on")

    def _retain(self) -> None:
        self._enricher.retain(self._store.endpoints_in_use())
        if self._requests is not None:
            self._requests.retain(self._store.details_in_use())
            self._report(self._requests)

    def _report(self, requests: Requests) -> None:
        """Log what could not be read, paired or kept of requests, if there is more than the last time."""
        counts = requests.counts()
        new = {reason: count - self._reported.get(reason, 0) for reason, count in counts.items()}
        self._reported = counts
        if any(new.values()):
            log.info("requests, in the last minute: %s", ", ".join(f"{reason} {count}" for reason, count in new.items() if count))

    def batch(self) -> None:
        """Move what waits. A batch that cannot be stored is counted and left behind: the next one is not lost with it."""
        records = self._probe.peek()
        payloads = self._peek_payloads()
        self._lively = bool(len(records) or any(map(len, payloads)))
        try:
            self._store_batch(records, payloads)
        except Exception:
            now = time.time_ns()
            self._store.lose("agent error", len(records) + sum(map(len, payloads)), now, now)
            self._leave()
            raise
        for late in self._enricher.late_names():
            self._rename(late)

    def _peek_payloads(self) -> tuple[NDArray[np.void], ...]:
        if self._requests is None:
            return ()
        plaintext: tuple[NDArray[np.void], ...] = ()
        if self._plaintext is not None:
            self._slice = self._plaintext.slice  # first, so that what is peeked at has all of those before
            plaintext = self._plaintext.peek()
        return (*self._probe.peek_payloads(), *plaintext)

    def _store_batch(self, peeked: NDArray[np.void], payloads: tuple[NDArray[np.void], ...]) -> None:
        wall = to_wall_ns()
        records: Records = peeked
        details = None
        if self._requests is not None:
            records, details = self._with_requests(self._requests, peeked, payloads, wall)
        if len(records):
            local, remote = self._enricher.resolve(records)
            self._store.append(records, local, remote, wall, self._leave, details)
            self.counts.records += len(records)
            self.counts.batches += 1
        else:
            self._enricher.apply_changes()
            self._leave()

    def _with_requests(
        self, requests: Requests, records: NDArray[np.void], payloads: tuple[NDArray[np.void], ...], wall: int
    ) -> tuple[Records, NDArray[np.uint32]]:
        """Connections' records, with those of requests after them, and the details of all (n,)."""
        self._pace.take(payloads)
        kept = self._pace.thin(payloads)
        if left := sum(map(len, payloads)) - sum(map(len, kept)):
            oldest = min(int(each["time_ns"].min()) for each in payloads if len(each))
            self._store.lose(SAMPLED, left, oldest + wall, time.time_ns())
        read = requests.read(records, kept, wall)
        for each in (*payloads, *kept) if left else payloads:
            wipe(each)
        if self._slice != self._slice_told:
            self._slice_told = self._slice
            requests.paused(time.monotonic_ns())
        if read.told.connections.size:
            self._store.tell_connections(read.told, LOOK_BACK)
        return read.records, read.details

    def _leave(self) -> None:
        """Give the ring's room back. With the store's lock held: an agent that is killed then has either not shown the flows to
        anybody, or the next one does not find them in the ring again."""
        self._probe.note(self._instance, self._store.written, self.counts.kernel)
        self._probe.release()
        if self._plaintext is not None:
            self._plaintext.release()

    def _rename(self, late: LateNames) -> None:
        in_use = self._store.endpoints_in_use()
        evidence = np.array([self._enricher.endpoint(number).evidence for number in in_use.tolist()], np.uint8)
        if len(late.addresses):
            unsure = in_use[(evidence == Evidence.UNKNOWN) | (evidence == Evidence.RANGE)]
            since = late.since_ns.astype(np.int64) + to_wall_ns()
            for side in ("local", "remote"):
                self._store.rename_addresses(side, late.addresses, since, Renaming(late.numbers, unsure, late.former))
        if len(late.connections):
            inferred = in_use[~np.isin(evidence, (Evidence.CGROUP, Evidence.CONNECTION))]
            self._store.rename_connections(late.connections, Renaming(late.connection_numbers, inferred))

    def sweep(self, *, full: bool) -> None:
        """Look at quiet connections, and note what the kernel could not hand over since the last time."""
        counters = self._probe.counters()
        if full:
            self._probe.sweep()
        elif counters[Counter.SYNS_PENDING]:
            self._probe.sweep_connections()
        now = time.time_ns()
        for counter, reason in LOSSES.items():
            if lost := counters[counter] - self.counts.kernel[counter]:
                self._store.lose(reason, lost, self._counted_ns, now)
        if self._requests is not None:
            self._sample(self._requests, counters[Counter.LOST_PAYLOAD] - self.counts.kernel[Counter.LOST_PAYLOAD])
        self.counts.kernel, self._counted_ns = counters, now

    def _sample(self, requests: Requests, lost: int) -> None:
        """From now on let no more requests leave the kernel than the agent may spend its time on."""
        now = time.monotonic_ns()
        if lost:
            requests.lost(now)
        share = self._pace.next(lost, now)
        requests.sample(left_out(share), now)
        self._probe.sample(share)
        if self._plaintext is not None:
            self._plaintext.sample(share)

    def _keep_up(self) -> None:
        """Far more than may be looked at is sampled before the next sweep."""
        if self._requests is not None and self._pace.overrun(self._probe.handed_over, time.monotonic_ns()):
            self._guarded(lambda: self.sweep(full=False))


def to_wall_ns() -> int:
    """What makes a time of CLOCK_MONOTONIC one since 1970.

    Of three readings the greatest: the wall clock is read first, so a thread that loses its CPU in between reads too little.
    """
    return max(time.time_ns() - time.monotonic_ns() for _ in range(3))
