"""Made-up records of a node of a large cluster: 10,000 pods known, 110 of them here, and their batches."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.enrich.enricher import Enricher
from flows.agent.enrich.kube_records import Owner, PodRecord
from flows.agent.enrich.kube_source import SourceStatus
from flows.agent.probe.record import RECORD, Counter, Event, Initiator
from flows.agent.probe.ring import slots, take
from flows.kube.resource import Changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from flows.agent.enrich.kube_records import Record
    from flows.kube.resource import Relisted

PODS: Final = 10_000
LOCAL_PODS: Final = 110  # the kubelet's default limit
NAMESPACES: Final = 50
WORKLOADS: Final = 500
NODE_ADDRESS: Final = "192.168.0.1"
MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
TCP, UDP = 6, 17
# What a node's remote ends are: the rest are pods of the cluster.
HOST_PART, WORLD_PART, LOOPBACK_PART = 0.10, 0.10, 0.05
# What records say, with how often: each short connection gives both, a few go wrong, some last.
EVENTS: Final = {
    Event.ESTABLISHED: 0.45,
    Event.CLOSED: 0.42,
    Event.ACTIVE: 0.08,
    Event.RESET: 0.02,
    Event.REFUSED: 0.02,
    Event.UNANSWERED: 0.01,
}
PEERS: Final = 10  # pods that one pod talks to: 1,100 are met by the 110 of a node
PORTS: Final = (80, 443, 8080, 5432, 6379, 9090, 53)
PROCESSES: Final = (b"nginx", b"java", b"python3", b"envoy", b"postgres", b"redis-server", b"node", b"coredns")


def pod_address(number: int) -> bytes:
    """Address of pod `number`, 16 bytes."""
    return MAPPED + bytes([10, 244, number >> 8, number & 255])


def pod_uid(number: int) -> str:
    """Its uid."""
    return f"00000000-0000-4000-8000-{number:012x}"


def pod_record(number: int) -> PodRecord:
    """What is known of it."""
    workload = f"app-{number % WORKLOADS}"
    return PodRecord(
        uid=pod_uid(number),
        namespace=f"ns-{number % NAMESPACES}",
        name=f"{workload}-{number}",
        labels=(("app", workload), ("version", "v1")),
        service_account="default",
        node=f"node-{number % 90}",
        host_network=False,
        addresses=(pod_address(number),),
        owner=Owner("StatefulSet", workload, pod_uid(1 << 32 | number % WORKLOADS)),
        config_hash="",
        started_ns=0,
        containers=(),
    )


class KnownPods:
    """A source that knows all pods at once and nothing else, ever."""

    def start(self, sink: Callable[[Changes[Record] | Relisted], None]) -> None:
        """Hand over all pods."""
        sink(Changes("pods", tuple(map(pod_record, range(PODS)))))

    def stop(self) -> None:
        """There is nothing to end."""

    def status(self) -> SourceStatus:
        """Always in sync."""
        return SourceStatus(in_sync=True, since=0.0, errors={})


async def _start(enricher: Enricher) -> None:
    """Let the enricher take up its source, once."""
    running = asyncio.create_task(enricher.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def knowing(cgroup_root: Path) -> Enricher:
    """An enricher over a cgroup tree that knows all pods. To be closed."""
    enricher = Enricher(cgroup_root, "node-0", node_addresses=[NODE_ADDRESS], source=KnownPods())
    asyncio.run(_start(enricher))
    enricher.apply_changes()
    return enricher


@contextlib.contextmanager
def cluster() -> Iterator[tuple[Enricher, NDArray[np.uint64]]]:
    """An enricher that knows all pods, with a tree of folders as the cgroups of those here; and their ids (110,)."""
    with tempfile.TemporaryDirectory() as name:
        paths = [_cgroup(Path(name), number) for number in range(LOCAL_PODS)]
        for path in paths:
            path.mkdir(parents=True)
        enricher = knowing(Path(name))
        try:
            yield enricher, np.array([path.stat().st_ino for path in paths], np.uint64)
        finally:
            enricher.close()


def _cgroup(root: Path, number: int) -> Path:
    uid = pod_uid(number).replace("-", "_")
    return root / f"kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{number:064x}.scope"


def batch(count: int, cgroups: NDArray[np.uint64], seed: int, peers: int = PEERS) -> NDArray[np.void]:
    """Records (count,) of connections of the local pods, each with so many pods, in time order, the last one now."""
    random = np.random.default_rng(seed)
    records = np.zeros(count, RECORD)
    local = random.integers(0, LOCAL_PODS, count)
    addresses = np.frombuffer(b"".join(map(pod_address, range(PODS))), np.uint8).reshape(-1, 16)
    records["cgroup_id"], records["local_addr"] = cgroups[local], addresses[local]
    records["remote_addr"] = _remote(random, addresses[_peers(random, local, peers)])
    _fill_times(records)
    _fill_counters(records, random)
    _fill_kinds(records, random)
    return records


def _peers(random: np.random.Generator, local: NDArray[np.int64], peers: int) -> NDArray[np.int64]:
    """Which pod is at the other end of each: one of the local pod's own `peers`, which are no other pod's."""
    chosen: NDArray[np.int64] = (local * peers + random.integers(0, peers, len(local))) % PODS
    return chosen


def _remote(random: np.random.Generator, addresses: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put hosts, the world and loopback in place of some pods."""
    part = random.random(len(addresses))
    host, world = part < HOST_PART, (part >= HOST_PART) & (part < HOST_PART + WORLD_PART)
    loopback = part > 1 - LOOPBACK_PART
    addresses[host, 12:] = (192, 168, 0, 1)
    addresses[world, 12:] = random.integers(11, 126, (int(world.sum()), 4))
    addresses[loopback, 12:] = (127, 0, 0, 1)
    return addresses


def _fill_times(records: NDArray[np.void]) -> None:
    """50 ms of records until now, the reader's interval, of connections that began 2 ms before."""
    records["time_ns"] = time.monotonic_ns() - np.linspace(50e6, 0, len(records)).astype(np.uint64)
    records["start_ns"] = records["time_ns"] - np.uint64(2_000_000)


def _fill_counters(records: NDArray[np.void], random: np.random.Generator) -> None:
    for name, limit in (("sent_bytes", 1 << 20), ("received_bytes", 1 << 20), ("sent_packets", 1 << 10),
                        ("received_packets", 1 << 10), ("rtt_us", 5_000), ("handshake_us", 5_000), ("pid", 1 << 22),
                        ("conn_id", 1 << 62)):  # fmt: skip
        records[name] = random.integers(0, limit, len(records))


def _fill_kinds(records: NDArray[np.void], random: np.random.Generator) -> None:
    count = len(records)
    inbound = random.random(count) < 0.5
    ephemeral, served = random.integers(32768, 60999, count), random.choice(PORTS, count)
    records["initiator"] = np.where(inbound, Initiator.REMOTE, Initiator.LOCAL)
    records["local_port"] = np.where(inbound, served, ephemeral)
    records["remote_port"] = np.where(inbound, ephemeral, served)
    records["protocol"] = np.where(served == 53, UDP, TCP)
    records["event"] = random.choice(list(EVENTS), count, p=list(EVENTS.values()))
    records["flags_sent"] = np.where(records["event"] == Event.CLOSED, 0x1B, 0x1A)
    records["flags_received"] = records["flags_sent"]
    records["netns"] = 4_026_531_840 + random.integers(0, LOCAL_PODS, count)
    records["comm"] = random.choice(np.array(PROCESSES, "S16"), count)


class Replay:
    """Stands where the probe stands for the reader: slots as in the ring, taken with the ring's own code."""

    def __init__(self, batches: list[NDArray[np.void]]) -> None:
        """batches: what each peek() gives, over and over."""
        self._regions = [_region(records) for records in batches]
        self._reads = 0

    def wait(self, _seconds: float) -> None:
        """Records always wait."""

    def peek(self) -> NDArray[np.void]:
        """The next batch."""
        self._reads += 1
        return take(self._regions[self._reads % len(self._regions)])[0]

    @property
    def filled(self) -> float:
        """Nothing is ever full."""
        return 0.0

    @property
    def handed_over(self) -> int:
        """There is never too much."""
        return 0

    @property
    def complete(self) -> bool:
        """Nothing is being written."""
        return True

    def note(self, instance: int, written: int, told: Mapping[Counter, int]) -> None:
        """There is no next agent."""

    def peek_payloads(self) -> tuple[NDArray[np.void], ...]:
        """Connections only."""
        return ()

    def sample(self, share: float) -> None:
        """There are no requests."""

    def release(self) -> None:
        """Nothing to free."""

    def wake(self) -> None:
        """Nobody sleeps."""

    def sweep(self) -> None:
        """Nothing is quiet."""

    def sweep_connections(self) -> None:
        """Nothing is quiet."""

    def counters(self) -> dict[Counter, int]:
        """Nothing is lost."""
        return dict.fromkeys(Counter, 0)


def _region(records: NDArray[np.void]) -> NDArray[np.void]:
    region = np.zeros(len(records), slots(RECORD))
    region["record"] = records
    return region
