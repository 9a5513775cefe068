"""Observer: the store's flows for a request, as snapshots and as batches of bytes."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.l7.dns_name_table import NameTable
from flows.agent.observer.coverage import Known
from flows.agent.observer.decode import Decoder
from flows.agent.observer.ends import Ends
from flows.agent.observer.openers import Openers
from flows.agent.observer.selected import Selected, around, joined, take
from flows.agent.store.store import OVERWRITTEN, Loss
from flows.agent.store.table import FlowIds, StoreTable
from flows.flow.batch import empty
from flows.flow.filter import Selection, select
from flows.flow.filter.selection import within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flows.agent.enrich.enricher import Enricher
    from flows.agent.observer.coverage import Watch
    from flows.agent.observer.positions import Resume
    from flows.agent.observer.query import Request
    from flows.agent.store.requests import RequestStore
    from flows.agent.store.store import FlowStore
    from flows.flow.batch import Batch
    from flows.flow.endpoint import Endpoint

# How far back a follower looks for the other end of a connection: both ends' records are milliseconds apart.
FOLLOW_BACK = 4_096
NEWS = 4_096  # flows that a follower looks at in one go: some 2 ms, so that nobody else waits long
MAX_CONNECTIONS = 8_192  # flows of asked-for connections in one answer: 4 MB
SECOND = 1_000_000_000


class Endpoints:
    """Endpoints by number, as a sequence whose identity changes with the enricher's generation, as filters' memories require."""

    def __init__(self, enricher: Enricher) -> None:
        """A view of the enricher's endpoints as of now."""
        self.generation = enricher.generation
        self._enricher = enricher

    def __len__(self) -> int:
        return self._enricher.number_limit

    def __getitem__(self, number: int) -> Endpoint:
        return self._enricher.endpoint(number)


def new_instance() -> int:
    """A number that no other agent's process has: positions in one's flows mean nothing in another's."""
    return secrets.randbits(64) | 1  # 0 stands for none


class Observer:
    """Answers queries; all state is in the store and the enricher. past(), news(), rest() and of_openers() are for any thread."""

    def __init__(
        self,
        store: FlowStore,
        enricher: Enricher,
        node: str,
        version: str,
        watch: Watch,
        instance: int,
        requests: RequestStore | None = None,
        names: NameTable | None = None,
    ) -> None:
        """node: `cluster/node`. version: of the agent, as emitter of its flows. watch: since when it has every event.

        requests, names: what details of flows refer to.
        ended: set once nothing more will be stored; followers then get the rest.
        """
        self.ended = asyncio.Event()
        self.store, self.node, self.version, self.watch, self.instance = store, node, version, watch, instance
        self._enricher = enricher
        self.ends = self.new_ends()
        self._ids = FlowIds()
        self._requests, self._names = requests, names or NameTable()
        self._decoder = self._new_decoder(enricher.node_labels())
        self._endpoints = Endpoints(enricher)

    def _table(self, first: int, last: int) -> StoreTable:
        if self._endpoints.generation != self._enricher.generation:
            self._endpoints = Endpoints(self._enricher)
        endpoints: Any = self._endpoints
        node = (self.node, self._enricher.node_labels())
        return StoreTable(
            self.store,
            first,
            last,
            endpoints=endpoints,
            node=node,
            ids=self._ids,
            requests=self._requests,
            names=self._names.name,
        )

    def _new_decoder(self, labels: tuple[str, ...]) -> Decoder:
        return Decoder(self.node, labels, self.version, self._ids, self._requests, self._names)

    def past(self, request: Request) -> Selected:
        """The stored flows that the request selects."""
        store, selection = self.store, request.selection
        with store.lock:
            oldest, last = store.oldest, store.written
            if selection.follow and not selection.number and selection.since is None:
                return self.nothing(last)
            table = self._table(oldest, last)
            times = table.times
            order = np.argsort(times, kind="stable")  # CPUs and sweeps write records a little out of order
            shown = select(request.matches(table)[order], times[order], selection)
            numbers = oldest + order[shown]
            passed = int(numbers.min()) if selection.number and len(numbers) else oldest
            # A follower is told of the losses after the last flow when one comes after them: each is told once.
            losses = [
                loss for loss in store.losses if loss.position >= passed and not (selection.follow and loss.position == last)
            ]
            rows, stored = take(store, numbers), around(store, oldest, last)
        return self._joined(rows, stored, oldest, last, losses)

    def rest(self, request: Request, resume: Resume) -> Selected:
        """What a stream that broke off has not delivered, overwritten flows as a loss."""
        store, reach = self.store, resume.within(self.instance)
        told = reach.received if resume.instance == self.instance else 0
        with store.lock:
            oldest, last = store.oldest, store.written
            first = max(reach.first, oldest)
            table = self._table(first, last)
            times, numbers = table.times, np.arange(first, last)
            shown = reach.missing(numbers, times) & within(times, Selection(until=request.selection.until))
            losses = [loss for loss in store.losses if told <= loss.position < last]
            if reach.received < oldest:
                losses.insert(0, self._overwritten(reach.received, reach.watermark_ns))
            rows, stored = take(store, numbers[shown & request.matches(table)]), around(store, oldest, last)
        return self._joined(rows, stored, oldest, last, losses)

    def news(self, request: Request, cursor: int, since_ns: int) -> Selected:
        """Matching ones of NEWS flows from number `cursor` on, overwritten ones as a loss. since_ns: all before was sent."""
        store = self.store
        with store.lock:
            first = max(cursor, store.oldest)
            last = min(first + NEWS, store.written)
            losses = [loss for loss in store.losses if cursor <= loss.position < last]
            if first > cursor:
                losses.insert(0, self._overwritten(cursor, since_ns))
            if first == last:
                return self.nothing(last, losses)
            table = self._table(first, last)
            shown = request.matches(table) & within(table.times, Selection(until=request.selection.until))
            back = max(store.oldest, last - FOLLOW_BACK)
            ahead = min(store.written, last + FOLLOW_BACK)
            rows, stored = take(store, first + np.flatnonzero(shown)), around(store, back, ahead)
        return self._joined(rows, stored, back, last, losses)

    def of_openers(self, openers: Openers) -> tuple[Selected, int]:
        """Flows of connections by who opened them, the newest MAX_CONNECTIONS, and how many older ones were left out."""
        store = self.store
        with store.lock:
            oldest, last = store.oldest, store.written
            stored: dict[str, NDArray[Any]] = {name: store.column(name, oldest, last) for name in Openers.COLUMNS}
            rows = np.flatnonzero(openers.timely(stored))
            stored = {name: column[rows] for name, column in stored.items()}
        found = openers.among(stored)
        chosen = found[-MAX_CONNECTIONS:]
        with store.lock:
            numbers = rows[chosen] + oldest
            numbers = numbers[numbers >= store.oldest]
            columns, pairs = take(store, numbers), around(store, store.oldest, store.written)
            first, end = store.oldest, store.written
        columns["initiator"] = openers.oriented(columns)
        return self._joined(columns, pairs, first, end, []), len(found) - len(chosen)

    def _joined(self, rows: dict[str, Any], stored: dict[str, Any], first: int, end: int, losses: list[Loss]) -> Selected:
        joined(self.store, rows, stored, first)
        return Selected(rows["number"], rows, end, losses)

    def nothing(self, end: int, losses: Sequence[Loss] = ()) -> Selected:
        """No flows of those below number `end`."""
        rows: dict[str, Any] = {**self.store.take(np.zeros(0, np.int64)), "number": np.zeros(0, np.int64)}
        return Selected(rows["number"], rows, end, list(losses))

    def _overwritten(self, cursor: int, since_ns: int) -> Loss:
        """Of a reader that had come to number `cursor`, and to a time. The caller holds the lock."""
        oldest = self.store.oldest
        until_ns = int(self.store.column("time", oldest, oldest + 1)[0])
        return Loss(cursor, OVERWRITTEN, oldest - cursor, min(since_ns, until_ns), until_ns)

    def new_ends(self) -> Ends:
        """For batches that are to share a table; such for all streams is `ends`."""
        return Ends(self._enricher, self.store.processes)

    def batch(self, selected: Selected, ends: Ends, *, extensions: bool = True) -> Batch:
        """The flows as a batch of these ends and of node 0. For one thread; 6 us each and 1 ms in all."""
        if not len(selected):
            return empty()
        labels = self._enricher.node_labels()
        if labels != self._decoder.node_labels:
            self._decoder = self._new_decoder(labels)
        columns, here = selected.columns, np.zeros(len(selected), np.bool_)
        local = ends.numbers(columns["local"], columns["pid"], columns["process"], here)
        remote = ends.numbers(columns["remote"], columns["remote_pid"], columns["remote_process"], columns["joined"])
        return self._decoder.batch(selected.numbers, columns, (local, remote), extensions=extensions)

    def known(self, to_ns: int, asked_ns: int) -> Known:
        """What coverage is told from. to_ns: everything before is stored; asked_ns: when the store was to catch up."""
        store, status = self.store, self._enricher.source_status()
        with store.lock:
            oldest = store.oldest
            oldest_ns = int(store.column("time", oldest, oldest + 1)[0]) if oldest else None
            losses = store.losses
        if status is None or status.in_sync:
            return Known(self.watch, oldest_ns, losses, None, "", to_ns, asked_ns)
        why = "; ".join(f"{resource}: {cause}" for resource, cause in status.errors.items())
        why = f"names are not up to date: {why}"
        return Known(self.watch, oldest_ns, losses, int(status.since * SECOND), why, to_ns, asked_ns)

    def namespaces(self) -> list[tuple[str, str]]:
        """(cluster, namespace) of all endpoints that stored flows name, sorted."""
        used = self.store.endpoints_in_use().tolist()
        endpoints = [self._enricher.endpoint(number) for number in used]
        return sorted({(endpoint.cluster, endpoint.namespace) for endpoint in endpoints if endpoint.namespace})
