"""Which query repeats which: attempts of one question by one process, linked to the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.dns_pairing import NONE, mixed
from flows.agent.l7.dns_table import BUCKETS, SortedTable, buckets, joined, put, taken
from flows.agent.l7.masks import any_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MS: Final = 1_000_000
# A query that was given up so long ago is over: who asks again then begins anew.
REMEMBER_NS: Final = 30_000 * MS
# musl asks all nameservers at once with one id: one attempt, not several.
PARALLEL_NS: Final = 10 * MS
# With another id, a query repeats one that has waited so long without an answer. Sooner it is somebody else in the pod who wants
# to know the same: no resolver has a shorter timeout (glibc 1 s or more, musl 2.5 s, c-ares 2 s, Go 5 s, unbound 376 ms).
PATIENCE_NS: Final = 250 * MS
CAPACITY: Final = 16_384  # questions without an answer yet; who has more of them has other troubles than counting attempts
MOST: Final = 255  # what the column holds

# Aligned: NumPy copies columns that are not before it looks at them.
ASKED: Final = np.dtype([
    ("time_ns", "<u8"), ("number", "<i8"), ("first", "<i8"), ("server", "<u8"), ("id", "<u2"), ("attempt", "u1"),
], align=True)  # fmt: skip


def ask_keys(question: NDArray[np.uint64], who: NDArray[np.uint64], client: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """One key for all queries of one question by one asker. who: cgroup of a local one, else hash of its address with ours."""
    return mixed(question, who, client.astype(np.uint64))


class Attempts:
    """The last query of each question that is not answered."""

    def __init__(self, timeout_ns: int) -> None:
        self._keep_ns = timeout_ns + REMEMBER_NS
        self._table = SortedTable(ASKED)
        self.overflow = 0

    def __len__(self) -> int:
        return len(self._table)

    def link(
        self,
        keys: NDArray[np.uint64],
        asked: NDArray[np.void],
        before: tuple[NDArray[np.int64], NDArray[np.void]],
        settled: tuple[NDArray[np.uint64], NDArray[np.uint64]],
        answered: NDArray[np.bool_],
    ) -> None:
        """Fill `first` and `attempt` of new queries, and remember those that nobody has answered.

        keys: ask_keys (n,); asked: ASKED (n,), the rest filled in. before: for each the earlier query that it is an exact copy of
        (n,): NONE, below n one of asked, else n + index into the second array, ASKED (m,). settled: keys and times of the answers
        that came: what is asked after them is asked anew. answered: which have got an answer (n,).
        """
        asked["first"], asked["attempt"] = asked["number"], 1
        met, repeats = self._table.has(keys), before[0] != NONE
        chosen = (met | ~answered | repeats | _again(keys)).nonzero()[0]
        settles = self._table.has(settled[0])
        found = self._table.find(np.concatenate((keys[met], settled[0][settles])))
        if not chosen.size and not found.size:
            return
        old_keys, old = self._table.keys[found], self._table.rows.take(found)
        of_chosen = np.zeros(BUCKETS, bool)
        of_chosen[buckets(keys[chosen])] = True
        settles |= of_chosen[buckets(settled[0])]
        settled = settled[0][settles], settled[1][settles]
        all_keys, nodes = np.concatenate((keys[chosen], old_keys)), joined(taken(asked, chosen), old)
        order, is_query, same = _in_time(all_keys, nodes["time_ns"], settled)
        link = np.full(len(keys), NONE)
        _link(link, chosen, nodes, (order, is_query, same), len(keys) + len(before[1]), self._keep_ns)
        copies = repeats.nonzero()[0]
        if copies.size:
            earlier = joined(asked, before[1])["time_ns"][before[0][copies]]
            copies = copies[asked["time_ns"][copies] - earlier < np.uint64(self._keep_ns)]
            link[copies] = before[0][copies]
        if any_of(link != NONE):
            everything = joined(joined(asked, before[1]), old)
            _resolve(everything, link)
            put(asked, slice(None), everything[: len(asked)])
            put(nodes, slice(chosen.size), taken(asked, chosen))
        self._remember(found, all_keys, nodes, order[is_query & np.append(~same, True)])

    def expire(self, now_ns: int) -> None:
        """Forget what is over."""
        times = self._table.rows["time_ns"]
        if times.size and int(times.min()) + self._keep_ns <= now_ns:
            self._table.keep(times + np.uint64(self._keep_ns) > np.uint64(now_ns))

    def _remember(
        self, found: NDArray[np.int64], keys: NDArray[np.uint64], nodes: NDArray[np.void], stay: NDArray[np.int64]
    ) -> None:
        """Of each question that was met the last query stays, unless an answer came after it."""
        if found.size:
            kept = np.ones(len(self._table), bool)
            kept[found] = False
            self._table.keep(kept)
        room = max(0, CAPACITY - len(self._table))
        self.overflow += max(0, stay.size - room)
        stay = stay[max(0, stay.size - room) :]
        self._table.insert(keys[stay], nodes.take(stay))


def _again(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of n are there more than once, and some more; bool (n,). Short integers are sorted by radix, in linear time."""
    bucket = buckets(keys).astype(np.uint16)
    order = np.argsort(bucket, kind="stable")
    same = bucket[order[1:]] == bucket[order[:-1]]
    again = np.zeros(len(keys), bool)
    again[order[1:][same]] = again[order[:-1][same]] = True
    return again


def _link(
    link: NDArray[np.int64],
    chosen: NDArray[np.int64],
    nodes: NDArray[np.void],
    in_time: tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]],
    offset: int,
    keep_ns: int,
) -> None:
    """Fill for each chosen query the last one of its question that it repeats: an index, or offset + that of an old one."""
    order, is_query, same = in_time
    follows = (same & is_query[1:] & is_query[:-1]).nonzero()[0]
    later, earlier = order[follows + 1], order[follows]
    new = later < chosen.size
    later, earlier = later[new], earlier[new]
    if not later.size:
        return
    repeats = _repeats(nodes.take(later), nodes.take(earlier), keep_ns)
    later, earlier = later[repeats], earlier[repeats]
    targets = np.concatenate((chosen, offset + np.arange(len(nodes) - chosen.size)))
    link[chosen[later]] = targets[earlier]


def _in_time(
    keys: NDArray[np.uint64], times: NDArray[np.uint64], settled: tuple[NDArray[np.uint64], NDArray[np.uint64]]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Queries and what settled them by key and time: order (n,), which are queries (n,), which go on with the key (n - 1,)."""
    all_keys = np.concatenate((keys, settled[0]))
    moments = np.concatenate((times * np.uint64(2), settled[1] * np.uint64(2) + np.uint64(1)))
    order = np.lexsort((moments, all_keys))
    all_keys = all_keys[order]
    return order, order < len(keys), all_keys[1:] == all_keys[:-1]


def _apart(later: NDArray[np.void], earlier: NDArray[np.void]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """How long after one another (n,), and whether they are one attempt to several servers (n,)."""
    gap = later["time_ns"] - earlier["time_ns"]
    same_id = later["id"] == earlier["id"]
    return gap, same_id & (later["server"] != earlier["server"]) & (gap <= np.uint64(PARALLEL_NS))


def _repeats(later: NDArray[np.void], earlier: NDArray[np.void], keep_ns: int) -> NDArray[np.bool_]:
    gap, _ = _apart(later, earlier)
    patient: NDArray[np.bool_] = (later["id"] == earlier["id"]) | (gap >= np.uint64(PATIENCE_NS))
    patient &= gap < np.uint64(keep_ns)
    return patient


def _resolve(nodes: NDArray[np.void], link: NDArray[np.int64]) -> None:
    """Fill `first` and `attempt` of the nodes that repeat others, along their links, which double in length at each step."""
    count = len(link)
    ahead = np.concatenate((link, np.full(len(nodes) - count, NONE)))
    chained = (link >= 0).nonzero()[0]
    added = np.zeros(len(nodes), np.int64)
    added[chained] = ~_apart(nodes.take(chained), nodes.take(link[chained]))[1]
    root = np.arange(len(nodes))
    while (going := (ahead >= 0).nonzero()[0]).size:
        step = ahead[going]
        added[going], root[going], ahead[going] = added[going] + added[step], root[step], ahead[step]
    nodes["first"][chained] = nodes["first"][root[chained]]
    nodes["attempt"][chained] = np.minimum(nodes["attempt"][root[chained]] + added[chained], MOST)
