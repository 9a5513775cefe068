"""Losses: connections and bytes that reach the store, against what nginx, wrk's requests and the kernel count themselves."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bench import records
from bench.figures import Measured
from bench.load import requests as answered
from bench.load import running, servers
from bench.pods import two_pods
from flows.agent.l7.redact import Redaction
from flows.agent.l7.requests import Requests
from flows.agent.options import DEFAULT_FLOWS
from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.probe import Probe
from flows.agent.probe.record import Counter, Event, Initiator, of_requests
from flows.agent.probe.settings import SECOND, ProbeSettings
from flows.agent.reader import LOSSES, Reader
from flows.agent.store.requests import RequestStore
from flows.agent.store.store import FlowStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from bench.load import Load, Served
    from bench.pods import Pods
    from flows.agent.probe.batch import Records

SECONDS: Final = 30
SETTLE_SECONDS: Final = 2.0  # the last connections end, the reader's last batch is stored
KEPT: Final = ("conn_id", "event", "initiator", "sent_bytes", "received_bytes")
REQUESTS: Final = 32_768  # kept, as by default
# Requests are sampled at this speed; no connection is lost.
FIRST_BYTES: Final = (Counter.LOST_PAYLOAD, Counter.SAMPLED_OUT, Counter.PASSED_OVER)
ENDED: Final = (Event.CLOSED, Event.RESET, Event.TIMED_OUT)


class CountedStore(FlowStore):
    """A store that also remembers, of each flow that was ever stored, which connection it belonged to."""

    def __init__(self, capacity: int) -> None:
        """Nothing stored yet."""
        super().__init__(capacity)
        self._seen: dict[str, list[NDArray[Any]]] = {name: [] for name in KEPT}

    def append(
        self,
        records: Records,
        local: NDArray[np.uint32],
        remote: NDArray[np.uint32],
        to_wall_ns: int,
        stored: Callable[[], None] | None = None,
        details: NDArray[np.uint32] | None = None,
    ) -> None:
        """Remember, then store: once stored, the ring's room is given back."""
        for name, batches in self._seen.items():
            batches.append(records[name].copy())
        super().append(records, local, remote, to_wall_ns, stored, details)

    def seen(self) -> dict[str, NDArray[Any]]:
        """Columns of all flows so far, (n,) each."""
        return {name: np.concatenate(batches) for name, batches in self._seen.items() if batches}


@dataclass(frozen=True, slots=True)
class Truth:
    """Totals that others count: nginx, and the kernel of either pod's network namespace."""

    served: Served
    opened: int
    accepted: int

    @classmethod
    def now(cls, pods: Pods, load: Load) -> Truth:
        """As they stand."""
        opened, accepted = pods.client.tcp_counters()["ActiveOpens"], pods.server.tcp_counters()["PassiveOpens"]
        return cls(load.served(), opened, accepted)


@dataclass(frozen=True, slots=True)
class Side:
    """What the agent stored of one end of all connections: how many, and the bytes of those that ended."""

    connections: int
    ended: int
    sent: int
    received: int

    @classmethod
    def of(cls, seen: dict[str, NDArray[Any]], initiator: Initiator) -> Side:
        """Add up the flows of the ends that opened (LOCAL) or accepted (REMOTE)."""
        here = (seen["initiator"] == initiator) & ~of_requests(seen["event"])
        last = here & np.isin(seen["event"], ENDED)
        sums = (int(seen[name][last].sum()) for name in ("sent_bytes", "received_bytes"))
        return cls(len(np.unique(seen["conn_id"][here])), int(last.sum()), *sums)


def measure() -> Iterator[Measured]:
    """As many connections as wrk opens in 30 s."""
    settings, store = ProbeSettings(), CountedStore(DEFAULT_FLOWS)
    with two_pods() as pods, servers(pods) as load, Probe(settings, find_subtree(pods.observed)) as probe:
        enricher = records.knowing(pods.observed)
        requests = Requests(RequestStore(REQUESTS), Redaction(), SECOND, SECOND)
        reader = Reader(probe, enricher, store, settings, requests=requests)
        reader.start()
        sizes = load.request_bytes, load.reply_bytes()
        before = Truth.now(pods, load)
        _offer(load)
        after = Truth.now(pods, load)
        reader.stop()
        reader.sweep(full=True)
        enricher.close()
    opener, accepter = (Side.of(store.seen(), initiator) for initiator in (Initiator.LOCAL, Initiator.REMOTE))
    lost = sum(reader.counts.kernel[counter] for counter in LOSSES if counter not in FIRST_BYTES) + reader.counts.faults
    yield _connections(before, after, (opener, accepter), lost)
    yield _bytes(after.served.requests - before.served.requests - 1, sizes, (opener, accepter))
    yield Measured("offered_connections", [(after.opened - before.opened) / SECONDS])


def _offer(load: Load) -> None:
    """Run wrk to its end and let the last connections settle. Raises LoadError."""
    with running(load.wrk_command(SECONDS, close=True), subprocess.PIPE) as wrk:
        answered(wrk.communicate(timeout=SECONDS + 20)[0])
    time.sleep(SETTLE_SECONDS)


def _connections(before: Truth, after: Truth, sides: tuple[Side, Side], lost: int) -> Measured:
    """Ends that are missing or too many, once for each account that they differ from, and what was counted as lost."""
    opener, accepter = sides
    # One more for nginx: the question asked before was not part of its own answer.
    accepts = after.served.accepts - before.served.accepts - 1
    truths = (
        (opener.connections, after.opened - before.opened),
        (opener.ended, after.opened - before.opened),
        (accepter.connections, after.accepted - before.accepted),
        (accepter.connections, accepts),
        (accepter.ended, accepts),
    )
    wrong = sum(abs(ours - theirs) for ours, theirs in truths)
    note = f"{opener.connections:,} opened, {accepter.connections:,} accepted as stored; nginx {accepts:,}; {lost:,} lost"
    return Measured("lost_connections", [wrong + lost], note)


def _bytes(requests: int, sizes: tuple[int, int], sides: tuple[Side, Side]) -> Measured:
    """Bytes, both ways and at both ends, against requests that nginx answered times their lengths."""
    asked, answered = (requests * size for size in sizes)
    opener, accepter = sides
    truths = (
        (opener.sent, asked), (accepter.received, asked), (accepter.sent, answered), (opener.received, answered),
    )  # fmt: skip
    note = f"{requests:,} requests of {sizes[0]} B, answers of {sizes[1]} B"
    return Measured("wrong_bytes", [sum(abs(ours - theirs) for ours, theirs in truths)], note)
