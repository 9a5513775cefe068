"""Sockets: what is known of a connection that its requests' first bytes do not tell, and what they told of it, by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flows.agent.l7.http1_rows import pick
from flows.agent.l7.masks import all_of, any_of, number
from flows.agent.probe.record import RECORD, Initiator
from flows.agent.store.public_names import NameSource, source_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# 4 MB. What is active is told again every 5 s; a slot that another connection takes costs a process' name, not a flow.
SLOTS_LOG2: Final = 16
_TO_SLOT: Final = number(64 - SLOTS_LOG2, np.uint64)
_ODD: Final = number(
    0x9E3779B97F4A7C15, np.uint64
)  # of SplitMix64: spreads ids that count up, and those of exchanges, which are times

# Columns of a connection's records that its requests have, too.
TAKEN: Final = ("start_ns", "netns", "pid", "comm", "initiator")
# Aligned: NumPy copies columns that are not before it looks at them.
SLOT: Final = np.dtype(
    [("conn_id", "<u8"), *((name, RECORD[name]) for name in TAKEN), ("spoken", "u1"), ("name", "<u4")], align=True
)


class Sockets:
    """A direct-mapped table: a newer connection takes the slot of an older one. For the ring's reader only."""

    def __init__(self) -> None:
        self._slots = np.zeros(1 << SLOTS_LOG2, SLOT)

    def _at(self, connections: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Slot of each connection (n,)."""
        at: NDArray[np.int64] = ((connections * _ODD) >> _TO_SLOT).view(np.int64)
        return at

    def learn(self, records: NDArray[np.void]) -> NDArray[np.bool_]:
        """Records (n,) RECORD of connections, in order. Tells which are of those that had none before, bool (n,)."""
        at = self._at(records["conn_id"])
        other = self._slots["conn_id"][at] != records["conn_id"]
        new: NDArray[np.bool_] = other | (self._slots["initiator"][at] == Initiator.UNKNOWN)  # or its first bytes came before
        self._begin(at[other], records["conn_id"][other])
        for name in ("conn_id", *TAKEN):  # of connections that share a slot the last one has all of it
            self._slots[name][at] = records[name]
        return new

    def _begin(self, at: NDArray[np.int64], connections: NDArray[np.uint64]) -> None:
        self._slots[at] = np.zeros((), SLOT)
        self._slots["conn_id"][at] = connections

    def complete(self, columns: dict[str, NDArray[Any]]) -> None:
        """Add, or fill in in place, what columns (n,) of RECORD made of requests lack: process, network namespace, beginning."""
        slots = pick(self._slots, self._at(columns["conn_id"]))
        known = slots["conn_id"] == columns["conn_id"]
        columns["start_ns"] = slots["start_ns"] * known
        lacking = known & (columns["pid"] == 0)
        for name, which in (("netns", known), ("pid", lacking), ("comm", lacking)):
            if all_of(which):
                columns[name] = slots[name]
            elif any_of(which):
                columns[name][which] = slots[name][which]

    def may_be_news(self, connections: NDArray[np.uint64], spoken: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Where speak() could change anything, bool (n,): all of those whose slot is not already as they say."""
        at = self._at(connections)
        slots = pick(self._slots, at)
        other: NDArray[np.bool_] = (slots["conn_id"] != connections) | (slots["spoken"] != spoken)
        if any_of(other):
            changing = np.zeros(len(self._slots), bool)
            changing[at[other]] = True
            other = changing[at]
        return other

    def speak(self, connections: NDArray[np.uint64], spoken: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """What is spoken on connections (n,), flows.v1.Spoken. Tells where that is news, bool (n,)."""
        at = self._at(connections)
        other = self._slots["conn_id"][at] != connections
        self._begin(at[other], connections[other])
        news: NDArray[np.bool_] = self._slots["spoken"][at] != spoken
        self._slots["conn_id"][at], self._slots["spoken"][at] = connections, spoken  # of those that share a slot the last
        return news

    def lack(self, connections: NDArray[np.uint64], source: NameSource) -> NDArray[np.bool_]:
        """Which connections (n,) have no name yet, or one from a worse source; bool (n,)."""
        at = self._at(connections)
        slots = pick(self._slots, at)
        before = slots["name"] * (slots["conn_id"] == connections)
        lacking: NDArray[np.bool_] = (before == 0) | (source_of(before) > source)
        return lacking

    def name(self, connections: NDArray[np.uint64], details: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Name the far ends of connections (n,); details as in names.py, 0: none. A better source replaces a worse one.

        Tells where a name is news, bool (n,).
        """
        at = self._at(connections)
        here = (self._slots["conn_id"][at] == connections) & (details != 0)
        before = self._slots["name"][at]
        better: NDArray[np.bool_] = here & ((before == 0) | (source_of(details) < source_of(before)))
        self._slots["name"][at[better]] = details[better]
        return better

    def spoken_and_names(self, connections: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """What is spoken (n,), and the names' details (n,); 0 where unknown."""
        at = self._at(connections)
        known = self._slots["conn_id"][at] == connections
        zero: Any = 0
        spoken = np.where(known, self._slots["spoken"][at], zero).astype(np.uint8)
        return spoken, np.where(known, self._slots["name"][at], zero).astype(np.uint32)

    def names_in_use(self) -> NDArray[np.uint32]:
        """Details of all names that are kept here."""
        return self._slots["name"].copy()
