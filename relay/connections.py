"""Connections: rows that tell of one connection as one node saw it, taken together; and searches that the join is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from flows.flow.batch import Batch

Numbers = NDArray[Any]

# Rows of one socket say the same beginning but for what the node's clock was corrected meanwhile. Two connections of one
# tuple do not begin so close together: a port is given again after a minute, or after a reset and a new handshake.
SAME_START_NS = 10_000_000


@dataclass(frozen=True, slots=True)
class Connections:
    """m connections, (m,) each but the last two. Times in ns by the relay's clock.

    row: index of one of its rows among those given; known: whether the beginning is; error: of the node's clock, ns.
    of_row, time: (rows,), number of each row's connection and the row's time.
    """

    opener: NDArray[np.uint64]
    tuple: NDArray[np.uint64]
    at_source: NDArray[np.bool_]
    known: NDArray[np.bool_]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    error: NDArray[np.int64]
    row: NDArray[np.int64]
    of_row: NDArray[np.int64]
    time: NDArray[np.int64]


def connections_of(batch: Batch, rows: Numbers, offset_ns: Numbers, error_ns: Numbers, unknown_ns: int) -> Connections:
    """The connections of the given rows of a batch. unknown_ns: how long one has lived whose beginning is not known."""
    node, tuples, opener = batch.node[rows], batch.tuple[rows], batch.opener[rows]
    at_source, known = batch.at_source[rows] != 0, batch.start_ns[rows] != 0
    time = batch.time_ns[rows] - offset_ns[node]
    start = np.minimum(np.where(known, batch.start_ns[rows] - offset_ns[node], time - unknown_ns), time)
    word = node.astype(np.uint64) << np.uint64(2) | at_source.astype(np.uint64) << np.uint64(1) | known.astype(np.uint64)
    order = np.lexsort((start, word, opener, tuples))
    apart = np.diff(start[order]) > SAME_START_NS
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = apart & known[order][1:]
    for column in (word, opener, tuples):
        fresh[1:] |= column[order][1:] != column[order][:-1]
    first = np.flatnonzero(fresh)
    of_row = np.empty(len(order), np.int64)
    of_row[order] = np.cumsum(fresh) - 1
    row = order[first]
    end = np.maximum.reduceat(time[order], first)
    return Connections(
        opener[row], tuples[row], at_source[row], known[row], start[row], end, error_ns[node[row]], row, of_row, time
    )


def neighbours(keys: Numbers, values: Numbers, other_keys: Numbers, other_values: Numbers) -> tuple[Numbers, Numbers]:
    """Of the others with the same key: the index of the last whose value is up to ours, and of the first above; or -1.

    keys, values: (n,), other_keys, other_values: (m,), of any dtypes that compare. Returns (n,) int64 twice.
    """
    count = len(keys)
    key, value = np.concatenate((keys, other_keys)), np.concatenate((values, other_values))
    ours = np.arange(len(key)) < count
    order = np.lexsort((ours, value, key))
    index = np.where(ours[order], -1, order)
    place = np.arange(len(order))
    before = np.maximum.accumulate(np.where(index >= 0, place, -1))
    after = np.minimum.accumulate(np.where(index >= 0, place, len(order))[::-1])[::-1]
    own = ours[order]
    result = []
    for beside in (before[own], after[own]):
        there = np.clip(beside, 0, len(order) - 1)
        good = (beside >= 0) & (beside < len(order))
        good &= key[order[there]] == key[order][own]
        column = np.full(count, -1)
        column[order[own]] = np.where(good, order[there] - count, -1)
        result.append(column)
    return result[0], result[1]


def nearest_rows(connections: Connections, other: Numbers) -> Numbers:
    """For each row the row of its connection's other one (other: (m,) or -1) whose time is nearest; -1 where there is none."""
    wanted = other[connections.of_row]
    asking = np.flatnonzero(wanted >= 0)
    time = connections.time
    result = np.full(len(time), -1)
    before, after = neighbours(wanted[asking], time[asking], connections.of_row, time)
    lag = np.where(before >= 0, time[asking] - time[before], np.iinfo(np.int64).max)
    lead = np.where(after >= 0, time[after] - time[asking], np.iinfo(np.int64).max)
    result[asking] = np.where(lag <= lead, before, after)
    return result
