"""Both ends of a connection within one node: the flow that the other socket's side gave, found in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.store.store import FlowStore, Rows

ENDS = ("local_addr", "local_port", "remote_addr", "remote_port")
SWAPPED = ("remote_addr", "remote_port", "local_addr", "local_port")
# Odd constants of SplitMix64: any odd numbers would do, matches are verified.
MULTIPLIERS = (
    0x9E3779B97F4A7C15,
    0xBF58476D1CE4E5B9,
    0x94D049BB133111EB,
    0xD6E8FEB86659FD93,
    0xA0761D6478BD642F,
)
LOOPBACK_IPV4 = 127
SAME = ("protocol", "netns")


def _halves(addresses: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    halves = np.ascontiguousarray(addresses).view("u8")
    return halves[:, 0], halves[:, 1]


def keys(columns: Rows, ends: tuple[str, str, str, str]) -> NDArray[np.uint64]:
    """A hash (n,) uint64 of protocol and both ends, in the order of ends."""
    first, second = _halves(columns[ends[0]]), _halves(columns[ends[2]])
    ports = columns[ends[1]].astype(np.uint64) << np.uint64(16) | columns[ends[3]].astype(np.uint64)
    words = (*first, *second, ports << np.uint64(8) | columns["protocol"].astype(np.uint64))
    mixed = np.zeros(len(ports), np.uint64)
    for word, multiplier in zip(words, MULTIPLIERS, strict=True):
        mixed = (mixed ^ word) * np.uint64(multiplier)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _is_loopback(addresses: NDArray[np.uint8]) -> NDArray[np.bool_]:
    mapped = (addresses[:, 10:12] == 255).all(axis=1)
    ipv6 = (addresses[:, :15] == 0).all(axis=1) & (addresses[:, 15] == 1)
    result: NDArray[np.bool_] = ipv6 | mapped & (addresses[:, 12] == LOOPBACK_IPV4)
    return result


def find(store: FlowStore, rows: Rows, first: int) -> NDArray[np.int64]:
    """For each row, the number of the newest flow from `first` on that its other end's socket gave; -1 where there is none.

    Loopback addresses are of one network namespace each, so both must be known and the same. The caller holds the lock.
    """
    names = (*ENDS, *SAME)
    stored = {name: store.column(name, first, store.written) for name in names}
    hashes = keys(stored, ENDS)
    order = np.argsort(hashes, kind="stable")
    at = np.searchsorted(hashes, keys(rows, SWAPPED), side="right", sorter=order) - 1
    found = order[at]
    good = (at >= 0) & (stored["protocol"][found] == rows["protocol"])
    for ours, theirs in zip(SWAPPED, ENDS, strict=True):
        equal = stored[theirs][found] == rows[ours]
        good &= equal if equal.ndim == 1 else equal.all(axis=1)
    same_namespace = (rows["netns"] != 0) & (stored["netns"][found] == rows["netns"])
    good &= same_namespace | ~_is_loopback(rows["remote_addr"])  # type: ignore[arg-type]
    return np.where(good, found + first, -1)
