"""Fan-out: the streams of all agents for one answer, those that come and go meanwhile, and how much each may have waiting."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from flows.proto import relay_pb2
from flows.relay.access.scope import shown_name
from flows.relay.merge import Merge
from flows.relay.query import Start
from flows.relay.stream import MOST_WAITED, UNENDING, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from flows.proto import flows_pb2
    from flows.relay.coverage import Node
    from flows.relay.merge import Lane
    from flows.relay.notices import Notices
    from flows.relay.parties import PeerLike
    from flows.relay.query import Query
    from flows.relay.tables import Tables

LANE_ROWS: Final = 4_096
"""Flows that one agent may have waiting, unless all others wait for it: at some 600 bytes 2.5 MB."""
HELD_ROWS: Final = 65_536  # one for which all others wait: what it sends before its watermark moves, at 600 bytes 40 MB
ALL_ROWS: Final = 256 * 1_024  # and all agents together; each may have one batch in any case
MOST_PASSED: Final = 1.0  # seconds between two looks at followed agents that count as waited for one; the rest is the relay's own
ANSWER_SECONDS: Final = 10.0  # without a word from an agent that others wait for, for an answer that ends


class PoolLike(Protocol):
    """What is asked of relay.pool.Pool."""

    @property
    def discovery_status(self) -> str: ...
    def peers(self) -> Sequence[PeerLike]: ...
    def changes(self) -> AsyncIterator[None]: ...


class Fanout:
    """Use as an async context manager. Its merge has a lane for each stream."""

    def __init__(self, pool: PoolLike, query: Query, tables: Tables, notices: Notices, namespaces: frozenset[str] | None) -> None:
        """namespaces: what the caller may see; None: everything."""
        self.merge = Merge()
        self.streams: list[Stream] = []
        self._pool, self._query, self._tables, self._notices, self._namespaces = pool, query, tables, notices, namespaces
        self._tasks: dict[Stream, asyncio.Task[None]] = {}
        self._members: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._full: dict[Stream, asyncio.Event] = {}
        self._most, self._checked = LANE_ROWS, time.monotonic()
        self._told_states = False

    async def __aenter__(self) -> Self:
        changes = self._pool.changes()
        for peer in self._pool.peers():
            self._begin(peer, late=False)
        self._most = max(1, min(LANE_ROWS, ALL_ROWS // max(1, len(self.streams))))
        if self._query.selection.follow:
            self._members = asyncio.create_task(self._follow_members(changes))
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks.values(), *([self._members] if self._members is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Wait until it is known who can be asked, and tell: as Hubble's relay does, first of all."""
        await asyncio.gather(*(stream.settled.wait() for stream in self.streams))
        self._told_states = True
        connected = [self._shown(stream) for stream in self.streams if stream.state == relay_pb2.NODE_CONNECTED]
        if connected:
            self._notices.state(relay_pb2.NODE_CONNECTED, connected)
        for stream in self.streams:
            if stream.state != relay_pb2.NODE_CONNECTED:
                self._notices.state(stream.state, [self._shown(stream)], stream.message)

    def _shown(self, stream: Stream) -> str:
        return shown_name(stream.name, self._namespaces, named=stream.peer.named)

    def _begin(self, peer: PeerLike, *, late: bool) -> None:
        position = self._query.positions.get(peer.name)
        stream = Stream(peer, self._query, self._tables, self, Start(position, late and position is None))
        stream.namespaces, stream.agents = self._namespaces, max(1, len(self._pool.peers()))
        stream.lane.wait_from(time.monotonic())
        stream.lane.live = not late
        self.streams.append(stream)
        self.merge.lanes.append(stream.lane)
        self._tasks[stream] = asyncio.create_task(stream.run(), name=f"flows of {peer.name}")

    async def _follow_members(self, changes: AsyncIterator[None]) -> None:
        """Agents that appear join, those that are there again go on."""
        async for _ in changes:
            by_name = {stream.name: stream for stream in self.streams}
            for peer in self._pool.peers():
                stream = by_name.get(peer.name) or next((one for one in self.streams if one.peer is peer), None)
                if stream is None:
                    self._begin(peer, late=True)
                elif stream.state == relay_pb2.NODE_GONE and stream.ended and stream.peer is not peer:  # it is there again
                    self._replace(stream, peer)
                else:
                    stream.peer, stream.name = peer, peer.name
            for stream in self.streams:
                stream.wake.set()

    def _replace(self, stream: Stream, peer: PeerLike) -> None:
        """Go on with the stream of a node whose agent was removed and found again."""
        stream.peer, stream.ended = peer, False
        self._tasks[stream] = asyncio.create_task(stream.run(), name=f"flows of {peer.name}")

    def heard(self, stream: Stream) -> None:
        """Something is in its lane, or it has ended."""
        if stream.lane is self.merge.held or not stream.lane.live:
            self._news.set()

    def changed(self, stream: Stream, state: int, message: str) -> None:
        """Its node's state changed; the first states are told together."""
        if self._told_states:
            self._notices.state(state, [self._shown(stream)], message)

    def told(self, message: flows_pb2.FlowBatch) -> None:
        """Its agent said more than flows."""
        self._notices.loss(message.losses)
        for status in message.node_status:
            text = "" if self._namespaces is not None else status.message
            self._notices.state(status.state_change, status.node_names, text)

    async def room(self, stream: Stream) -> None:
        """Wait while its lane is full, unless others wait for what it has not sent."""
        lane = stream.lane
        while not self._has_room(lane):
            event = self._full[stream] = asyncio.Event()
            await event.wait()
            lane.wait_from(time.monotonic())

    def _has_room(self, lane: Lane) -> bool:
        return lane.rows <= (HELD_ROWS if self.merge.held is lane else self._most)

    def taken(self) -> None:
        """Flows were taken out of lanes: let those go on that have room now."""
        for stream, event in list(self._full.items()):
            lane = stream.lane
            if self._has_room(lane):
                event.set()
                del self._full[stream]

    async def news(self) -> None:
        """Wait for what all others wait for. An agent that keeps them waiting for too long is given up."""
        held, began = self.merge.held, time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._news.wait()
        self._news.clear()
        if held is None:
            return
        now = time.monotonic()
        held.waited += now - began
        if held.stalled(now, ANSWER_SECONDS):  # also if it goes on to say nothing of use
            self._give_up(held, f"no answer within {ANSWER_SECONDS:g} s")
        elif held.waited > MOST_WAITED:
            self._give_up(held, UNENDING)

    def _give_up(self, lane: Lane, why: str) -> None:
        for one in self.streams:
            if one.lane is lane and not one.ended:
                self._tasks[one].cancel()
                one.fail(why)

    def check(self) -> None:
        """Following: see who is silent."""
        now = time.monotonic()
        passed, self._checked = min(now - self._checked, MOST_PASSED), now
        for one in self.streams:
            held = one.lane is self.merge.held
            if held and one not in self._full:
                one.lane.waited += passed
            if held or one not in self._full:
                one.check(now)

    @property
    def past(self) -> bool:
        """Whether what the request asked of the past is complete, as far as it will be."""
        return all(stream.past or not stream.lane.live for stream in self.streams)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return all(stream.ended for stream in self.streams)

    def nodes(self, now_ns: int) -> list[Node]:
        """What each covers."""
        return [stream.node(self._shown(stream), now_ns) for stream in self.streams]

    def renew_tables(self) -> None:
        """Begin new tables of ends."""
        readers = [stream.reader for stream in self.streams if stream.reader is not None]
        self._tables.renew(readers, self.merge.lanes)
