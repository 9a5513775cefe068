"""Queries that wait for an answer, those that were given up, and which were answered a moment ago."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.dns_attempts import ASKED
from flows.agent.l7.dns_table import SortedTable, put
from flows.agent.l7.masks import all_of, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

MS: Final = 1_000_000
# Answers that come so late still find their query.
LATE_NS: Final = 60_000 * MS
CAPACITY: Final = 32_768  # entries; 2,000 queries/s of two ends that are all lost, for the 5 s that each waits, and as much again
WAITING, GIVEN_UP, CLOSED = 0, 1, 2  # CLOSED: answered, and to be taken out
# Slots for what was answered lately. Each has the last one of those that fall into it: 1 s of 20,000 queries/s finds 3 of 4.
RECENT: Final = 65_536
_HALF, _RECENT_MASK = number(32, np.uint64), number(RECENT - 1, np.uint64)

ENTRY: Final = np.dtype([
    ("ask", "<u8"), ("conn_id", "<u8"), ("forget_ns", "<u8"), ("asked", ASKED), ("flags", "<u2"), ("state", "u1"), ("tcp", "u1"),
], align=True)  # fmt: skip


class Pending:
    """The table of them, by pair_keys."""

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self.table = SortedTable(ENTRY)
        self.overflow = 0
        self._recent, self._recent_ns = np.zeros(RECENT, np.uint64), np.zeros(RECENT, np.uint64)

    def insert(self, keys: NDArray[np.uint64], entries: NDArray[np.void]) -> None:
        """Put in what was asked, ENTRY (n,). If there is no room, the oldest goes."""
        self.table.insert(keys, entries)
        excess = len(self.table) - CAPACITY
        if excess <= 0:
            return
        kept = np.ones(len(self.table), bool)
        kept[np.argpartition(self.table.rows["asked"]["time_ns"], excess)[:excess]] = False
        self.overflow += excess
        self.table.keep(kept)

    def change(self, found: NDArray[np.int64], entries: NDArray[np.void]) -> None:
        """What became of the entries at these indices; closed ones go."""
        if not found.size:
            return
        put(self.table.rows, found, entries)
        closed = found[entries["state"] == CLOSED]
        if closed.size:
            kept = np.ones(len(self.table), bool)
            kept[closed] = False
            self.table.keep(kept)

    def remember(self, keys: NDArray[np.uint64], times: NDArray[np.uint64]) -> None:
        """Those that were answered, and when, so that a second answer to them is not taken for an answer to nothing."""
        at = _slots(keys)
        self._recent[at], self._recent_ns[at] = keys, times

    def answered_lately(self, keys: NDArray[np.uint64], times: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of n were answered within LATE_NS before these times, as far as it is remembered; bool (n,)."""
        at = _slots(keys)
        before = self._recent_ns[at]
        known: NDArray[np.bool_] = self._recent[at] == keys
        known &= (before <= times) & (times - before < np.uint64(LATE_NS))
        return known

    def give_up(self, now_ns: int) -> NDArray[np.void]:
        """What has waited for the timeout by now, ENTRY (k,); it is given up from now on."""
        rows = self.table.rows
        if not len(rows):
            return rows
        over = rows["asked"]["time_ns"] + np.uint64(self._timeout_ns) <= np.uint64(now_ns)
        return self._given_up((over & (rows["state"] == WAITING)).nonzero()[0])

    def end(self, connections: NDArray[np.uint64]) -> NDArray[np.void]:
        """What waits on TCP connections that ended, ENTRY (k,); it is given up from now on."""
        rows = self.table.rows
        waiting = ((rows["tcp"] != 0) & (rows["state"] == WAITING)).nonzero()[0]
        return self._given_up(waiting[np.isin(rows["conn_id"][waiting], connections)])

    def forget(self, now_ns: int) -> None:
        """Drop what no answer is expected for any more."""
        rows = self.table.rows
        if not len(rows):
            return
        kept = (rows["state"] == WAITING) | (rows["forget_ns"] > np.uint64(now_ns))
        if not all_of(kept):
            self.table.keep(kept)

    def with_exchange(self, exchange: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First index and end of the entries that share all but the question with each of n; exchange as in pair_keys."""
        half = np.uint64(32)
        low = exchange >> half << half
        high = low | np.uint64((1 << 32) - 1)
        return np.searchsorted(self.table.keys, low, "left"), np.searchsorted(self.table.keys, high, "right")

    def _given_up(self, chosen: NDArray[np.int64]) -> NDArray[np.void]:
        rows = self.table.rows
        rows["state"][chosen] = GIVEN_UP
        rows["forget_ns"][chosen] = rows["asked"]["time_ns"][chosen] + np.uint64(self._timeout_ns + LATE_NS)
        return rows.take(chosen)


def _slots(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each of n was answered lately. By both halves: those of one question to several servers share the lower one."""
    slots: NDArray[np.int64] = ((keys ^ keys >> _HALF) & _RECENT_MASK).view(np.int64)
    return slots
