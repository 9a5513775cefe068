"""Pairing: requests that wait for their answers, met by place in the stream of bytes and never by mere order.

A request acknowledges all that its server has sent, so its answer begins exactly there: the answer's sequence number is what the
request acknowledged (RFC 9293). Requests sent before the answer to an earlier one share that number: which is which cannot be
said but of the first: the others are not paired, and http1_owed says from when on requests are told apart again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from flows.agent.l7.http1_answers import sizes_of
from flows.agent.l7.http1_connections import PLACES, after, key, keys, link
from flows.agent.l7.http1_extents import bounded, is_inside
from flows.agent.l7.http1_keys import Keys
from flows.agent.l7.http1_rows import copy, join, pick, put
from flows.agent.l7.masks import any_of, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.l7.http1_connections import Connections
    from flows.agent.l7.http1_requests import Heads

MOST_WAITING: Final = 65_536  # twice the requests that are kept by default
_ONE: Final = number(1, np.uint8)

# expects: hash of conn_id, link and acknowledged, own: the same with sequence; acknowledged: where the answer begins; number: of
# its row; place: of its connection; size, begun: see Heads, of the whole packet; passed: later ones were answered, and rightly.
REQUEST: Final = np.dtype(
    [
        ("expects", "u8"), ("own", "u8"), ("conn_id", "u8"), ("time_ns", "u8"), ("number", "i8"), ("sequence", "u4"),
        ("acknowledged", "u4"), ("place", "u4"), ("size", "u4"), ("flags", "u2"), ("link", "u1"), ("method", "u1"),
        ("given_up", "?"), ("begun", "u1"), ("passed", "?"),
    ],
    align=True,
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


def requests_of(payloads: NDArray[np.void], read: Heads, connections: Connections) -> NDArray[np.void]:
    """REQUEST (k,) of those payloads (n,) that were read as requests; their numbers are not known yet."""
    if len(read.row) < len(payloads):
        payloads = pick(payloads, read.row)
    requests = np.zeros(len(payloads), REQUEST)
    conn_id, links = payloads["conn_id"].copy(), link(payloads["sent"] != 0, payloads["origin"], payloads["slice"])
    sequence, acknowledged = payloads["sequence"].copy(), payloads["acknowledged"].copy()
    streams, own, expects = keys(conn_id, links, None, sequence, acknowledged)
    for name, values in (
        ("conn_id", conn_id), ("time_ns", payloads["time_ns"]), ("sequence", sequence), ("acknowledged", acknowledged),
        ("link", links), ("method", read.method), ("flags", read.flags), ("place", connections.places_of(streams)),
        ("own", own), ("expects", expects), ("size", read.size), ("begun", read.begun),
    ):  # fmt: skip
        requests[name] = values
    several = read.begun > _ONE
    if any_of(several):
        cut = several & (payloads["length"] != payloads["captured"])
        requests["begun"][cut] = requests["size"][cut] = 0
    return requests


def search(sorted_keys: NDArray[np.uint64], keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each key (n,) is, and whether it is."""
    if not sorted_keys.size:
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return at, sorted_keys[at] == keys


def search_connections(those: NDArray[np.void], rows: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which of those rows is of the connection of each of others (n,), and whether any is."""
    ours, theirs = (next(keys(each["conn_id"], each["link"], None)) for each in (those, rows))
    order = np.argsort(ours)
    at, found = search(ours[order], theirs)
    return (order[at] if len(order) else at), found


def earliest(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which of these requests (n,) is the first on each connection; bool (n,). One by one: they are few."""
    first: dict[tuple[int, int], int] = {}
    sequence = rows["sequence"]
    for at, connection in enumerate(zip(rows["conn_id"].tolist(), rows["link"].tolist(), strict=True)):
        other = first.setdefault(connection, at)
        if after(sequence[other : other + 1], sequence[at : at + 1])[0]:
            first[connection] = at
    mask = np.zeros(len(rows), bool)
    mask[list(first.values())] = True
    return mask


class Waiting:
    """Requests without an answer, by what they expect; those that were given up, too, since an answer may still come."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        """most: of which the oldest make room for new ones."""
        self.requests = np.zeros(0, REQUEST)
        self.dropped = 0
        self._most = most
        self._index: Keys | None = None  # of `requests`, if it is known
        self._at = np.full(PLACES, -1, np.int64)  # one that waits at each place; only while it is needed

    def __len__(self) -> int:
        return len(self.requests)

    def add(self, requests: NDArray[np.void]) -> NDArray[np.void]:
        """Wait for the answers of new requests. Returns those, old and new, that expect the same one: they wait no more."""
        if not len(requests):
            return requests
        # A copy in any case: move() changes them, and others have them, too.
        self._become(join(self.requests, requests) if len(self.requests) else copy(requests))
        shared = self.take_shared()
        self._make_room()
        return shared

    def take_shared(self) -> NDArray[np.void]:
        """Remove and return those that expect the same answer."""
        if not self._keys.twice:
            return self.requests[:0]
        shared = np.zeros(len(self), bool)
        order = np.argsort(self._keys.keys, kind="stable")
        same = self._keys.keys[order[1:]] == self._keys.keys[order[:-1]]
        shared[order[1:][same]] = shared[order[:-1][same]] = True
        return self.take(shared)

    def others(self, requests: NDArray[np.void]) -> NDArray[np.bool_]:
        """Where another request already expects the same answer; bool (n,)."""
        at, found = self._keys.find(requests["expects"].copy())
        if not any_of(found):
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
        self._become(self.requests)
        return found

    def meet(self, answers: NDArray[np.void]) -> Met:
        """Final answers (n,): of several to one request the first counts."""
        at, found = self._find(answers)
        places, asked = found.nonzero()[0], at[found]
        first = np.zeros(len(self.requests), np.int64)
        first[asked[::-1]] = places[::-1]  # the first stays, as it is written last
        repeated, keep = found.copy(), np.ones(len(self.requests), bool)
        met = places[first[asked] == places]
        repeated[met] = False
        keep[asked] = False
        requests, left = pick(self.requests, at[met]), ~found
        self._become(pick(self.requests, keep))
        known = after(answers["acknowledged"][met], requests["sequence"])
        left[met[~known]] = True
        return Met(pick(requests, known), pick(answers, met[known]), repeated, left, pick(requests, ~known))

    def skipped(self, met: Met) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Who waits on though what was sent later met its answer, or was sent during an answer that was met (k,).

        And to whom of them the former applies, bool (k,). More than one at a place are among them in any case.
        """
        left = (~self.requests["passed"]).nonzero()[0]
        if not left.size or not len(met.requests):
            return left[:0], np.zeros(0, bool)
        places = self.requests["place"][left]
        self._at[places] = left
        at = self._at[met.requests["place"]]
        several = left[self._at[places] != left]
        self._at[places] = -1
        hit = (at >= 0).nonzero()[0]
        if not hit.size:
            return left[:0], np.zeros(0, bool)
        at, answered, answers = at[hit], pick(met.requests, hit), pick(met.answers, hit)
        waits = pick(self.requests, at)
        same = (waits["conn_id"] == answered["conn_id"]) & (waits["link"] == answered["link"])
        later = same & after(answered["sequence"], waits["sequence"])
        sizes = bounded(sizes_of(answered["method"], answers))
        during = same & is_inside(waits["acknowledged"], answers["sequence"], sizes)
        more = several[np.isin(self.requests["place"][several], answered["place"])]
        found = np.unique(np.concatenate((at[later | during], more)))
        return found, np.isin(found, at[later])

    def of_connections(self, rows: NDArray[np.void]) -> NDArray[np.bool_]:
        """Which wait on a connection of these rows; bool (n,)."""
        ours, theirs = (next(keys(each["conn_id"], each["link"], None)) for each in (self.requests, rows))
        return np.isin(ours, theirs)

    def take(self, which: NDArray[np.bool_]) -> NDArray[np.void]:
        """Remove and return some; bool (n,)."""
        if not any_of(which):
            return self.requests[:0]
        taken = pick(self.requests, which)
        self._become(pick(self.requests, ~which))
        return taken

    def _become(self, requests: NDArray[np.void]) -> None:
        self.requests, self._index = requests, None

    @property
    def _keys(self) -> Keys:
        if self._index is None:
            self._index = Keys(self.requests["expects"].copy())
        return self._index

    def _find(self, answers: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        at, found = self._keys.find(key(answers["conn_id"], answers["link"], answers["sequence"]))
        if any_of(found):
            requests = pick(self.requests, at)
            for name, other in (("conn_id", "conn_id"), ("link", "link"), ("acknowledged", "sequence")):
                found &= requests[name] == answers[other]
        return at, found

    def _make_room(self) -> None:
        excess = len(self.requests) - self._most
        if excess > 0:
            oldest = np.argpartition(self.requests["time_ns"], excess)[:excess]
            keep = np.ones(len(self.requests), bool)
            keep[oldest] = False
            self._become(pick(self.requests, keep))
            self.dropped += excess
