"""Enricher: a batch of records to (local endpoint numbers, remote endpoint numbers), and numbers to
endpoints.

resolve() and apply_changes() belong to the thread that reads the ring; everything else may be called from any
thread. What other threads have to say goes through one queue, taken at the start of resolve().
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from flows.agent.enrich.addresses import parse_address, ranges
from flows.agent.enrich.cgroup_tree import CgroupTree
from flows.agent.enrich.connections import Connections
from flows.agent.enrich.entities import CgroupEntity
from flows.agent.enrich.hashindex import HashIndex
from flows.agent.enrich.kube_records import NodeRecord, Record
from flows.agent.enrich.names import LateNames, Names
from flows.agent.enrich.numbering import BY_ADDRESS
from flows.agent.enrich.record_words import words
from flows.kube.resource import Changes, Relisted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from flows.agent.enrich.kube_source import Source, SourceStatus
    from flows.agent.enrich.record_words import Columns
    from flows.agent.probe.batch import Records
    from flows.flow.endpoint import Endpoint

# A cgroup that was gone at its first record: its later records, if any, come within the reporting interval.
GONE_NS: Final = 30 * 10**9
PURGE_NS: Final = 60 * 10**9


@dataclass(frozen=True, slots=True)
class _CgroupChanges:
    made: tuple[tuple[int, str], ...]
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _HostAddresses:
    addresses: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class _Retain:
    in_use: NDArray[np.uint32]


_Message: TypeAlias = Changes[Record] | Relisted | _CgroupChanges | _HostAddresses | _Retain


class Enricher:
    """Names both ends of records. Without a source it names cgroups (units, containers), this node and ranges.

    Raises OSError when cgroup_root cannot be opened.
    """

    def __init__(
        self,
        cgroup_root: str | Path,
        node_name: str,
        cluster_name: str = "default",
        node_addresses: Iterable[str] = (),
        source: Source | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._monotonic_ns, self._wall_ns = monotonic_ns, wall_ns
        self._inbox: deque[_Message] = deque()
        self._source = source
        self._tree = CgroupTree(cgroup_root)
        self._names = Names(node_name, cluster_name)
        self._connections = Connections()
        self._cgroups = HashIndex(words=1)
        self._alive: set[str] = set()
        self._gone_until: dict[int, int] = {}
        self._purge_at = 0
        # 0: no socket. The root: the kernel's own packets, and processes that nobody placed.
        self._index_cgroups([0, self._tree.root_id], [BY_ADDRESS] * 2)
        self._cgroup_changes(_CgroupChanges(tuple(self._tree.scan()), ()))
        self.set_node_addresses(node_addresses)

    async def run(self) -> None:
        """Follow the cgroup tree and the source until cancelled."""
        loop = asyncio.get_running_loop()
        descriptor = self._tree.fileno()
        if descriptor >= 0:
            loop.add_reader(descriptor, self._read_tree)
        if self._source is not None:
            self._source.start(self._inbox.append)
        try:
            await asyncio.Event().wait()
        finally:
            if descriptor >= 0:
                loop.remove_reader(descriptor)
            if self._source is not None:
                await asyncio.to_thread(self._source.stop)

    def close(self) -> None:
        """Give the cgroup tree's file descriptors back; after run() ended and resolve() is called no more."""
        self._tree.close()

    @property
    def generation(self) -> int:
        """Grows whenever endpoint() may answer otherwise than before for a number."""
        return self._names.generation

    def namespace_of(self, cgroup_id: int) -> str | None:
        """Namespace of the pod that a cgroup belongs to, "" if it is no pod's; None: not known (yet), or it is gone."""
        path = self._tree.path(cgroup_id)
        return self._names.namespace_of(path) if path is not None else None

    def source_status(self) -> SourceStatus | None:
        """Tell whether names are up to date; None without a source."""
        return self._source.status() if self._source is not None else None

    def nodes(self) -> dict[str, NodeRecord]:
        """All nodes by name, as the API has them, this one included; empty without a source.

        The mapping never changes: another one means that a node came, went, or has other addresses or labels.
        """
        return self._names.directory.nodes

    def node_labels(self) -> tuple[str, ...]:
        """This node's labels as Hubble shows them (`key=value`), sorted; empty as long as the API has not told them."""
        record = self.nodes().get(self._names.directory.node_name)
        return tuple(f"{key}={value}" for key, value in record.labels) if record else ()

    def set_node_addresses(self, addresses: Iterable[str]) -> None:
        """Set the addresses of this node's own interfaces; what is no IP address is ignored."""
        parsed = (parse_address(address) for address in addresses)
        self._inbox.append(_HostAddresses(frozenset(address for address in parsed if address)))

    def retain(self, numbers_in_use: NDArray[np.uint32]) -> None:
        """Tell which numbers the store's rows hold, all that resolve() gave included; it takes effect at the next.

        Others are freed, and given to other entities, when a second call says the same and nothing else keeps
        them: a pod, Service, node or cgroup that is still there.
        """
        self._inbox.append(_Retain(numbers_in_use))

    def endpoint(self, number: int) -> Endpoint:
        """Give the newest names of a number; an empty Endpoint for 0 and for a number that was freed."""
        return self._names.endpoint(number)

    @property
    def number_limit(self) -> int:
        """All numbers given out so far are below this."""
        return self._names.number_limit

    def late_names(self) -> list[LateNames]:
        """Take the names that came late since the last call, in order."""
        return self._names.take_late()

    def resolve(self, records: Records) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Name both ends of each record: (local numbers, remote numbers), (n,) uint32 each, 0 unknown.

        records: (n,). An address is resolved at the time its connection began, as far as that is
        known: a connection does not move to who gets the address later.
        """
        self.apply_changes()
        columns = words(records)
        times = np.where(columns["start_ns"] != 0, columns["start_ns"], columns["time_ns"])
        local, observed = self._local(columns, times)
        remote, joinable = self._by_address(columns["remote_high"], columns["remote_low"], times)
        self._join(columns, local, observed, remote, joinable)
        return local, remote

    def apply_changes(self) -> None:
        """Take what other threads have queued. resolve() does it first; call it when no records come, too."""
        now = self._monotonic_ns()
        while self._inbox:
            self._apply(self._inbox.popleft(), now)
        if now >= self._purge_at:
            self._purge(now)

    def _apply(self, message: _Message, now: int) -> None:
        if isinstance(message, Changes | Relisted):
            self._names.change(message, now, self._wall_ns())
        elif isinstance(message, _HostAddresses):
            self._names.set_host_addresses(message.addresses, now, self._wall_ns())
        elif isinstance(message, _CgroupChanges):
            self._cgroup_changes(message)
        else:
            self._free(message.in_use)

    def _local(self, columns: Columns, times: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Number the local ends, and tell which by their own socket's cgroup."""
        ids = columns["cgroup_id"]
        numbers = self._cgroups.lookup(ids)
        if not numbers.all():
            self._learn_cgroups(np.unique(ids[numbers == 0]))
            numbers = self._cgroups.lookup(ids)
        observed: NDArray[np.bool_] = numbers > BY_ADDRESS
        rest = (~observed).nonzero()[0]
        if rest.size:
            high, low = columns["local_high"][rest], columns["local_low"][rest]
            numbers[rest] = self._by_address(high, low, times[rest])[0]
        return numbers, observed

    def _by_address(
        self, high: NDArray[np.uint64], low: NDArray[np.uint64], times: NDArray[np.uint64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Number addresses, and tell which may be another socket of this node, which the address does not name."""
        names = self._names
        numbers = names.book.lookup(high, low, times)
        joinable = (numbers == names.hosts[0]) | (numbers == names.hosts[1]) | (numbers == names.loopback)
        unknown = (numbers == 0).nonzero()[0]
        if unknown.size:
            kinds = ranges(high[unknown], low[unknown])
            numbers[unknown] = np.where(kinds.loopback, names.loopback, names.world)
            numbers[unknown[kinds.unspecified]] = 0
            joinable[unknown] = kinds.loopback | kinds.private
        return numbers, joinable

    def _join(
        self,
        columns: Columns,
        local: NDArray[np.uint32],
        observed: NDArray[np.bool_],
        remote: NDArray[np.uint32],
        joinable: NDArray[np.bool_],
    ) -> None:
        """Name remote ends by the socket at the other end, if that is on this node; changes remote in place."""
        rows = (joinable | (observed & ~self._names.own_address.take(local))).nonzero()[0]
        if not rows.size:
            return
        loopback = remote[rows] == self._names.loopback
        netns = columns["netns"][rows].astype(np.uint64)
        # The same loopback address is another end in each network namespace; without it there is no telling.
        scope = np.where(loopback, netns, 0) | (columns["protocol"][rows].astype(np.uint64) << np.uint64(32))
        local_end, remote_end = (
            (columns[f"{end}_high"][rows], columns[f"{end}_low"][rows], columns[f"{end}_port"][rows])
            for end in ("local", "remote")
        )
        joined = self._connections.join(
            self._connections.ends(local_end, remote_end, scope),
            np.where(observed[rows] & ~(loopback & (netns == 0)), local[rows], 0),
            joinable[rows],
            columns["conn_id"][rows],
        )
        named = (joinable[rows] & (joined.numbers != 0)).nonzero()[0]
        remote[rows[named]] = self._names.at_other_end(joined.numbers[named])
        # A pod's loopback is the pod, not the node, also where the other socket was not seen.
        within = (loopback & (joined.numbers == 0) & self._names.own_address.take(local[rows])).nonzero()[0]
        if within.size:
            remote[rows[within]] = self._names.pods_of(local[rows[within]])
        if joined.late_connections.size:
            self._names.named_late(joined.late_connections, joined.late_numbers)

    def _learn_cgroups(self, ids: NDArray[np.uint64]) -> None:
        """Look up cgroups seen for the first time; those that are gone already go by their address for a while."""
        for cgroup_id in ids.tolist():
            path = self._tree.path(cgroup_id)
            if path is None:
                self._gone_until[cgroup_id] = self._monotonic_ns() + GONE_NS
                self._index_cgroups([cgroup_id], [BY_ADDRESS])
            else:
                self._cgroup_changes(_CgroupChanges(((cgroup_id, path),), ()))

    def _index_cgroups(self, ids: list[int], numbers: list[int]) -> None:
        self._cgroups.insert(np.array(ids, np.uint64).reshape(-1, 1), np.array(numbers, np.uint32))

    def _cgroup_changes(self, changes: _CgroupChanges) -> None:
        """Learn new cgroups; of those that are gone only note it: their last records are still to come."""
        self._alive.difference_update(changes.gone)
        made = [(cgroup_id, path) for cgroup_id, path in changes.made if path != "/"]
        self._alive.update(path for _, path in made)
        numbers = [self._names.number(CgroupEntity(path)) for _, path in made]
        self._index_cgroups([cgroup_id for cgroup_id, _ in made], numbers)

    def _read_tree(self) -> None:
        made, gone = self._tree.read_changes()
        self._inbox.append(_CgroupChanges(tuple(made), tuple(gone)))

    def _free(self, in_use: NDArray[np.uint32]) -> None:
        freed = self._names.free(in_use, self._alive)
        if freed.size:
            self._connections.forget(freed)
            keys, numbers = self._cgroups.items()
            self._cgroups.remove(keys[np.isin(numbers, freed)])

    def _purge(self, now: int) -> None:
        self._purge_at = now + PURGE_NS
        self._names.purge(now)
        over = [cgroup_id for cgroup_id, until in self._gone_until.items() if until <= now]
        self._cgroups.remove(np.array(over, np.uint64).reshape(-1, 1))
        for cgroup_id in over:
            del self._gone_until[cgroup_id]
