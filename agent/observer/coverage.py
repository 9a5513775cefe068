"""Coverage: what this agent can tell about a time that was asked for, and what it cannot, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.agent.store.store import OVERWRITTEN, Loss
from flows.flow.losses import ON_PURPOSE
from flows.proto import flow_pb2, flows_pb2, relay_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from flows.agent.observer.positions import Resume

SECOND = 1_000_000_000
# Losses of one reason that are not further apart than this are one gap: the kernel's counters are read once a second.
ADJACENT_NS = 2 * SECOND
# A store that has caught up is 20 ms behind (fresh.SLACK_NS); one that is further behind has not, and what it lacks may matter.
BEHIND_NS = SECOND // 10
BUSY = "the agent is busy, its newest events are not stored yet; ask again"


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The agent before this one, whose kernel side this one took over with all that was waiting there."""

    instance: int
    written: int  # flows that it had stored


@dataclass(frozen=True, slots=True)
class Watch:
    """Since when (ns since 1970) this process has every event; who watched before, if the kernel side was taken over."""

    began_ns: int
    predecessor: Predecessor | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when an answer ends. Times in ns since 1970."""

    watch: Watch
    oldest_ns: int | None  # of the oldest stored flow if others were overwritten
    losses: Sequence[Loss]
    unnamed_ns: int | None  # since when names have not been up to date
    unnamed_why: str
    to_ns: int  # everything before was stored when the answer was made
    asked_ns: int = 0  # when the store was last asked to catch up with the kernel

    @property
    def from_ns(self) -> int:
        """Since when everything is there, but for losses."""
        return max(self.watch.began_ns, self.oldest_ns or 0)


@dataclass(frozen=True, slots=True)
class Asked:
    """The time asked for, in ns since 1970; since None: as far back as the agent goes, until None: until now."""

    since: int | None
    until: int | None
    resumed: Resume | None = None  # after what an agent of another instance delivered; since is then the time it came to


def coverage(node: str, asked: Asked, known: Known, flows: int) -> flows_pb2.Coverage:
    """Of one node; flows: how many the answer has."""
    to = known.to_ns if asked.until is None else min(asked.until, known.to_ns)
    since = known.from_ns if asked.since is None else asked.since
    told = flows_pb2.Coverage(flows=flows)
    for name, ns in (("since", asked.since), ("until", asked.until)):
        if ns is not None:
            set_time(getattr(told, name), ns)
    one = told.nodes.add(node=node, state=relay_pb2.NODE_CONNECTED)
    set_time(getattr(one, "from"), known.from_ns)
    set_time(one.to, known.to_ns)
    one.gaps.extend(_absent(asked, known, since, to))
    one.gaps.extend(lost(known.losses, since, to))
    one.gaps.extend(_not_yet(asked, known))
    if known.unnamed_ns is not None and known.unnamed_ns <= to:
        one.gaps.append(gap(flows_pb2.UNNAMED, max(known.unnamed_ns, since), to, message=known.unnamed_why))
    told.complete = not one.gaps
    return told


def _not_yet(asked: Asked, known: Known) -> Iterable[flows_pb2.Gap]:
    """The last moments, where the reader could not move what the kernel had into the store in time."""
    until = known.asked_ns if asked.until is None else min(asked.until, known.asked_ns)
    if known.asked_ns - known.to_ns > BEHIND_NS and until > known.to_ns:
        yield gap(flows_pb2.GAP_REASON_UNKNOWN, known.to_ns, until, message=BUSY)


def _absent(asked: Asked, known: Known, since: int, to: int) -> Iterable[flows_pb2.Gap]:
    """Where nothing of a time is there, though something may have been."""
    began = known.watch.began_ns
    if since < began:
        yield from _before(asked.resumed, known.watch, since, min(began, to))
    oldest = known.oldest_ns
    if oldest is not None and max(since, began) < min(oldest, to):
        message = "older than what the agent keeps; see --flows of flows agent"
        yield gap(flows_pb2.OVERWRITTEN, max(since, began), min(oldest, to), message=message)


def _before(resumed: Resume | None, watch: Watch, since: int, to: int) -> Iterable[flows_pb2.Gap]:
    """The time before this process had every event."""
    if resumed is None:
        yield gap(flows_pb2.LATE, since, to, message="before the agent was started")
        return
    before = watch.predecessor
    if before is None or before.instance != resumed.instance:
        yield gap(flows_pb2.DOWN, since, to, message="the agent was restarted")
    elif before.written > resumed.reach.first:  # what waited in the kernel this one has; what was stored is gone
        whole = resumed.reach.first == resumed.reach.received  # else some of them were delivered
        count = before.written - resumed.reach.received if whole else 0
        yield gap(flows_pb2.DOWN, since, to, count, "the agent was restarted before it had sent all that it had stored")


def lost(losses: Iterable[Loss], since: int, to: int) -> Iterable[flows_pb2.Gap]:
    """Gaps of losses that may be of this time, adjoining ones of one reason as one. losses: in the order of their time."""
    runs: list[Loss] = []
    latest: dict[str, int] = {}
    for loss in losses:
        if loss.last_ns < since or loss.first_ns > to:
            continue
        at = latest.get(loss.reason)
        if at is not None and loss.first_ns - runs[at].last_ns <= ADJACENT_NS:
            runs[at] = Loss(loss.position, loss.reason, runs[at].count + loss.count, runs[at].first_ns, loss.last_ns)
        else:
            latest[loss.reason] = len(runs)
            runs.append(loss)
    for run in runs:
        reason = flows_pb2.SAMPLED if run.reason in ON_PURPOSE else flows_pb2.LOST
        yield gap(reason, run.first_ns, run.last_ns, run.count, run.reason)


def gap(reason: flows_pb2.GapReason, first: int, last: int, count: int = 0, message: str = "") -> flows_pb2.Gap:
    """Between two times in ns since 1970."""
    made = flows_pb2.Gap(reason=reason, count=count, message=message)
    set_time(getattr(made, "from"), first)
    set_time(made.to, last)
    return made


def loss_message(node: str, loss: Loss) -> flows_pb2.Loss:
    """As it travels in a batch."""
    message = flows_pb2.Loss(node=node, reason=loss.reason, count=loss.count, source=source_of(loss))
    set_time(message.first, loss.first_ns)
    set_time(message.last, loss.last_ns)
    return message


def source_of(loss: Loss) -> flow_pb2.LostEventSource:
    """Where the events were lost, in Hubble's terms: on the way into the store, or out of it."""
    return flow_pb2.HUBBLE_RING_BUFFER if loss.reason == OVERWRITTEN else flow_pb2.PERF_EVENT_RING_BUFFER


def set_time(message: Timestamp, ns: int) -> None:
    """Set a Timestamp to ns since 1970."""
    message.seconds, message.nanos = divmod(ns, SECOND)
