"""Others: one query's flows, made to say what the nodes of both ends saw. What the stream lacks is asked for."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from flows.flow.batch import Batch, BatchError, BatchReader, concatenate, empty
from flows.proto import extension_pb2
from flows.relay.end_columns import EndColumns
from flows.relay.extra_flows import ExtraFlows
from flows.relay.inquiry import Answer, Counts, Inquiry, PoolLike, Question, clocks_of
from flows.relay.join import NOBODY, SECOND, Clocks, partners
from flows.relay.one_sided import not_seen
from flows.relay.remote_ends import RemoteEnds, Tables, other_view

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from flows.flow.ends import EndTable
    from flows.proto.observer_pb2 import GetFlowsRequest
    from flows.relay.clock import Clock
    from flows.relay.connections import Numbers

# Following, both views of a moment come within one window or the next: agents tell twice a second at the least.
RECENT_NS = 2 * SECOND
MOST_RECENT = 4_096
# Following a filter, the other view's flows that come after the question (its end, mostly) are found by asking once more.
AGAIN_NS = SECOND
MOST_AGAIN = 1_024


class Others:
    """For one query. Give it every window of rows, in order, and while following also the empty ones."""

    def __init__(
        self,
        pool: PoolLike,
        ends: EndTable,
        nodes: list[str],
        request: GetFlowsRequest,
        *,
        namespaces: frozenset[str] | None = None,
        counts: Counts | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """ends, nodes: the tables of the windows. namespaces: what the caller may see; None: everything.

        The request's field mask is the caller's matter: rows must have their ends, IP and l4 to be joined, and those that
        come in addition come whole. Raises flows.flow.filter.FilterError.
        """
        self.counts = counts if counts is not None else Counts()
        self._pool, self._request, self._now_ns = pool, request, now_ns
        self._extra = ExtraFlows(request, namespaces, self.counts, now_ns())
        # Following everything, the other view comes by itself, but for the moments between two windows.
        self._inquiry = Inquiry(pool, self.counts, everywhere=self._extra.wanted or not request.follow)
        self._again: deque[tuple[int, list[Question]]] = deque(maxlen=MOST_AGAIN)
        self._recent = empty()
        self._known: dict[str, Clock | None] = {}
        self._use(ends, nodes)

    def _use(self, ends: EndTable, nodes: list[str]) -> None:
        self._tables = Tables(ends, EndColumns(ends), nodes)
        self._remote_ends = RemoteEnds(self._tables)

    def change_tables(self, ends: EndTable, nodes: list[str]) -> None:
        """Go on with other tables: following for long, the stream's are begun anew."""
        before, recent = self._tables, self._recent
        self._use(ends, nodes)
        raw, names = [entry.raw for entry in before.ends], before.nodes
        self._recent = replace(
            recent,
            source=_renumbered(recent.source, lambda number: ends.number(raw[number])),
            destination=_renumbered(recent.destination, lambda number: ends.number(raw[number])),
            node=_renumbered(recent.node, lambda number: _number(nodes, names[number])),
        )

    async def joined(self, batch: Batch) -> Batch:
        """The window's rows with the ends' own nodes' names, and rows that match the query only because of those.

        batch: in order of corrected time; times are the nodes' own. The rows stay in their order, those that come in
        addition are put in by their time; the caller applies the query's number afterwards. An agent that does not answer
        is counted, and leaves Connection.other_view unknown.
        """
        self._known = {peer.name: peer.clock for peer in self._pool.peers()}
        stream = concatenate((batch, self._recent)) if len(self._recent) else batch
        partner = self._partners(stream)
        lone = np.flatnonzero((partner[: len(batch)] == NOBODY) & (batch.opener != 0))
        answers = await self._ask(batch, lone)
        rows = concatenate((stream, *(answered for _, answered in answers))) if answers else stream
        if answers:
            partner = self._partners(rows)
        told = self._remote_ends.put(rows, partner)
        self.counts.damaged += self._remote_ends.damaged
        self._remote_ends.damaged = 0
        self.counts.joined += int(np.count_nonzero(partner[: len(batch)] != NOBODY))
        shown = self._one_sided(told.take(np.arange(len(batch))), partner, answers)
        added = await self._extra.of(rows, told, len(stream), self._tables, clocks=self._clocks())
        self._remember(batch)
        return self._merged(shown, added)

    def _clocks(self) -> Clocks:
        return clocks_of(self._tables.nodes, self._known)

    def _partners(self, rows: Batch) -> Numbers:
        self._tables.columns.update()
        return partners(rows, self._tables.columns, self._clocks())

    async def _ask(self, batch: Batch, lone: Numbers) -> list[tuple[Answer, Batch]]:
        now = self._now_ns()
        questions = self._inquiry.questions(batch, lone, self._tables, self._clocks()) if len(lone) else []
        due: list[Question] = []
        while self._again and self._again[0][0] <= now:
            due += self._again.popleft()[1]
        if questions and self._request.follow and self._extra.wanted:
            self._again.append((now + AGAIN_NS, questions))
        if due:
            questions = questions + self._inquiry.again(due, now)
        answers = []
        for answer in await self._inquiry.ask(questions):
            try:
                answers.append((answer, BatchReader(self._tables.ends, self._tables.nodes).read(answer.message)))
                self.counts.skipped += sum(loss.count for loss in answer.message.losses)
            except (BatchError, DecodeError):
                self.counts.failed += 1
        return answers

    def _one_sided(self, shown: Batch, partner: Numbers, answers: Sequence[tuple[Answer, Batch]]) -> Batch:
        """With the rows marked of which the other end's node has no view."""
        rows: list[int] = []
        for answer, answered in answers:
            asked = answer.question.rows if answer.question.named else answer.question.rows[:0]
            lone = asked[partner[asked] == NOBODY]
            if len(lone):
                rows += not_seen(shown, lone, answer, answered, self._tables, self._clocks())
        if not rows:
            return shown
        connections = shown.connections.copy()
        connections[rows] += np.array(other_view(extension_pb2.NOT_SEEN), object)
        self.counts.not_seen += len(rows)
        return replace(shown, connections=connections)

    def _remember(self, batch: Batch) -> None:
        """Keep the last rows of the stream for views that come later. Not those asked for: the stream would not have them."""
        if not self._request.follow:
            return
        recent = concatenate((self._recent, batch.take(batch.opener != 0)))
        time_ns = recent.time_ns - self._clocks().offset_ns[recent.node]
        self._recent = recent.take(np.flatnonzero(time_ns >= self._now_ns() - RECENT_NS)[-MOST_RECENT:])

    def _merged(self, shown: Batch, added: Batch) -> Batch:
        if not len(added):
            return shown
        offset = self._clocks().offset_ns
        times = np.maximum.accumulate(shown.time_ns - offset[shown.node])
        order = np.argsort(np.concatenate((times, added.time_ns - offset[added.node])), kind="stable")
        return concatenate((shown, added)).take(order)


def _renumbered(numbers: NDArray[np.uint32], renumber: Callable[[int], int]) -> NDArray[np.uint32]:
    distinct, inverse = np.unique(numbers, return_inverse=True)
    return np.array([renumber(number) for number in distinct.tolist()], np.uint32)[inverse]


def _number(nodes: list[str], name: str) -> int:
    if name not in nodes:
        nodes.append(name)
    return nodes.index(name)
