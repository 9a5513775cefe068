"""Extra flows: those that a query means, and that their own agents could not know it means: the other end's name decides."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from flows.flow.batch import Batch, compose, empty
from flows.flow.filter import compile_filters
from flows.flow.filter.selection import ALL
from flows.flow.table import MessageTable
from flows.proto.flow_pb2 import Flow

if TYPE_CHECKING:
    from flows.flow.columns import Mask as Rows
    from flows.proto.observer_pb2 import GetFlowsRequest
    from flows.relay.connections import Numbers
    from flows.relay.inquiry import Counts
    from flows.relay.join import Clocks
    from flows.relay.remote_ends import Tables

# Flows are whole messages here, 20 us each: so many are looked at before others get their turn, and so many of a window at most.
TURN = 256
MOST_ROWS = 16_384
# The same flow is answered again for each window that asks for its connection.
REMEMBERED = 65_536


class ExtraFlows:
    """Of one query."""

    def __init__(self, request: GetFlowsRequest, namespaces: frozenset[str] | None, counts: Counts, now_ns: int) -> None:
        """namespaces: what the caller may see. now_ns: the query's time. Raises flows.flow.filter.FilterError."""
        self.wanted = bool(request.whitelist or request.blacklist or namespaces is not None)
        self._matches = compile_filters(request.whitelist, request.blacklist)
        self._namespaces, self._counts = namespaces, counts
        self._since: int | None = request.since.ToNanoseconds() if request.HasField("since") else None
        self._until = request.until.ToNanoseconds() if request.HasField("until") else None
        limited = 0 < request.number < ALL
        if self._since is None and request.follow and not request.number:
            self._since = now_ns
        self._from_first = self._since is None and limited
        self._given: set[tuple[str, str]] = set()
        self._order: deque[tuple[str, str]] = deque()

    async def of(self, rows: Batch, told: Batch, first: int, tables: Tables, clocks: Clocks) -> Batch:
        """Those of the answered rows (number first and on) that the query does not mean as their agent has them, but as told.

        rows: as their agents have them; told: the same with their remote ends' own names. An agent sends by itself what it
        knows that the query means.
        """
        if not self.wanted:
            return empty()
        times = told.time_ns - clocks.offset_ns[told.node]
        if self._from_first and first:  # what is older than the oldest of the last N is not of them
            self._since, self._from_first = int(times[:first].min()), False
        timely = np.ones(len(times), np.bool_)
        if self._since is not None:
            timely &= times >= self._since
        if self._until is not None:
            timely &= times <= self._until
        renamed = (rows.source != told.source) | (rows.destination != told.destination)
        candidates = np.flatnonzero(timely & renamed & (np.arange(len(times)) >= first))
        self._counts.skipped += max(0, len(candidates) - MOST_ROWS)
        candidates = candidates[:MOST_ROWS]
        chosen = [await self._turn(rows, told, candidates[at : at + TURN], tables) for at in range(0, len(candidates), TURN)]
        numbers = np.concatenate(chosen) if chosen else candidates[:0]
        self._counts.added += len(numbers)
        return told.take(numbers)

    async def _turn(self, rows: Batch, told: Batch, candidates: Numbers, tables: Tables) -> Numbers:
        await asyncio.sleep(0)
        after, flows = self._meant(told.take(candidates), tables)
        before, _ = self._meant(rows.take(candidates), tables)
        fresh = [self._is_fresh(flow) if good else False for good, flow in zip(after & ~before, flows, strict=True)]
        return candidates[np.array(fresh, np.bool_)]

    def _meant(self, batch: Batch, tables: Tables) -> tuple[Rows, list[Flow]]:
        """Which rows the query means and the caller may see; and all as messages, empty ones for what cannot be read."""
        flows = [self._parsed(raw) for raw in compose(batch, tables.ends)]
        meant = self._matches(MessageTable(flows)) & np.array([bool(flow.ByteSize()) for flow in flows], np.bool_)
        if self._namespaces is not None:
            ends = zip(batch.source.tolist(), batch.destination.tolist(), strict=True)
            meant &= np.array([self._may_see(tables, *pair) for pair in ends], np.bool_)
        return meant, flows

    def _parsed(self, raw: bytes) -> Flow:
        try:
            return Flow.FromString(raw)
        except DecodeError:
            self._counts.damaged += 1
            return Flow()

    def _may_see(self, tables: Tables, source: int, destination: int) -> bool:
        named = tables.ends[source].namespaces | tables.ends[destination].namespaces
        return self._namespaces is None or not self._namespaces.isdisjoint(named)

    def _is_fresh(self, flow: Flow) -> bool:
        """Whether it was not given before; notes that it is now."""
        key = (flow.node_name, flow.uuid)
        if key in self._given:
            return False
        self._given.add(key)
        self._order.append(key)
        if len(self._order) > REMEMBERED:
            self._given.discard(self._order.popleft())
        return True
