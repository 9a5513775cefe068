"""Answer: one request's way through the relay: asked of all agents, merged, limited, joined, explained, cut to measure."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from flows.flow.batch import Batch, empty
from flows.proto import flow_pb2, flows_pb2
from flows.relay import query as queries
from flows.relay.coverage import Asked, coverage
from flows.relay.fanout import Fanout
from flows.relay.limit import Everything, limit
from flows.relay.merge import HIGHEST, LOWEST, Rows
from flows.relay.notices import Notices
from flows.relay.parcel import Parcel
from flows.relay.shown import Shown
from flows.relay.tables import Tables

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from flows.flow.ends import EndTable
    from flows.relay.access.scope import Scope
    from flows.relay.fanout import PoolLike
    from flows.relay.limit import Limit
    from flows.relay.query import Query

WINDOW: Final = 16_384
"""Flows that are merged, joined and sent at once: some 8 MB, and 50 ms of the loop's time. Each window costs 10 us for each agent
that has flows in it, whatever their number."""
TICK_NS: Final = 50_000_000  # how often a follower's flows are looked at; half as often as agents send if that is less
COVERAGE_SECONDS: Final = 10.0  # between two words about coverage to a follower if nothing has changed
CHANGE_SECONDS: Final = 1.0  # and if something has
DAMAGED: Final = "could not be read"


class Joiner(Protocol):
    """What is asked of relay.others.Others."""

    async def joined(self, batch: Batch) -> Batch: ...
    def change_tables(self, ends: EndTable, nodes: list[str]) -> None: ...


class Explainer(Protocol):
    """What is asked of relay.causes.Causes."""

    async def told(self, batch: Batch, ends: EndTable) -> Batch: ...


class Answer:
    """One answer. Times are by the relay's clock."""

    def __init__(
        self,
        pool: PoolLike,
        query: Query,
        scope: Callable[[], Scope],
        join: Callable[[Tables], Joiner],
        causes: Explainer | None = None,
    ) -> None:
        """scope: what the caller may see now. join: makes what joins both ends' views, for the tables of this answer.

        causes: tells of what went wrong why it did.
        """
        self._pool, self._query = pool, query
        self._tables = Tables()
        self._namespaces = scope().namespaces
        self._notices = Notices(limited=self._namespaces is not None)
        self._join, self._shown = join(self._tables), Shown(query, scope, self._tables.ends)
        self._streams = Fanout(pool, query, self._tables, self._notices, self._namespaces)
        self._causes = causes if query.extensions else None
        self._flows = 0
        self._oldest_ns: int | None = None  # of what was shown, where a number limited it
        self._newest_ns: int | None = None

    async def parcels(self) -> AsyncGenerator[Parcel, None]:
        """The answer, piece by piece. The last one of an answer that ends has the coverage."""
        async with self._streams:
            await self._streams.settled()
            yield self._parcel(empty(), at_once=True)
            async for parcel in self._follow() if self._query.selection.follow else self._past():
                yield parcel
            last = self._parcel(empty(), at_once=True)
            last.coverage = self._coverage()
            yield last

    async def _past(self) -> AsyncIterator[Parcel]:
        """An answer that ends. What joining adds counts, too: so the number limits twice."""
        bound, again = limit(self._query), limit(self._query)
        resumable = isinstance(bound, Everything)
        async for rows in self._merged(bound):
            shown = again.push(await self._joined(rows))
            if len(shown):
                yield self._parcel(shown.batch, positions=resumable)
            if again.done:
                self._newest_ns = int(shown.at_ns[-1]) if len(shown) else None
                return
        for parcel in self._last(bound, again):
            yield parcel

    async def _merged(self, bound: Limit) -> AsyncIterator[Rows]:
        """All that the limit lets pass, in order."""
        merge = self._streams.merge
        while not bound.done:
            ended = self._streams.ended  # before looking: what comes and ends meanwhile is looked at again
            rows = merge.take(None if bound.holds else WINDOW)
            self._streams.taken()
            if rows is not None:
                passed = bound.push(rows)
                if len(passed):
                    yield passed
            elif ended:
                break
            else:
                await self._streams.news()
        for rows in _windows(bound.end()):
            yield rows

    def _last(self, bound: Limit, again: Limit) -> Iterator[Parcel]:
        """The newest flows, which are known at the end only."""
        kept = again.end()
        if kept is None or not len(kept):
            return
        if bound.reached or again.reached:
            self._oldest_ns = int(kept.at_ns[0])
        for rows in _windows(kept):
            yield self._parcel(rows.batch, positions=rows.at_ns[-1] == kept.at_ns[-1] and len(rows) > 0)

    async def _follow(self) -> AsyncIterator[Parcel]:
        """The past, then what comes, until the client goes or the time asked for is over."""
        if self._query.limited:
            async for parcel in self._newest():
                yield parcel
        told_past, said_at, covered_at = False, 0.0, time.monotonic()
        ended = False
        while not ended:
            await self._tick()
            ended = self._over()
            async for parcel in self._windows_now():
                now = time.monotonic()
                parcel.past = not told_past and self._streams.past
                told_past = told_past or parcel.past
                silence = COVERAGE_SECONDS if not (parcel.states or parcel.losses or parcel.past) else CHANGE_SECONDS
                if parcel.past or now - covered_at >= silence:
                    parcel.coverage, covered_at = self._coverage(), now
                if _says(parcel) or now - said_at >= self._delay_seconds():
                    said_at = now
                    yield parcel
            self._renew()

    async def _newest(self) -> AsyncIterator[Parcel]:
        """The past of a follower who asked for the newest flows of it; what happened since he asked waits."""
        bound, again = limit(self._query), limit(self._query)
        past = False
        while not past:
            await self._tick()
            past = self._streams.past
            rows = self._streams.merge.take(until_ns=self._query.began_ns)
            self._streams.taken()
            if rows is not None:
                bound.push(rows)
        for rows in _windows(bound.end()):
            again.push(await self._joined(rows))
        for parcel in self._last(bound, again):
            yield parcel

    async def _windows_now(self) -> AsyncIterator[Parcel]:
        """What is in order by now; at least one parcel."""
        more = True
        while more:
            rows = self._streams.merge.take(WINDOW)
            self._streams.taken()
            more = rows is not None and len(rows) >= WINDOW
            joined = await self._joined(rows if rows is not None else Rows(empty(), np.zeros(0, np.int64)))
            yield self._parcel(joined.batch, positions=True)
            if more:
                await asyncio.sleep(0)

    async def _tick(self) -> None:
        seconds = min(max(self._delay_ns() // 2, TICK_NS), self._delay_ns()) / 1e9
        await asyncio.sleep(seconds)
        self._streams.check()

    def _delay_ns(self) -> int:
        return queries.delay_ns(self._query, len(self._streams.streams))

    def _delay_seconds(self) -> float:
        return (self._query.delay_ns or queries.DELAY_NS) / 1e9

    def _over(self) -> bool:
        """Whether nothing more will come: all agents have ended the time asked for, or cannot be reached after it."""
        until = self._query.selection.until
        if until is None or time.time_ns() <= until:
            return False
        return self._streams.ended or (self._streams.past and not any(lane.live for lane in self._streams.merge.lanes))

    async def _joined(self, rows: Rows) -> Rows:
        """As both ends' nodes tell it, and as the caller may see it."""
        joined = await self._join.joined(rows.batch)
        if self._causes is not None:
            joined = await self._causes.told(joined, self._tables.ends)
        shown = self._shown(joined)
        if len(shown) == len(rows):
            return Rows(shown, rows.at_ns)
        offsets = {stream.name: stream.lane.offset_ns for stream in self._streams.streams}
        by_number = np.array([offsets.get(node, 0) for node in self._tables.nodes] or [0], np.int64)
        return Rows(shown, np.maximum.accumulate(shown.time_ns - by_number[shown.node]))

    def _parcel(self, batch: Batch, *, positions: bool = False, at_once: bool = False) -> Parcel:
        """Flows, and what is to be said by now. at_once: all of it."""
        self._flows += len(batch)
        if self._shown.damaged:
            self._notices.loss([flows_pb2.Loss(reason=DAMAGED, count=self._shown.damaged, source=flow_pb2.OBSERVER_EVENTS_QUEUE)])
            self._shown.damaged = 0
        states, losses = self._notices.take(all_of_it=at_once)
        merge = self._streams.merge
        return Parcel(
            batch,
            self._tables.ends,
            self._tables.nodes,
            watermark_ns=merge.watermark_ns if LOWEST < merge.watermark_ns < HIGHEST and positions else 0,
            positions=merge.positions() if positions else [],
            states=states,
            losses=losses,
        )

    def _coverage(self) -> flows_pb2.Coverage:
        selection, now = self._query.selection, time.time_ns()
        until = self._query.began_ns if not selection.follow else now
        until = min([ns for ns in (until, selection.until, self._newest_ns) if ns is not None])
        return coverage(
            Asked(self._query.since_ns, until, self._oldest_ns),
            self._streams.nodes(now),
            self._flows,
            discovery=self._pool.discovery_status,
            limited=self._namespaces is not None,
        )

    def _renew(self) -> None:
        """Forget ends of long ago."""
        if self._tables.full:
            self._streams.renew_tables()
            self._join.change_tables(self._tables.ends, self._tables.nodes)
            self._shown.change_ends(self._tables.ends)


def _windows(rows: Rows | None) -> Iterator[Rows]:
    if rows is not None:
        for first in range(0, len(rows), WINDOW):
            yield rows.part(first, min(first + WINDOW, len(rows)))


def _says(parcel: Parcel) -> bool:
    """Whether a follower has any use for it at once."""
    return bool(len(parcel.batch) or parcel.states or parcel.losses or parcel.coverage or parcel.past)
