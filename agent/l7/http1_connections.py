"""What is remembered of connections: the last request and the last answer, for as long as no other connection takes the place.

A table of fixed size without chains: what is lost when two connections meet in one place is known repetition and exact sizes of
answers, never a pair. Pairs do not depend on it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flows.agent.l7.http1_rows import pick, put

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLACES: Final = 1 << 17  # 6 MB; of 5,000 connections at a time one in 26 shares its place
_SEEDS: Final = np.array([secrets.randbits(64) | 1 for _ in range(3)], np.uint64)
_PLACE: Final = np.dtype(
    [
        ("conn_id", "u8"), ("link", "u1"),
        ("asked", "?"),  # a request was seen
        ("pipelines", "?"),  # more requests came before an answer, so nothing is paired any more
        ("settled", "?"), ("sequence", "u4"),  # newest request of earlier calls
        ("acknowledged", "u4"),  # of the newest request
        ("answered", "?"), ("answer", "u4"), ("answer_acknowledged", "u4"),  # newest answer that was paired
        ("sized", "?"),  # its size is known
        ("number", "i8"),  # of its request
    ]
)  # fmt: skip


def link(asked_here: NDArray[np.bool_], origin: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tells apart what may share a connection and is numbered by itself: who asks, and where the bytes were read."""
    return asked_here.astype(np.uint8) | (origin << np.uint8(1))


def key(conn_id: NDArray[np.uint64], links: NDArray[np.uint8], sequence: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Hash of a place in a stream of bytes (n,), seeded at random; who finds it compares what it stands for."""
    mixed = conn_id * _SEEDS[0]
    mixed ^= mixed >> np.uint64(29)
    mixed += (sequence.astype(np.uint64) << np.uint64(8) | links) * _SEEDS[1]
    mixed ^= mixed >> np.uint64(32)
    mixed *= _SEEDS[2]
    hashed: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(29))
    return hashed


def after(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which sequence numbers are beyond the others (RFC 9293, section 3.4: modulo 2^32)."""
    mask: NDArray[np.bool_] = (one - other).view(np.int32) > 0
    return mask


class Connections:
    """The table. Rows of requests and answers have conn_id and link."""

    def __init__(self, places: int = PLACES) -> None:
        """places: a power of two."""
        self._table = np.zeros(places, _PLACE)
        self._mask = np.uint64(places - 1)

    def find(self, rows: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Places of rows (n,), and whether what is there is of their connection."""
        links = rows["link"]
        at = (key(rows["conn_id"], links, np.zeros(len(rows), np.uint32)) & self._mask).astype(np.int64)
        return at, (self._table["conn_id"][at] == rows["conn_id"]) & (self._table["link"][at] == links)

    def get(self, at: NDArray[np.int64], name: str) -> NDArray[Any]:
        """One column of places."""
        return self._table[name][at]

    def ask(self, requests: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Requests (n,) were seen: their connections take their places, which are returned as by find()."""
        places, own = self.find(requests)
        if not own.all():
            put(self._table, places[~own], np.zeros(1, _PLACE))
            for name in ("conn_id", "link"):
                self._table[name][places[~own]] = requests[name][~own]
            places, own = self.find(requests)
        at, requests = (places, requests) if own.all() else (places[own], pick(requests, own))
        newer = ~self._table["asked"][at] | after(requests["acknowledged"], self._table["acknowledged"][at])
        self._table["acknowledged"][at[newer]] = requests["acknowledged"][newer]
        self._table["asked"][at] = True
        return places, own

    def settle(self, requests: NDArray[np.void]) -> None:
        """Requests (n,) of earlier calls: what is older on their connections can only be a repetition."""
        at, requests = self._own(requests)
        newer = ~self._table["settled"][at] | after(requests["sequence"], self._table["sequence"][at])
        self._table["sequence"][at[newer]] = requests["sequence"][newer]
        self._table["settled"][at] = True

    def pipeline(self, rows: NDArray[np.void]) -> None:
        """Nothing on these connections can be told apart any more."""
        self._table["pipelines"][self._own(rows)[0]] = True

    def answer(self, answers: NDArray[np.void], requests: NDArray[np.void], sized: NDArray[np.bool_]) -> None:
        """Answers (n,) met requests (n,); sized: whose sizes are known (n,)."""
        at, own = self.find(answers)
        newer = own & (~self._table["answered"][at] | after(answers["sequence"], self._table["answer"][at]))
        at, answers, requests = at[newer], pick(answers, newer), pick(requests, newer)
        for name, values in (
            ("answered", True), ("answer", answers["sequence"]), ("answer_acknowledged", answers["acknowledged"]),
            ("number", requests["number"]), ("sized", sized[newer]),
        ):  # fmt: skip
            self._table[name][at] = values

    def is_past(self, rows: NDArray[np.void], sequence: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Where more than `sequence` (n,) was answered: a later answer was seen, or a request that acknowledges more."""
        at, own = self.find(rows)
        table = self._table
        moved = table["asked"][at] & after(table["acknowledged"][at], sequence)
        mask: NDArray[np.bool_] = own & (moved | (table["answered"][at] & after(table["answer"][at], sequence)))
        return mask

    def _own(self, rows: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.void]]:
        at, own = self.find(rows)
        return (at, rows) if own.all() else (at[own], pick(rows, own))
