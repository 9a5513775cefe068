"""Pairing: requests that wait for their answers, met by place in the stream of bytes and never by mere order.

A request acknowledges all that its server has sent, so its answer begins exactly there: the answer's sequence number is what the
request acknowledged (RFC 9293). Requests sent before the answer to an earlier one share that number: which is which cannot be
said, so neither is paired.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from flows.agent.l7.http1_connections import after, key
from flows.agent.l7.http1_rows import join, pick, put

if TYPE_CHECKING:
    from numpy.typing import NDArray

REMEMBERED_CALLS: Final = 3  # before the present one: with it, two batches of two rings each
MOST_WAITING: Final = 65_536  # twice the requests that are kept by default

# expects: hash of conn_id, link and acknowledged, own: the same with sequence; acknowledged: where the answer begins; number: of
# its row; calls: how many calls ago it came.
REQUEST: Final = np.dtype(
    [
        ("expects", "u8"), ("own", "u8"), ("conn_id", "u8"), ("time_ns", "u8"), ("number", "i8"), ("sequence", "u4"),
        ("acknowledged", "u4"), ("flags", "u2"), ("link", "u1"), ("method", "u1"), ("given_up", "?"), ("calls", "u1"),
    ]
)  # fmt: skip


class Met(NamedTuple):
    """Requests with their answers, k of each. doubtful: requests whose answer was sent before its sender had them.

    About all n answers, bool (n,): repeated: another one to the same request; left: what met nothing.
    """

    requests: NDArray[np.void]
    answers: NDArray[np.void]
    repeated: NDArray[np.bool_]
    left: NDArray[np.bool_]
    doubtful: NDArray[np.void]


def search(sorted_keys: NDArray[np.uint64], keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each key (n,) is, and whether it is."""
    if not sorted_keys.size:
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return at, sorted_keys[at] == keys


class Waiting:
    """Requests without an answer, by what they expect; those that were given up, too, since an answer may still come."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        """most: of which the oldest make room for new ones."""
        self.requests = np.zeros(0, REQUEST)
        self.dropped = 0
        self._most = most

    def __len__(self) -> int:
        return len(self.requests)

    def add(self, requests: NDArray[np.void]) -> NDArray[np.void]:
        """Wait for the answers of new requests. Returns those, old and new, that expect the same one: they wait no more."""
        both = join(self.requests, requests)
        both = pick(both, np.argsort(both["expects"], kind="stable"))
        same = both["expects"][1:] == both["expects"][:-1]
        shared = np.zeros(len(both), bool)
        shared[1:] |= same
        shared[:-1] |= same
        self.requests = pick(both, ~shared) if same.any() else both
        self._make_room()
        return pick(both, shared)

    def others(self, requests: NDArray[np.void]) -> NDArray[np.bool_]:
        """Where another request already expects the same answer; bool (n,)."""
        at, found = search(self.requests["expects"], requests["expects"])
        if not found.any():
            return found
        mask: NDArray[np.bool_] = found & (self.requests["own"][at] != requests["own"])
        return mask

    def move(self, interim: NDArray[np.void]) -> NDArray[np.bool_]:
        """Answers (n,) that do not complete: the final one begins after them. Returns which had a request; bool (n,)."""
        at, found = self._find(interim)
        at, first = np.unique(at[found], return_index=True)
        moved, by = pick(self.requests, at), pick(interim, found.nonzero()[0][first])
        size = np.where(by["head"] >= 0, by["head"], by["length"]).astype(np.uint32)
        moved["acknowledged"] = by["sequence"] + size
        moved["expects"] = key(moved["conn_id"], moved["link"], moved["acknowledged"])
        put(self.requests, at, moved)
        self.requests = pick(self.requests, np.argsort(self.requests["expects"], kind="stable"))
        return found

    def meet(self, answers: NDArray[np.void]) -> Met:
        """Final answers (n,): of several to one request the first counts."""
        at, found = self._find(answers)
        chosen, first = np.unique(at[found], return_index=True)
        order = np.argsort(first)  # as they came
        chosen, met = chosen[order], found.nonzero()[0][first[order]]
        requests = pick(self.requests, chosen)
        repeated = found.copy()
        repeated[met] = False
        known = after(answers["acknowledged"][met], requests["sequence"])
        keep = np.ones(len(self.requests), bool)
        keep[chosen] = False
        self.requests = pick(self.requests, keep)
        left = ~found
        left[met[~known]] = True
        return Met(pick(requests, known), pick(answers, met[known]), repeated, left, pick(requests, ~known))

    def of_connections(self, rows: NDArray[np.void]) -> NDArray[np.bool_]:
        """Which wait on a connection of these rows; bool (n,)."""
        ours, theirs = (key(some["conn_id"], some["link"], np.zeros(len(some), np.uint32)) for some in (self.requests, rows))
        return np.isin(ours, theirs)

    def take(self, which: NDArray[np.bool_]) -> NDArray[np.void]:
        """Remove and return some; bool (n,)."""
        taken = pick(self.requests, which)
        self.requests = pick(self.requests, ~which)
        return taken

    def _find(self, answers: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        at, found = search(self.requests["expects"], key(answers["conn_id"], answers["link"], answers["sequence"]))
        if found.any():
            for name, other in (("conn_id", "conn_id"), ("link", "link"), ("acknowledged", "sequence")):
                found &= self.requests[name][at] == answers[other]
        return at, found

    def _make_room(self) -> None:
        excess = len(self.requests) - self._most
        if excess > 0:
            oldest = np.argpartition(self.requests["time_ns"], excess)[:excess]
            keep = np.ones(len(self.requests), bool)
            keep[oldest] = False
            self.requests = pick(self.requests, keep)
            self.dropped += excess


class Recent:
    """Requests of this call and those just before, by their own place in the stream.

    Two rings are read one after the other, so a call may bring what is older than what the call before it brought.
    """

    def __init__(self) -> None:
        self.requests = np.zeros(0, REQUEST)

    def add(self, requests: NDArray[np.void]) -> NDArray[np.bool_]:
        """Keep new ones. Returns which of them were not here; of equal ones the first; bool (n,)."""
        before = len(self.requests)
        both = join(self.requests, requests)
        order = np.argsort(both["own"], kind="stable")
        own = both["own"][order]
        again = np.zeros(len(both), bool)
        again[order[1:]] = own[1:] == own[:-1]
        self.requests = pick(both, order[~again[order]])
        return ~again[before:]

    def following(self, answers: NDArray[np.void]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """What was acknowledged by the request right after the one that each answer (n,) is for, and whether it was seen."""
        at, found = search(self.requests["own"], key(answers["conn_id"], answers["link"], answers["acknowledged"]))
        if not found.any():
            return answers["sequence"], found
        acknowledged: NDArray[np.uint32] = self.requests["acknowledged"][at]
        return acknowledged, found & after(acknowledged, answers["sequence"])

    def age(self) -> NDArray[np.void]:
        """Begin a call. Returns what is forgotten, by time."""
        self.requests["calls"] += 1
        old = self.requests["calls"] > REMEMBERED_CALLS
        gone = pick(self.requests, old)
        self.requests = pick(self.requests, ~old)
        return pick(gone, np.argsort(gone["time_ns"], kind="stable"))
