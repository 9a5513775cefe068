"""Stream: one agent's part of an answer, into its lane. What breaks off is gone on with from where it broke."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.message import DecodeError

from flows.flow.batch import BatchError, BatchReader
from flows.proto import flows_pb2, relay_pb2
from flows.relay import query as queries
from flows.relay.backoff import Backoff
from flows.relay.coverage import Gap, Node, Told
from flows.relay.link import PeerError
from flows.relay.merge import HIGHEST, LOWEST, Lane
from flows.relay.plain import QUIET_SECONDS, PlainReader, gathered
from flows.relay.query import Start

if TYPE_CHECKING:
    from flows.flow.batch import Batch
    from flows.relay.parties import Listener, PeerLike
    from flows.relay.query import Query
    from flows.relay.tables import Tables

log = logging.getLogger("flows.relay")

CONNECT_SECONDS: Final = 1.0  # who asks waits so long for nodes that are just being connected
ATTEMPTS: Final = 2  # of an answer that ends; one that is followed goes on for ever
AGAIN_SECONDS: Final = (0.5, 10.0)  # between attempts at an agent that is connected, but whose streams fail
SLACK_NS: Final = 100_000_000  # agents say that they have all flows up to some 20 ms ago; what is later may come in any order
TRAILING_NS: Final = 10_000_000_000
"""A follower's agent that has told all of the past and is further behind than this holds the others up no longer: it sends a
batch each second, and clocks are corrected. What moves by a nanosecond at a time is not stalled, and yet would stop everybody."""
MOST_WAITED: Final = 60.0
"""Seconds that others wait, in all, for what one agent tells of the past: it has some 1,000,000 flows and sends 100,000 a second.
Its watermark may have moved all the time."""
MOST_TOLD: Final = 4_096  # losses, states, positions, nodes covered or gaps in one message: an agent keeps 1,024 losses
AGENT_NODES: Final = 16  # names that one agent may give its node in one stream; it has one
TRAILING: Final = "far behind: it tells of what was more than 10 s ago; is its agent overloaded, or its clock wrong?"
UNENDING: Final = "its answer has not ended though others waited for 60 s: is its agent overloaded?"
SILENT: Final = "silent: it has told nothing for 2 s; is its agent stopped or overloaded?"
UNSAID: Final = "its agent does not say what it covers: it has Hubble's API only"


class Stream:
    """One agent's part of one answer."""

    def __init__(self, peer: PeerLike, query: Query, tables: Tables, listener: Listener, start: Start) -> None:
        """tables: of the answer. start: where it begins."""
        self.peer, self.lane, self.told = peer, Lane(start.position), Told()
        self.name = peer.name
        # As told to the client, who hears of those that come late when they tell something.
        self.state: int = relay_pb2.NODE_UNAVAILABLE if start.late else relay_pb2.NODE_CONNECTED
        self.message = ""
        self.past = self.ended = False
        self.silent = False
        self.reader: BatchReader | None = None
        self.settled = asyncio.Event()  # it is known whether the agent can be asked at all
        self.wake = asyncio.Event()  # the agent may be there again
        self.agents, self.namespaces = 1, query.namespaces  # how many are asked together, and what the caller may see
        self._query, self._tables, self._listener, self._start = query, tables, listener, start
        self._backoff = Backoff(*AGAIN_SECONDS)
        self._ordered_ns = LOWEST  # up to this time what was there when the stream began comes in order

    async def run(self) -> None:
        """Until the answer has all that this agent has for it."""
        try:
            await self._run()
        except Exception as error:
            log.exception("the stream of %s failed", self.name)
            self._broke(relay_pb2.NODE_ERROR, f"the relay failed: {error!r}")
        finally:
            self.end()

    def end(self) -> None:
        """Nothing more comes."""
        self.ended = True
        self.settled.set()
        self.lane.live = False
        self._listener.heard(self)

    def fail(self, message: str) -> None:
        """Give it up."""
        self._broke(relay_pb2.NODE_ERROR, message)
        self.end()

    async def _run(self) -> None:
        attempts = 0
        while attempts < ATTEMPTS or self._query.selection.follow:
            if not await self._connected():
                return
            if attempts and self._start.position is None:
                self._start = Start(late=self._query.selection.follow)
            try:
                await self._read()
            except PeerError as error:
                if error.code is grpc.StatusCode.UNIMPLEMENTED and self.peer.batched is False and self.reader is not None:
                    self.reader = None  # the agent has only Observer
                    continue
                self._failed(error)
            else:
                if self._complete():
                    return
                self._broke(relay_pb2.NODE_UNAVAILABLE, "its agent has ended the stream")
            attempts += 1
            if self._query.selection.follow:
                await self._pause()

    async def _connected(self) -> bool:
        """Whether it can be asked now; waits for that as long as the answer may."""
        if self.peer.state == relay_pb2.NODE_CONNECTED or await self.peer.available(CONNECT_SECONDS):
            self.settled.set()
            return True
        self._broke(self._lost_state(), self.peer.message)
        self.settled.set()
        while self._query.selection.follow and self.peer.state != relay_pb2.NODE_GONE:
            self.wake.clear()
            if self.peer.state == relay_pb2.NODE_CONNECTED:
                self._start = Start(self._start.position, late=self._start.position is None)
                return True
            await self.wake.wait()
        if self.peer.state == relay_pb2.NODE_GONE:
            self._broke(relay_pb2.NODE_GONE, self.peer.message)
        return False

    async def _pause(self) -> None:
        """Before another attempt; none for an agent that was lost, for which is waited otherwise."""
        if self.peer.state == relay_pb2.NODE_CONNECTED:
            await asyncio.sleep(self._backoff.pause())

    async def _read(self) -> None:
        """One stream to its end. Raises PeerError."""
        self.told.begin()
        self.past = self.silent = False
        self._ordered_ns = time.time_ns() - SLACK_NS if self._query.selection.follow else HIGHEST
        if self.peer.batched is False:
            await self._read_plain()
        else:
            await self._read_batches()

    async def _read_batches(self) -> None:
        self.reader = BatchReader(self._tables.ends, self._tables.nodes, AGENT_NODES)
        request = queries.for_agent(self._query, self._start, self.peer.clock, self.agents, self.namespaces)
        async with contextlib.aclosing(self.peer.get_batches(request)) as stream:  # type: ignore[type-var]
            async for message in stream:
                try:
                    _check(message)
                    batch = self.reader.read(message)
                except (BatchError, DecodeError) as error:
                    text = f"asking {self.name} for GetFlows: its agent sent what cannot be read: {error}"
                    raise PeerError(grpc.StatusCode.INTERNAL, text) from error
                for loss in message.losses:  # an agent speaks of its own node only
                    loss.node = self.name
                message.ClearField("node_status")
                self._take(batch, message)
                await self._listener.room(self)

    async def _read_plain(self) -> None:
        follow, position = self._query.selection.follow, self._start.position
        since = position.watermark_ns + 1 if position is not None else None
        reader = PlainReader(self.name, self._tables, follow=follow, since_ns=since)
        request = queries.for_observer(self._query, self._start, self.peer.clock)
        quiet_at = time.monotonic()
        async with (
            contextlib.aclosing(self.peer.get_flows(request)) as stream,  # type: ignore[type-var]
            contextlib.aclosing(gathered(stream, follow=follow)) as gatherings,
        ):
            async for responses in gatherings:
                if any(response.HasField("flow") for response in responses):
                    quiet_at = time.monotonic()
                batch, message = reader.read(responses, time.time_ns())
                message.past = follow and time.monotonic() - quiet_at > QUIET_SECONDS
                self._take(batch, message)
                if follow and self._complete():  # not every foreign agent ends by itself
                    return
                await self._listener.room(self)
        batch, message = reader.read((), time.time_ns(), last=True)
        self._take(batch, message)

    def _take(self, batch: Batch, message: flows_pb2.FlowBatch) -> None:
        """Into the lane, with what comes along."""
        position = message.positions[0] if message.positions else None
        lane, now = self.lane, time.monotonic()
        if position is not None:
            position.node = self.name  # clients know the node by the relay's name for it; and no agent speaks of another's
        if len(batch) or position is not None:
            lane.add(batch, queries.offset_ns(self.peer.clock), position if self.peer.named else None)
        watermark = message.watermark_ns - lane.offset_ns if message.watermark_ns else LOWEST
        if len(batch) and not message.watermark_ns and not (self.past and self._query.selection.follow):
            watermark = min(int(batch.time_ns.max()) - lane.offset_ns, self._ordered_ns)
        lane.advance(watermark, now)
        if position is not None:
            self._start = Start(position)
        elif len(batch):  # of an agent that tells no positions: by time, then
            self._start = Start(self._reached(batch))
        self.past = self.past or message.past
        self._tell(message)
        if self.state != relay_pb2.NODE_CONNECTED or self.silent:
            self._recovered(now)
        if not lane.live and self.past and not self.silent and not self._trails():
            lane.live = True
            lane.wait_from(now)
        self._listener.heard(self)

    def _reached(self, batch: Batch) -> flows_pb2.Position:
        newest = int(batch.time_ns.max())
        return flows_pb2.Position(node=self.name, received=queries.NO_NUMBER - 1, watermark_ns=newest)

    def _tell(self, message: flows_pb2.FlowBatch) -> None:
        if message.losses:
            self.told.lose(message.losses, self.lane.offset_ns)
        if message.HasField("coverage"):
            for node in message.coverage.nodes:
                self.told.cover(node, self.lane.offset_ns)
        if message.losses or message.node_status:
            self._listener.told(message)

    def _recovered(self, now: float) -> None:
        """Its agent tells again."""
        if self.silent and (self.lane.stalled(now) or self._trails()):
            return
        self.silent, self.state, self.message = False, relay_pb2.NODE_CONNECTED, ""
        self._backoff.reset()
        self._listener.changed(self, self.state, "")

    def check(self, now: float) -> None:
        """Following: a lane whose watermark stands still holds the others up no longer."""
        if self.lane.live and (self.lane.stalled(now) or self._trails()):
            self.silent = True
            behind = TRAILING if self.past else UNENDING
            self._broke(relay_pb2.NODE_UNAVAILABLE, SILENT if self.lane.stalled(now) else behind)

    def _trails(self) -> bool:
        """Whether its watermark is too far behind the time once all of the past is told, or that is never told."""
        if not self._query.selection.follow:
            return False
        if not self.past:
            return self.lane.waited > MOST_WAITED
        return time.time_ns() - self.lane.watermark_ns > TRAILING_NS

    def _complete(self) -> bool:
        """Whether a stream that its agent ended was whole."""
        until = self._query.selection.until
        return not self._query.selection.follow or (until is not None and self.lane.watermark_ns > until)

    def _failed(self, error: PeerError) -> None:
        lost = error.code is grpc.StatusCode.UNAVAILABLE
        _, _, cause = str(error).partition(": ")  # before is who was asked, which differs where the cause does not
        self._broke(self._lost_state() if lost else relay_pb2.NODE_ERROR, cause or str(error))

    def _lost_state(self) -> int:
        return relay_pb2.NODE_GONE if self.peer.state == relay_pb2.NODE_GONE else relay_pb2.NODE_UNAVAILABLE

    def _broke(self, state: int, message: str) -> None:
        if self._query.selection.follow:  # an answer that ends waits for the second attempt
            self.lane.live = False
        if (self.state, self.message) != (state, message):
            self.state, self.message = state, message
            self._listener.changed(self, state, message)
        self._listener.heard(self)

    def node(self, name: str, now_ns: int) -> Node:
        """What it covers. name: as the caller may see it; now_ns: by the relay's clock."""
        gaps, reached = self.told.gaps, self.lane.watermark_ns
        since = reached if LOWEST < reached < HIGHEST else self._query.since_ns
        until = self._query.selection.until
        to = now_ns if until is None else min(until, now_ns)
        if self.state != relay_pb2.NODE_CONNECTED:
            gaps = (*gaps, Gap(flows_pb2.DOWN, since, to, message=self.message))
        elif not self.told.answered and self._query.since_ns != self._query.began_ns:
            gaps = (*gaps, Gap(flows_pb2.GAP_REASON_UNKNOWN, self._query.selection.since, self._query.began_ns, message=UNSAID))
        told = self.told.to_ns
        if self._query.selection.follow and LOWEST < reached < HIGHEST:
            told = reached
        return Node(name, self.state, self.told.from_ns, told, gaps, self.peer.clock, self.message)  # type: ignore[arg-type]


def _check(message: flows_pb2.FlowBatch) -> None:
    """That an agent says no more beside flows than it has to say. Raises BatchError."""
    gaps = sum(len(node.gaps) for node in message.coverage.nodes[:MOST_TOLD])
    for each in (message.losses, message.node_status, message.positions, message.coverage.nodes):
        gaps = max(gaps, len(each))
    if gaps > MOST_TOLD:
        raise BatchError(f"more than {MOST_TOLD} losses, states, positions or gaps")
