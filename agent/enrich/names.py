"""Names: the numbers, addresses and endpoints that the directory's changes move. Belongs to the ring's
reader.

Only endpoint() and take_late() may be called from other threads.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.enrich import cgroups
from flows.agent.enrich.addresses import REMEMBER_NS, AddressBook, Handover, parse_address
from flows.agent.enrich.cgroups import parse
from flows.agent.enrich.directory import Directory
from flows.agent.enrich.entities import (
    LOOPBACK,
    WORLD,
    CgroupEntity,
    Effect,
    Entity,
    NodeEntity,
    PodEntity,
    ServiceEntity,
)
from flows.agent.enrich.numbering import Numbering
from flows.flow.endpoint import Endpoint, Evidence
from flows.kube.resource import Changes, Relisted

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from numpy.typing import NDArray

    from flows.agent.enrich.kube_records import Record


@dataclass(frozen=True, slots=True)
class LateNames:
    """Names that came after the records that lacked them, to be put in place of what resolve() gave for
    those.

    By address: rows with the address at time since_ns or later become `numbers` if they are no better than
    Evidence.RANGE, or `former` (it had left by then, unheard of). By connection: rows with the conn_id whose remote is
    no better than ADDRESS become `connection_numbers`. addresses: (n, 16) uint8, ordered by time of arrival; since_ns:
    (n,) uint64 CLOCK_MONOTONIC; numbers, former: (n,) uint32, former 0 for nobody; connections: (m,) uint64;
    connection_numbers: (m,) uint32.
    """

    addresses: NDArray[np.uint8]
    since_ns: NDArray[np.uint64]
    numbers: NDArray[np.uint32]
    former: NDArray[np.uint32]
    connections: NDArray[np.uint64]
    connection_numbers: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.numbers) + len(self.connections)


class Names:
    """Entities' numbers and endpoints, and who has which address when.

    own_address: by number, True for cgroups of pods with an address of their own. world, loopback, hosts: the
    numbers of what is always there; hosts without and with an API server on this node.
    """

    def __init__(self, node_name: str, cluster_name: str) -> None:
        self.directory = Directory(node_name, cluster_name)
        self.book = AddressBook()
        self.own_address = np.zeros(1024, bool)
        self.generation = 0
        self._numbering = Numbering()
        self._lock = threading.Lock()
        self._by_connection = np.zeros(1024, np.uint32)
        self._pod_of = np.zeros(1024, np.uint32)
        self._paths_of_pod: dict[str, set[str]] = {}
        self._cache: dict[int, Endpoint] = {}
        self._late: deque[LateNames] = deque()
        self.world, self.loopback = self.number(WORLD), self.number(LOOPBACK)
        self.hosts = [self.number(NodeEntity(node_name, host=True, api_server=api)) for api in (False, True)]
        for text in ("127.0.0.1", "::1"):
            self.book.assign(parse_address(text) or b"", self.loopback, 0, 0)
        self.book.flush()

    @property
    def number_limit(self) -> int:
        """All numbers given out so far are below this."""
        return len(self._numbering)

    def endpoint(self, number: int) -> Endpoint:
        """Give the newest names of a number; an empty Endpoint for 0 and for a number that was freed."""
        cached = self._cache.get(number)
        if cached is not None:
            return cached
        with self._lock:
            entity = self._numbering.entity(number)
            if entity is None:
                return Endpoint()
            endpoint = self._cache[number] = self.directory.describe(entity)
            return endpoint

    def number(self, entity: Entity) -> int:
        """Give an entity's number, a new one if it has none."""
        fresh, limit = not self._numbering.known(entity), len(self._numbering)
        number = self._numbering.number(entity)
        if fresh:
            if number < limit:  # what others remember of it is of whom it stood for before
                self.generation += 1
            self._room_for(number)
            self._by_connection[number] = self._pod_of[number] = 0
            self.own_address[number] = False
            if isinstance(entity, CgroupEntity):
                self._note_cgroup(number, entity.path)
        return number

    def at_other_end(self, numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Numbers of the same cgroups, known by their connection instead of by their own socket's record."""
        mapped = self._by_connection.take(numbers)
        for number in np.unique(numbers[mapped == 0]).tolist():
            entity = self._numbering.entity(number)
            if isinstance(entity, CgroupEntity):
                other = self.number(CgroupEntity(entity.path, Evidence.CONNECTION))
                self._by_connection[number] = other
        return self._by_connection.take(numbers)

    def pods_of(self, numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Numbers of the pods, known by address, that cgroups belong to; 0 for what is no cgroup of a known pod."""
        mapped = self._pod_of.take(numbers)
        for number in np.unique(numbers[mapped == 0]).tolist():
            entity = self._numbering.entity(number)
            pod = self.directory.pod_of_cgroup(entity.path) if isinstance(entity, CgroupEntity) else None
            if pod is not None:
                pod_number = self.number(PodEntity(pod.uid))
                self._pod_of[number] = pod_number
        return self._pod_of.take(numbers)

    def namespace_of(self, path: str) -> str | None:
        """Namespace of the pod that a cgroup belongs to, "" if it is no pod's; None: not known (yet). For any thread."""
        if not parse(path).pod_uid:
            return ""
        with self._lock:
            pod = self.directory.pod_of_cgroup(path)
        return pod.namespace if pod is not None else None

    def change(self, changes: Changes[Record] | Relisted, now: int, wall: int) -> None:
        """Take what the API says. now: CLOCK_MONOTONIC ns, wall: Unix time ns at the same moment."""
        with self._lock:
            if isinstance(changes, Relisted):
                effect = self.directory.relisted(changes)
            else:
                effect = self.directory.apply(changes)
            self._take(effect, now, wall)

    def set_host_addresses(self, addresses: Iterable[bytes], now: int, wall: int) -> None:
        """Set this node's own addresses."""
        with self._lock:
            self._take(self.directory.set_host_addresses(addresses), now, wall)

    def named_late(self, connections: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> None:
        """Note the other ends of connections whose records have gone out without."""
        self._late.append(LateNames(*_NO_ADDRESSES, connections, self.at_other_end(numbers)))

    def take_late(self) -> list[LateNames]:
        """Take the late names since the last call, in order."""
        late: list[LateNames] = []
        while self._late:
            late.append(self._late.popleft())
        return late

    def free(self, in_use: NDArray[np.uint32], alive: Container[str]) -> NDArray[np.uint32]:
        """Free the numbers of what is neither in use (see Numbering.retain) nor there; alive: paths of
        cgroups.
        """
        fixed = self.book.numbers() | {self.world, self.loopback, *self.hosts}

        def keep(number: int, entity: Entity) -> bool:
            if isinstance(entity, CgroupEntity):
                return entity.path in alive
            return number in fixed or self.directory.exists(entity)

        with self._lock:
            freed = self._numbering.retain(in_use, keep)
            numbers = np.array([number for number, _ in freed], np.uint32)
            for table in (self._by_connection, self._pod_of):
                table[np.isin(table, numbers)] = 0
            for number, entity in freed:
                self._cache.pop(number, None)
                self._forget(entity)
        return numbers

    def purge(self, now: int) -> None:
        """Forget who had an address too long ago."""
        self.book.purge(max(0, now - REMEMBER_NS))

    def _take(self, effect: Effect, now: int, wall: int) -> None:
        """Put a change of the directory into effect: addresses change hands, cached names go."""
        fresh: list[tuple[bytes, Handover, int]] = []
        for address, told in effect.addresses.items():
            owner = self.directory.owner(address)
            number = self.number(owner) if owner is not None else 0
            if number != self.book.owner(address):
                since = _since(owner, (told or wall) - (wall - now), now)
                handover = self.book.assign(address, number, since, now)
                if number:
                    fresh.append((address, handover, number))
        self.book.flush()
        if fresh:
            self._late.append(_late_addresses(fresh))
        self._forget_names(effect)

    def _forget_names(self, effect: Effect) -> None:
        if effect.everything:
            self._cache.clear()
        for uid in effect.pods:
            self._cache.pop(self._numbering.known(PodEntity(uid)), None)
            for path in self._paths_of_pod.get(uid, ()):
                for evidence in (Evidence.CGROUP, Evidence.CONNECTION):
                    number = self._numbering.known(CgroupEntity(path, evidence))
                    self._cache.pop(number, None)
                    self._mark_own_address(number, path)
            self._forget_former(uid)
        if effect.everything or effect.pods:
            self.generation += 1

    def _note_cgroup(self, number: int, path: str) -> None:
        if uid := cgroups.parse(path).pod_uid:
            self._paths_of_pod.setdefault(uid, set()).add(path)
        self._mark_own_address(number, path)

    def _mark_own_address(self, number: int, path: str) -> None:
        """Pods with an address of their own are found by it: their sockets need no place among the
        connections.
        """
        pod = self.directory.pod_of_cgroup(path)
        self._pod_of[number] = 0
        self.own_address[number] = number != 0 and pod is not None and not pod.host_network

    def _room_for(self, number: int) -> None:
        if number >= self.own_address.size:
            self.own_address = np.concatenate((self.own_address, np.zeros_like(self.own_address)))
            self._by_connection = np.concatenate((self._by_connection, np.zeros_like(self._by_connection)))
            self._pod_of = np.concatenate((self._pod_of, np.zeros_like(self._pod_of)))

    def _forget(self, entity: Entity) -> None:
        """Let go of what was kept for an entity whose number is free now."""
        if isinstance(entity, PodEntity):
            self._forget_former(entity.uid)
        elif isinstance(entity, CgroupEntity):
            both = (CgroupEntity(entity.path, evidence) for evidence in (Evidence.CGROUP, Evidence.CONNECTION))
            if not any(self._numbering.known(one) for one in both):
                self._forget_path(entity.path)

    def _forget_path(self, path: str) -> None:
        pod = self.directory.pod_of_cgroup(path)
        uid = cgroups.parse(path).pod_uid
        paths = self._paths_of_pod.get(uid, set())
        paths.discard(path)
        if not paths:
            self._paths_of_pod.pop(uid, None)
        if pod is not None:
            self._forget_former(pod.uid)

    def _forget_former(self, uid: str) -> None:
        """Drop a deleted pod's names once no number needs them, or at once if none ever did."""
        former = self.directory.former.get(uid)
        needed = self._numbering.known(PodEntity(uid)) or uid in self._paths_of_pod
        if former is not None and not needed and former.config_hash not in self._paths_of_pod:
            self.directory.forget(uid)


_NO_ADDRESSES: Final = (np.zeros((0, 16), np.uint8), np.zeros(0, np.uint64), np.zeros(0, np.uint32), np.zeros(0, np.uint32))
_NO_CONNECTIONS: Final = (np.zeros(0, np.uint64), np.zeros(0, np.uint32))


def _since(owner: Entity | None, told: int, now: int) -> int:
    """Tell from when on an owner has an address: from when the API says, if that is not ahead of us."""
    if isinstance(owner, PodEntity | ServiceEntity):
        return min(now, max(0, told))
    return now if owner is None else 0


def _late_addresses(fresh: list[tuple[bytes, Handover, int]]) -> LateNames:
    return LateNames(
        np.frombuffer(b"".join(address for address, _, _ in fresh), np.uint8).reshape(-1, 16),
        np.array([handover.since_ns for _, handover, _ in fresh], np.uint64),
        np.array([number for _, _, number in fresh], np.uint32),
        np.array([handover.former for _, handover, _ in fresh], np.uint32),
        *_NO_CONNECTIONS,
    )
