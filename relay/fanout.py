"""Fan-out: the streams of all agents for one answer, those that come and go meanwhile, and how much each may have waiting."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from flows.proto import relay_pb2
from flows.relay.merge import Merge
from flows.relay.query import Start
from flows.relay.stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from flows.proto import flows_pb2
    from flows.relay.coverage import Node
    from flows.relay.notices import Notices
    from flows.relay.query import Query
    from flows.relay.stream import PeerLike
    from flows.relay.tables import Tables

LANE_ROWS: Final = 4_096
"""Flows that one agent may have waiting, unless all others wait for it: at some 600 bytes 2.5 MB."""
ALL_ROWS: Final = 256 * 1_024  # and all agents together; each may have one batch in any case
ANSWER_SECONDS: Final = 10.0  # without a word from an agent that others wait for, for an answer that ends
UNNAMED: Final = "(unnamed node)"  # instead of the address that stands for a name that nobody told


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
        self._most = LANE_ROWS
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
        named = stream.peer.named or self._namespaces is None
        return stream.name if named else UNNAMED

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
        while lane.rows > self._most and self.merge.held is not lane:
            event = self._full[stream] = asyncio.Event()
            await event.wait()
            lane.wait_from(time.monotonic())

    def taken(self) -> None:
        """Flows were taken out of lanes: let those go on that have room now."""
        for stream, event in list(self._full.items()):
            lane = stream.lane
            if lane.rows <= self._most or lane is self.merge.held:
                event.set()
                del self._full[stream]

    async def news(self) -> None:
        """Wait for what all others wait for. An agent that keeps them waiting for too long is given up."""
        held = self.merge.held
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._news.wait()
        except TimeoutError:
            for stream in self.streams:
                if stream.lane is held and not stream.ended:
                    self._tasks[stream].cancel()
                    stream.fail(f"no answer within {ANSWER_SECONDS:g} s")
        self._news.clear()

    def check(self) -> None:
        """Following: see who is silent."""
        now = time.monotonic()
        for stream in self.streams:
            if stream not in self._full:
                stream.check(now)

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
