"""Requests that came just now: what is sent again is known by them, and how long an answer was by the request after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from flows.agent.l7.http1_connections import after, key
from flows.agent.l7.http1_keys import Keys
from flows.agent.l7.http1_pairing import REQUEST
from flows.agent.l7.http1_rows import join, pick
from flows.agent.l7.masks import all_of, any_of, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

REMEMBERED_CALLS: Final = 3  # before the present one: with it, two batches of two rings each
_BUCKETS_LOG2: Final = 18
_UPPER: Final = number(64 - _BUCKETS_LOG2, np.uint64)


class Come(NamedTuple):
    """n requests of one call, as they came. own: their places in their streams; buckets: of those (n,)."""

    requests: NDArray[np.void]
    own: Keys
    buckets: NDArray[np.int64]
    call: int


class Recent:
    """Requests of this call and those just before, by their own place in the stream.

    Two rings are read one after the other, so a call may bring what is older than what the call before it brought.
    """

    def __init__(self) -> None:
        self._come: list[Come] = []
        self._call = 0
        self._seen = np.zeros(1 << _BUCKETS_LOG2, bool)  # whether any may be here: of a new one there seldom is

    @property
    def requests(self) -> NDArray[np.void]:
        """All of them, as they came."""
        return join(np.zeros(0, REQUEST), *(come.requests for come in self._come))

    def add(self, requests: NDArray[np.void]) -> NDArray[np.bool_]:
        """Keep new ones. Returns which of them were not here; of equal ones the first; bool (n,)."""
        own = Keys(requests["own"].copy())
        new = self._are_new(own.keys)
        if own.twice:
            order = np.argsort(own.keys, kind="stable")
            new[order[1:][own.keys[order[1:]] == own.keys[order[:-1]]]] = False
        if not all_of(new):
            requests, own = pick(requests, new), Keys(own.keys[new])
        self._come.append(Come(requests, own, _buckets(own.keys), self._call))
        self._seen[self._come[-1].buckets] = True
        return new

    def _are_new(self, own: NDArray[np.uint64]) -> NDArray[np.bool_]:
        seen = self._seen.take(_buckets(own))
        new, maybe = ~seen, seen.nonzero()[0]
        if maybe.size:
            new[maybe] = True
            for come in self._come:
                new[maybe] &= ~come.own.find(own[maybe])[1]
        return new

    def following(self, answers: NDArray[np.void]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """What was acknowledged by the request right after the one that each answer (n,) is for, and whether it was seen."""
        wanted = key(answers["conn_id"], answers["link"], answers["acknowledged"])
        acknowledged = answers["sequence"].copy()  # of what was not seen: that is not after itself
        left = self._seen[_buckets(wanted)].nonzero()[0]
        wanted = wanted[left]
        for come in reversed(self._come):
            at, found = come.own.find(wanted)
            acknowledged[left[found]] = come.requests["acknowledged"][at[found]]
            left, wanted = left[~found], wanted[~found]
            if not left.size:
                break
        return acknowledged, after(acknowledged, answers["sequence"])

    def age(self) -> NDArray[np.void]:
        """Begin a call. Returns what is forgotten, by time."""
        self._call += 1
        gone = [come.requests for come in self._come if come.call + REMEMBERED_CALLS < self._call]
        self._come = [come for come in self._come if come.call + REMEMBERED_CALLS >= self._call]
        self._seen[:] = False
        for come in self._come:
            self._seen[come.buckets] = True
        requests = join(np.zeros(0, REQUEST), *gone)
        times = requests["time_ns"]
        if not any_of(times[1:] < times[:-1]):  # as of one ring
            return requests
        return pick(requests, np.argsort(times, kind="stable"))


def _buckets(own: NDArray[np.uint64]) -> NDArray[np.int64]:
    buckets: NDArray[np.int64] = (own >> _UPPER).view(np.int64)
    return buckets
