"""Both ends of a connection within one node: the flow that the other socket's side gave, found in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.flow.tuples import tuple_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

ENDS = ("local_addr", "local_port", "remote_addr", "remote_port")
SWAPPED = ("remote_addr", "remote_port", "local_addr", "local_port")
LOOPBACK_IPV4 = 127
# The columns that are looked at.
COLUMNS = (*ENDS, "protocol", "netns")


def keys(columns: Mapping[str, NDArray[Any]], ends: tuple[str, str, str, str]) -> NDArray[np.uint64]:
    """A hash (n,) of protocol and both ends, in the order of ends."""
    first, second = (columns[ends[0]], columns[ends[1]]), (columns[ends[2]], columns[ends[3]])
    return tuple_keys(columns["protocol"], first, second)


def _is_loopback(addresses: NDArray[np.uint8]) -> NDArray[np.bool_]:
    mapped = (addresses[:, 10:12] == 255).all(axis=1)
    ipv6 = (addresses[:, :15] == 0).all(axis=1) & (addresses[:, 15] == 1)
    result: NDArray[np.bool_] = ipv6 | mapped & (addresses[:, 12] == LOOPBACK_IPV4)
    return result


def find(stored: Mapping[str, NDArray[Any]], rows: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """For each row (n,), the index of the newest stored flow that its other end's socket gave; -1 where there is none.

    stored: COLUMNS of flows in the order they came. Loopback addresses are of one network namespace each, so both must be
    known and the same.
    """
    if not len(rows["protocol"]) or not len(stored["protocol"]):
        return np.full(len(rows["protocol"]), -1)
    wanted, codes = np.unique(keys(rows, SWAPPED), return_inverse=True)
    hashes = keys(stored, ENDS)
    at = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
    hits = np.flatnonzero(wanted[at] == hashes)
    newest = np.full(len(wanted), -1)
    newest[at[hits]] = hits  # of equal indices the last one counts
    found = newest[codes]
    good = (found >= 0) & (stored["protocol"][found] == rows["protocol"])
    for ours, theirs in zip(SWAPPED, ENDS, strict=True):
        equal = stored[theirs][found] == rows[ours]
        good &= equal if equal.ndim == 1 else equal.all(axis=1)
    same_namespace = (rows["netns"] != 0) & (stored["netns"][found] == rows["netns"])
    good &= same_namespace | ~_is_loopback(rows["remote_addr"])
    return np.where(good, found, -1)
