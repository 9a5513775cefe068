"""The ring of the last N flows: columns that are overwritten from the front, and a number for each flow that ever was."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.enrich.hashindex import HashIndex
from flows.agent.probe.batch import Batch
from flows.agent.probe.record import of_requests
from flows.agent.store.columns import COLUMNS, COPIED
from flows.agent.store.process_names import ProcessNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from flows.agent.probe.batch import Records

Rows = dict[str, "NDArray[np.generic]"]


@dataclass(frozen=True, slots=True)
class Loss:
    """Events that never became flows, noticed after flow number `position` had been stored."""

    position: int
    reason: str
    count: int
    first_ns: int  # since 1970: between these two the events were lost
    last_ns: int


@dataclass(frozen=True, slots=True)
class Told:
    """What first bytes told of connections (k,): ids; what is spoken and the details of names, 0 where nothing is told."""

    connections: NDArray[np.uint64]
    spoken: NDArray[np.uint8]
    names: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Renaming:
    """New endpoint numbers (k,), and which numbers of before are weak enough to be replaced.

    former (k,): who was taken for the owner of each address, and is replaced as well; 0 for none.
    """

    numbers: NDArray[np.uint32]
    weak: NDArray[np.uint32]
    former: NDArray[np.uint32] | None = None


SECOND = 1_000_000_000
MAX_LOSSES = 1024  # one a second and reason at most: a quarter of an hour of constant loss; older ones are added up by reason
OVERWRITTEN = "overwritten"  # the reason of losses on the way out: a reader was slower than the ring


class FlowStore:
    """Columns of the last `capacity` flows.

    Flows are numbered from 0 in the order they came; `written` is the next number, `oldest` the first still there.
    append() is for one thread, everything else for any.
    """

    def __init__(self, capacity: int) -> None:
        """Allocate all columns at once: memory does not grow with use."""
        self.capacity = capacity
        self.written = 0
        self.processes = ProcessNames()
        self.losses: list[Loss] = []
        self.lock = threading.Lock()
        self._columns = {name: np.zeros((capacity, *shape), dtype) for name, (dtype, shape) in COLUMNS.items()}

    @property
    def oldest(self) -> int:
        """Number of the oldest flow still stored."""
        return max(0, self.written - self.capacity)

    def append(
        self,
        records: Records,
        local: NDArray[np.uint32],
        remote: NDArray[np.uint32],
        to_wall_ns: int,
        stored: Callable[[], None] | None = None,
        details: NDArray[np.uint32] | None = None,
    ) -> None:
        """Store a batch: records (n,), as they came; endpoint numbers (n,); to_wall_ns is added to the records' clock.

        details (n,): see COLUMNS; none: all 0. stored: called when the flows are there and nobody can see them yet: with the lock
        held.
        """
        if len(records) > self.capacity:
            kept = slice(len(records) - self.capacity, None)
            with self.lock:
                self.written += len(records) - self.capacity
            records = records.part(kept) if isinstance(records, Batch) else records[kept]
            local, remote = local[kept], remote[kept]
            details = details[kept] if details is not None else None
        start = records["start_ns"].astype(np.int64)
        made: Rows = {
            "time": records["time_ns"].astype(np.int64) + to_wall_ns,
            "start": np.where(start != 0, start + to_wall_ns, 0),
            "local": local,
            "remote": remote,
            "process": self.processes.numbers(records["comm"]),
            "detail": np.zeros(len(records), np.uint32) if details is None else details,
        }
        with self.lock:
            self._write({**made, **{name: records[name] for name in COPIED}}, len(records))
            if stored is not None:
                stored()

    def _write(self, rows: Rows, count: int) -> None:
        at = self.written % self.capacity
        head = min(count, self.capacity - at)
        for name, column in self._columns.items():
            values = rows[name]
            column[at : at + head] = values[:head]
            if head < count:
                column[: count - head] = values[head:]
        self.written += count

    def lose(self, reason: str, count: int, first_ns: int, last_ns: int) -> None:
        """Note events that were lost on the way here."""
        with self.lock:
            self.losses = _shortened([*self.losses, Loss(self.written, reason, count, first_ns, last_ns)])

    def column(self, name: str, first: int, last: int) -> NDArray[np.generic]:
        """Values of flows first..last-1, in order; a view where possible. The caller holds the lock, and the flows are stored."""
        values = self._columns[name]
        low, high = first % self.capacity, (last - 1) % self.capacity + 1
        if first >= last:
            return values[:0]
        return values[low:high] if low < high else np.concatenate((values[low:], values[:high]))

    def take(self, numbers: NDArray[np.int64], names: Iterable[str] = COLUMNS) -> Rows:
        """Copies of the given flows, by number. The caller holds the lock, and the flows are stored."""
        rows = numbers % self.capacity
        return {name: self._columns[name].take(rows, axis=0) for name in names}

    def endpoints_in_use(self) -> NDArray[np.uint32]:
        """Endpoint numbers that stored flows refer to, sorted."""
        with self.lock:
            count = min(self.written, self.capacity)
            ends = (self._columns["local"][:count], self._columns["remote"][:count])
            return np.unique(np.concatenate(ends))

    def rate(self, now_ns: int, seconds: int) -> float:
        """Flows per second over the last so many seconds, or over the stored span where that is shorter."""
        with self.lock:
            times = self._columns["time"][: min(self.written, self.capacity)]
            if not len(times):
                return 0.0
            begin = max(now_ns - seconds * SECOND, int(times.min()))
            span = max(now_ns - begin, SECOND)
            return int((times >= begin).sum()) * SECOND / span

    def rename_addresses(self, side: str, addresses: NDArray[np.uint8], since_ns: NDArray[np.int64], names: Renaming) -> None:
        """Give flows the endpoints that their addresses turned out to have had.

        side: "local" or "remote"; addresses (k, 16); since_ns (k,) ns since 1970: earlier flows keep what they have, and
        so do those of connections of before that have a former owner's name.
        """
        former = np.zeros(len(addresses), np.uint32) if names.former is None else names.former
        index = HashIndex(2)
        index.insert(addresses.view("u8"), np.arange(1, len(addresses) + 1, dtype=np.uint32))
        with self.lock:
            rows = self._weakly_named(side, np.union1d(names.weak, former[former > 0]))
            halves = self._columns[f"{side}_addr"][rows].view("u8")
            found = index.lookup(halves[:, 0], halves[:, 1])
            rows, found = rows[found > 0], found[found > 0] - 1
            current, times, starts = (self._columns[name][rows] for name in (side, "time", "start"))
            weak = np.isin(current, names.weak) & (times >= since_ns[found])
            ousted = (current == former[found]) & (np.where(starts > 0, starts, times) >= since_ns[found])
            self._columns[side][rows[weak | ousted]] = names.numbers[found[weak | ousted]]

    def rename_connections(self, connections: NDArray[np.uint64], names: Renaming) -> None:
        """Give the remote ends of flows of these connections (k,) their endpoints."""
        index = HashIndex(1)
        index.insert(connections[:, None], np.arange(1, len(connections) + 1, dtype=np.uint32))
        with self.lock:
            rows = self._weakly_named("remote", names.weak)
            found = index.lookup(self._columns["conn_id"][rows])
            self._columns["remote"][rows[found > 0]] = names.numbers[found[found > 0] - 1]

    def tell_connections(self, told: Told, look_back: int) -> None:
        """What first bytes told of connections, for those of their flows that are among the last `look_back`."""
        for name, values in (("icmp_code", told.spoken), ("detail", told.names)):
            new = values != 0  # a connection may be told of twice: what is spoken, and its name
            if new.any():
                self._tell(name, told.connections[new], values[new], look_back)

    def _tell(self, name: str, connections: NDArray[np.uint64], values: NDArray[Any], look_back: int) -> None:
        index = HashIndex(1)
        index.insert(connections[:, None], np.arange(1, len(connections) + 1, dtype=np.uint32))
        with self.lock:
            rows = np.arange(max(self.oldest, self.written - look_back), self.written) % self.capacity
            rows = rows[~of_requests(self._columns["event"][rows])]
            found = index.lookup(self._columns["conn_id"][rows])
            self._columns[name][rows[found > 0]] = values[found[found > 0] - 1]

    def details_in_use(self) -> NDArray[np.uint32]:
        """Details of stored flows that are no requests', sorted."""
        with self.lock:
            count = min(self.written, self.capacity)
            return np.unique(self._columns["detail"][:count][~of_requests(self._columns["event"][:count])])

    def _weakly_named(self, side: str, weak: NDArray[np.uint32]) -> NDArray[np.int64]:
        count = min(self.written, self.capacity)
        return np.flatnonzero(np.isin(self._columns[side][:count], weak))


def _shortened(losses: list[Loss]) -> list[Loss]:
    """At most MAX_LOSSES, and one of each reason: the oldest goes into the next of its reason."""
    if len(losses) <= MAX_LOSSES:
        return losses
    oldest, *rest = losses
    at = next((index for index, loss in enumerate(rest) if loss.reason == oldest.reason), None)
    if at is None:
        return losses
    heir = rest[at]
    rest[at] = replace(heir, count=heir.count + oldest.count, first_ns=min(heir.first_ns, oldest.first_ns))
    return rest
