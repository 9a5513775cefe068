"""Inquiry: which agents may have the other view of a connection, and asking them for it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flows.proto import flows_pb2, relay_pb2
from flows.relay.join import PATH_NS, SECOND, UNKNOWN_LIFE_NS, UNMEASURED_ERROR_NS, Clocks
from flows.relay.link import PeerError
from flows.relay.remote_ends import remote_numbers
from flows.relay.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.flow.batch import Batch
    from flows.relay.clock import Clock
    from flows.relay.connections import Numbers
    from flows.relay.remote_ends import Tables

# A query of a second answers what was asked of it; an agent that needs more is ill, and the flows are shown without its view.
ANSWER_SECONDS = 2.0
# All agents together, when many do not answer: what a person waits at most.
WINDOW_SECONDS = 4.0
AT_ONCE = 32
# An agent looks through its store once per call, whatever it is asked; 128 KB of request are a call's size that none refuses.
MOST_OPENERS_PER_CALL = 16_384
# Beyond, a window is shown without asking: the other views would be as many flows again as an agent keeps.
MOST_OPENERS = 65_536
# Calls of one query. To begin with, every agent of a large cluster once; then as many as 32 agents asked 10 times a second
# while following. A call costs some 0.5 ms of a core on either side.
CALLS_AT_FIRST = 1_024
CALLS_PER_SECOND = 320
# An agent that failed is left alone for so long: followers must not wait for it each time.
REST_SECONDS = 10.0
# The other view's last flow may come later by an interval in which agents tell of what is active.
TAIL_NS = 10 * SECOND


class PeerLike(Protocol):
    """What is asked of relay.peer.Peer."""

    @property
    def name(self) -> str: ...
    @property
    def addresses(self) -> frozenset[str]: ...
    @property
    def clock(self) -> Clock | None: ...
    @property
    def batched(self) -> bool | None: ...

    state: int

    async def get_connections(self, request: flows_pb2.ConnectionsRequest, timeout: float) -> flows_pb2.FlowBatch: ...  # noqa: ASYNC109


class PoolLike(Protocol):
    """What is asked of relay.pool.Pool."""

    def peers(self) -> Sequence[PeerLike]: ...


@dataclass(slots=True)
class Counts:
    """What became of joins and questions, for metrics; of all queries of a relay, if they share one."""

    joined: int = 0  # rows that say what both ends' nodes saw
    asked: int = 0  # calls for other views
    failed: int = 0  # calls without a usable answer
    skipped: int = 0  # rows whose other view was not asked for, as that would have been too much
    added: int = 0  # rows that only match because of what the other end's node says
    not_seen: int = 0  # rows of which the other end's node has no view
    damaged: int = 0  # rows that could not be read


@dataclass(frozen=True, slots=True)
class Question:
    """One call. Times by the relay's clock. rows: of the window; none if it is asked again.

    named: the peer is the node of the rows' remote ends.
    """

    peer: PeerLike
    openers: Numbers
    since_ns: int
    until_ns: int
    rows: Numbers
    named: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer said."""

    question: Question
    message: flows_pb2.FlowBatch


@dataclass(slots=True)
class Allowance:
    """What may be done, calls by default: so many at first, growing again with time."""

    most: float = CALLS_AT_FIRST
    per_second: float = CALLS_PER_SECOND
    at: float = field(default_factory=time.monotonic)
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.most

    def take(self, calls: int = 1) -> bool:
        """Whether so many may be made; they count if so."""
        now = time.monotonic()
        self.left = min(self.most, self.left + (now - self.at) * self.per_second)
        self.at = now
        if calls > self.left:
            return False
        self.left -= calls
        return True


def clocks_of(nodes: Sequence[str], known: Mapping[str, Clock | None]) -> Clocks:
    """The nodes' clocks, by name; one that was not measured is taken to be right, and rather wrong."""
    clocks = [known.get(node) for node in nodes]
    offsets = [clock.offset_ns if clock else 0 for clock in clocks]
    errors = [clock.error_ns if clock else UNMEASURED_ERROR_NS for clock in clocks]
    return Clocks(np.array(offsets, np.int64), np.array(errors, np.int64))


class Inquiry:
    """The questions of one query."""

    def __init__(self, pool: PoolLike, counts: Counts, *, everywhere: bool) -> None:
        """everywhere: behind a Service's address may be anybody, so all agents are asked; else those known to have its pods."""
        self._pool, self._counts, self._everywhere = pool, counts, everywhere
        self._allowance = Allowance()
        self._resting: dict[str, float] = {}

    def questions(self, batch: Batch, rows: Numbers, tables: Tables, clocks: Clocks) -> list[Question]:
        """Whom to ask for the other views of these rows of a batch."""
        peers = [peer for peer in self._pool.peers() if self._can_answer(peer)]
        rows = rows[~tables.columns.observed[remote_numbers(batch)[rows]]]
        if not peers or not len(rows):
            return []
        if len(np.unique(batch.opener[rows])) > MOST_OPENERS:
            self._counts.skipped += len(rows)
            return []
        routes = Routes(peers, tables, everywhere=self._everywhere)
        named, services = routes.of(batch, rows)
        self._counts.damaged += routes.damaged
        made: list[Question] = []
        for wanted, is_named in ((named, True), (services, False)):
            asked = [
                replace(one, peer=peers[peer])
                for its_peers, its in wanted
                for one in _split(peers[its_peers[0]], batch, its, clocks, named=is_named)
                for peer in its_peers
            ]
            if self._allowance.take(len(asked)):
                made += asked
            else:
                self._counts.skipped += len(np.unique(np.concatenate([its for _, its in wanted])))
        return made

    def again(self, questions: Sequence[Question], until_ns: int) -> list[Question]:
        """The same questions up to a later time, if they may be asked."""
        able = [one for one in questions if self._can_answer(one.peer)]
        if not self._allowance.take(len(able)):
            self._counts.skipped += len(able)
            return []
        none = np.zeros(0, np.int64)
        return [replace(one, until_ns=until_ns, rows=none) for one in able]

    async def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers that came in time."""
        self._counts.asked += len(questions)
        turns = asyncio.Semaphore(AT_ONCE)
        tasks = [asyncio.create_task(self._ask(question, turns)) for question in questions]
        try:
            done, pending = await asyncio.wait(tasks, timeout=WINDOW_SECONDS) if tasks else (set(), set())
        finally:
            for task in tasks:
                task.cancel()
        self._counts.failed += len(pending)
        await asyncio.gather(*pending, return_exceptions=True)
        return [answer for task in tasks if task in done and (answer := task.result()) is not None]

    async def _ask(self, question: Question, turns: asyncio.Semaphore) -> Answer | None:
        peer, clock = question.peer, question.peer.clock
        offset = clock.offset_ns if clock else 0
        error = clock.error_ns if clock else UNMEASURED_ERROR_NS
        request = flows_pb2.ConnectionsRequest(openers=question.openers.astype("<u8").tobytes())
        request.since.FromNanoseconds(max(0, question.since_ns + offset - error))
        request.until.FromNanoseconds(max(0, question.until_ns + offset + error))
        async with turns:
            if not self._can_answer(peer):
                return None
            try:
                return Answer(question, await peer.get_connections(request, ANSWER_SECONDS))
            except PeerError:
                self._counts.failed += 1
                self._resting[peer.name] = time.monotonic() + REST_SECONDS
                return None

    def _can_answer(self, peer: PeerLike) -> bool:
        connected = peer.state == relay_pb2.NODE_CONNECTED and peer.batched is not False
        return connected and self._resting.get(peer.name, 0.0) <= time.monotonic()


def _split(peer: PeerLike, batch: Batch, rows: Numbers, clocks: Clocks, *, named: bool) -> list[Question]:
    """One question, or several if the openers are more than a call takes."""
    node, time_ns = batch.node[rows], batch.time_ns[rows]
    start = np.where(batch.start_ns[rows] != 0, batch.start_ns[rows], time_ns - UNKNOWN_LIFE_NS)
    slack = clocks.error_ns[node] + PATH_NS
    since = int((start - clocks.offset_ns[node] - slack).min())
    until = int((time_ns - clocks.offset_ns[node] + slack).max()) + TAIL_NS
    openers = np.unique(batch.opener[rows])
    parts = [openers[at : at + MOST_OPENERS_PER_CALL] for at in range(0, len(openers), MOST_OPENERS_PER_CALL)]
    return [
        Question(peer, part, since, until, rows[np.isin(batch.opener[rows], part)] if len(parts) > 1 else rows, named)
        for part in parts
    ]
