"""Extents: from where to where requests and answers reach whose Content-Length is known. What lies in one is its body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.http1_rows import pick
from flows.agent.l7.masks import number

if TYPE_CHECKING:
    from numpy.typing import NDArray

# place: of the connection in Connections; size: bytes from `sequence` on, 0: not known. Rows of any dtype that has these will do.
EXTENT: Final = np.dtype([("conn_id", "u8"), ("place", "u4"), ("sequence", "u4"), ("size", "u4"), ("link", "u1")], align=True)
LONGEST: Final = (1 << 31) - 1  # as far as sequence numbers can be compared; also of what is longer
_HALF, _ONE = number(1 << 31, np.uint32), number(1, np.uint32)
_NONE, _LONGEST = number(0, np.int64), number(LONGEST, np.int64)


def bounded(sizes: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Sizes (n,) as extents have them; what is negative is not known."""
    within: NDArray[np.int64] = np.minimum(np.maximum(sizes, _NONE), _LONGEST)
    return within.astype(np.uint32)


def extents_of(
    rows: NDArray[np.void], places: NDArray[np.uint32] | NDArray[np.int64], sizes: NDArray[np.int64] | int = 0
) -> NDArray[np.void]:
    """EXTENT (n,) of rows that have conn_id, link and sequence."""
    extents = np.zeros(len(rows), EXTENT)
    for name in ("conn_id", "link", "sequence"):
        extents[name] = rows[name]
    extents["place"], extents["size"] = places, bounded(np.broadcast_to(np.asarray(sizes, np.int64), len(rows)))
    return extents


def is_inside(sequence: NDArray[np.uint32], begin: NDArray[np.uint32], size: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which sequence numbers (n,) are within extents (n,), but not where they begin."""
    distance = sequence - begin
    distance -= _ONE
    mask: NDArray[np.bool_] = distance < np.maximum(size, _ONE) - _ONE
    return mask


def find(rows: NDArray[np.void], extents: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which rows are within one of extents that do not overlap, and within which: both (k,)."""
    nowhere = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if not len(extents) or not len(rows):
        return nowhere
    keys, order, places, origins = _sorted(extents)
    group = np.minimum(np.searchsorted(places, rows["place"]), len(places) - 1)
    here = (places[group] == rows["place"]).nonzero()[0]
    at = np.searchsorted(keys, _keys(group[here], rows["sequence"][here] - origins[group[here]])) - 1
    here, at = here[at >= 0], order[at[at >= 0]]
    ours, theirs = pick(rows, here), pick(extents, at)
    same = (ours["conn_id"] == theirs["conn_id"]) & (ours["link"] == theirs["link"])
    same &= is_inside(ours["sequence"], theirs["sequence"], theirs["size"])
    return here[same], at[same]


def inside(rows: NDArray[np.void], extents: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which rows (n,) are within one of extents that do not overlap; bool (n,)."""
    mask = np.zeros(len(rows), bool)
    mask[find(rows, extents)[0]] = True
    return mask


def outermost(extents: NDArray[np.void]) -> NDArray[np.void]:
    """Those (n,) that are in no other one, in order: what is in a body says nothing of the connection."""
    if len(extents) < 2:
        return extents
    _, order, _, _ = _sorted(extents)
    extents = pick(extents, order)
    over = _overlapped(extents)
    if not over.any():
        return extents
    keep = ~np.isin(extents["place"], extents["place"][1:][over])
    outer: dict[tuple[int, int], tuple[int, int]] = {}
    for at in (~keep).nonzero()[0].tolist():
        one = extents[at]
        connection, begin = (int(one["conn_id"]), int(one["link"])), int(one["sequence"])
        start, size = outer.get(connection, (begin, 0))
        if (begin - start) % (1 << 32) >= size:
            keep[at] = True
            outer[connection] = begin, int(one["size"])
    return pick(extents, keep)


def _overlapped(extents: NDArray[np.void]) -> NDArray[np.bool_]:
    distance = extents["sequence"][1:] - extents["sequence"][:-1]
    mask: NDArray[np.bool_] = (extents["place"][1:] == extents["place"][:-1]) & (distance < extents["size"][:-1])
    return mask


def _sorted(
    extents: NDArray[np.void],
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32]]:
    """Keys in order, and the order; places in order, and what sequence numbers are counted from at each: they wrap around."""
    places, first, group = np.unique(extents["place"], return_index=True, return_inverse=True)
    origins = extents["sequence"][first] - _HALF
    keys = _keys(group, extents["sequence"] - origins[group])
    order = np.argsort(keys, kind="stable")
    return keys[order], order, places, origins


def _keys(group: NDArray[np.int64], distance: NDArray[np.uint32]) -> NDArray[np.uint64]:
    return group.astype(np.uint64) << np.uint64(32) | distance
