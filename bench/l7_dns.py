"""DNS: what a payload record costs in user space, from the ring's records to stored, paired and linked requests."""

from __future__ import annotations

import time
from struct import pack
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.figures import Measured
from flows.agent.l7.dns import Dns
from flows.agent.probe.payload import SHORT_PAYLOAD, PayloadKind
from flows.agent.store.requests import RequestStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

REQUESTS: Final = 32_768  # the default of the store
PAIRS: Final = 2_048  # a batch of 4,096 records
SMALL: Final = 200  # what 50 ms bring at 2,000 queries/s, both ends
ROUNDS: Final = 60
WARM: Final = 10  # rounds until the store's memory is there
PODS, NAMES, NAMESPACES = 110, 500, 40
MS: Final = 1_000_000
UDP: Final = 17
LOST: Final = 0.01  # of the queries are not answered
ADDRESS: Final = bytes([10, 96, 1, 2])


class BatchError(Exception):
    """Records were not paired as they are made: what was timed is not the work."""


def measure() -> Iterator[Measured]:
    """Large batches, then those of the rate that the issue names; ns per record, CPU time."""
    yield Measured("l7_dns", _times(PAIRS), f"batches of {2 * PAIRS:,}, {NAMES} names, {LOST:.0%} of the queries lost")
    yield Measured("l7_dns_small", _times(SMALL), f"batches of {2 * SMALL}: 2,000 queries/s, both ends")


def batch(pairs: int, seed: int = 1) -> NDArray[np.void]:
    """Queries and answers of 50 ms, in time order; an answer comes 1 ms after its query."""
    random = np.random.default_rng(seed)
    records = np.zeros(2 * pairs, SHORT_PAYLOAD)
    for at in range(pairs):
        name = f"svc-{random.integers(NAMES)}.ns-{random.integers(NAMESPACES)}.svc.cluster.local"
        number = int(random.integers(1 << 16))
        _fill(records[2 * at : 2 * at + 1], _message(name, number, answer=False))
        _fill(records[2 * at + 1 : 2 * at + 2], _message(name, number, answer=True))
    both = np.repeat(np.arange(pairs), 2)
    records["conn_id"] = random.integers(1, 1 << 40, pairs)[both]
    records["cgroup_id"] = both % PODS
    records["sent"] = np.tile([1, 0], pairs)
    records["time_ns"] = np.linspace(0, 49 * MS, pairs).astype(np.uint64)[both] + np.tile([0, MS], pairs).astype(np.uint64)
    records["remote_port"], records["protocol"], records["kind"] = 53, UDP, PayloadKind.DNS
    records["remote_addr"][:, 12:] = 10, 96, 0, 10
    kept = np.ones(2 * pairs, bool)
    kept[1 :: 2 * round(1 / LOST)] = False
    return records[kept][np.argsort(records["time_ns"][kept], kind="stable")]


def _message(name: str, number: int, *, answer: bool) -> bytes:
    """RFC 1035: a query for A with EDNS, or its answer with one record."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\0" + pack(">HH", 1, 1)
    edns = b"\0" + pack(">HHIH", 41, 1232, 0, 0)
    record = b"\xc0\x0c" + pack(">HHIH", 1, 1, 30, 4) + ADDRESS if answer else b""
    return pack(">6H", number, 0x8580 if answer else 0x0100, 1, int(answer), 0, 1) + question + record + edns


def _fill(record: NDArray[np.void], message: bytes) -> None:
    record["text"][0, : len(message)] = np.frombuffer(message, np.uint8)
    record["length"] = record["captured"] = len(message)


def _times(pairs: int) -> list[float]:
    """ns per record of each batch; connections are new ones in each, and time goes on by 50 ms."""
    station, records = Dns(RequestStore(REQUESTS)), batch(pairs)
    start = records["time_ns"].copy() + np.uint64(time.monotonic_ns())
    times = []
    for turn in range(ROUNDS):
        records["conn_id"] += np.uint64(1)
        records["time_ns"] = start + np.uint64(turn * 50 * MS)
        times.append(_batch_ns(station, records, int(records["time_ns"][-1])) / len(records))
    if any(station.counts().values()):
        raise BatchError(f"DNS records were not paired: {station.counts()}")
    return times[WARM:]


def _batch_ns(station: Dns, records: NDArray[np.void], now_ns: int) -> int:
    start = time.thread_time_ns()
    station.take(records, 0)
    station.expire(now_ns, 0)
    return time.thread_time_ns() - start
