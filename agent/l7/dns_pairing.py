"""Which answer answers which query: by connection, server, id and question, in the order of time."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from flows.agent.l7.masks import all_of, any_of, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

NONE: Final = -1
_SEEDS: Final = [number(secrets.randbits(64) | 1, np.uint64) for _ in range(6)]
_HALF, _NEARLY_HALF, _TWO, _ONE = (number(value, np.uint64) for value in (32, 29, 2, 1))


class Pairs(NamedTuple):
    """Of q queries and a answers.

    answer: which answer a query has got (q,), i8, NONE for none; leads: it is the first of the queries that this answer may be
    meant for (q,), bool; doubtful: the answer, or one that came after its repetition, may be meant for it or for a repetition
    (q,), bool; before: the query with the same key that came last before it with no answer in between (q,), i8, NONE for none;
    used: the answer answers a query (a,), bool; repeated: its query had been answered before (a,), bool.
    """

    answer: NDArray[np.int64]
    leads: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]
    before: NDArray[np.int64]
    used: NDArray[np.bool_]
    repeated: NDArray[np.bool_]


def mixed(*words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Keyed hash of up to five words, (n,) each."""
    value: NDArray[np.uint64] = words[0] * _SEEDS[0]
    for word, seed in zip(words[1:], _SEEDS[1:], strict=False):
        value ^= value >> _HALF
        value += word
        value *= seed
    value ^= value >> _NEARLY_HALF
    return value


def address_hash(addresses: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Keyed hash of addresses (n, 16), of any stride."""
    halves = addresses.view(np.uint64)
    return mixed(halves[:, 0], halves[:, 1])


def pair_keys(exchange: NDArray[np.uint64], question: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Keys that a query and its answers share. exchange: hash of all but the question, so that its upper half finds the rest."""
    keys: NDArray[np.uint64] = exchange >> _HALF << _HALF | question >> _HALF
    return keys


def pair(
    query_keys: NDArray[np.uint64],
    query_times: NDArray[np.uint64],
    given_up: NDArray[np.bool_],
    answer_keys: NDArray[np.uint64],
    answer_times: NDArray[np.uint64],
    timeout_ns: int,
) -> Pairs:
    """Pair q queries and a answers by key and time (CLOCK_MONOTONIC). given_up: queries for which the time was over before (q,).

    An answer answers every query with its key that waits when it comes: which copy the server means cannot be told. Copies that
    were given up by then do not count as answered by it, as long as a younger one waits: the repetition was sent for want of an
    answer. Only an answer that finds nobody waiting is a late one, for those that were given up.
    """
    queries, answers = len(query_keys), len(answer_keys)
    keys = np.concatenate((query_keys, answer_keys))
    # A query comes before an answer of the same time.
    moments = np.concatenate((query_times, answer_times)) * _TWO
    moments[queries:] += _ONE
    order = _in_order(keys, moments)
    keys, moments, is_answer = keys[order], moments[order], order >= queries
    runs = np.ones(order.size, bool)
    runs[1:] = keys[1:] != keys[:-1]
    run = np.cumsum(runs)
    result = Pairs(
        np.full(queries, NONE), np.zeros(queries, bool), np.zeros(queries, bool), _before(order, runs, is_answer),
        np.zeros(answers, bool), np.zeros(answers, bool),
    )  # fmt: skip
    places = (~is_answer).nonzero()[0]
    ids = order[places]
    upcoming = _next(is_answer, run)
    ahead = upcoming[places]
    late = given_up[ids] | (moments[np.maximum(ahead, 0)] - moments[places] > np.uint64(2 * timeout_ns)) & (ahead >= 0)
    _assign(result, order, places, ahead, ~late)
    if any_of(late):
        _mark_older(result, order, places, ahead, late)
        _assign_late(result, order, run, places, late, is_answer)
    if all_of(result.used):
        return result
    first = np.maximum.accumulate(np.where(runs, np.arange(order.size), 0))
    asked = np.cumsum(~is_answer)
    since = asked - asked[first] + ~is_answer[first]
    result.repeated[order[is_answer] - queries] = since[is_answer] > 0
    result.repeated[result.used] = False
    return result


def _in_order(keys: NDArray[np.uint64], moments: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Order by key and moment (n,). Numbers are sorted twice as fast as places: keys' lowest bits give way to the latter."""
    by_time = np.argsort(moments, kind="stable")
    bits = number(len(keys).bit_length(), np.uint64)
    mixed = keys.take(by_time) >> bits << bits
    mixed |= np.arange(len(keys), dtype=np.uint64)
    mixed.sort()
    mixed &= number((1 << len(keys).bit_length()) - 1, np.uint64)
    order: NDArray[np.int64] = by_time.take(mixed.view(np.int64))
    ordered = keys.take(order)
    if any_of(ordered[1:] < ordered[:-1]):  # keys that differ in their lowest bits only
        order = np.lexsort((moments, keys))
    return order


def _next(is_answer: NDArray[np.bool_], run: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each place in the order, the place of the next answer with the same key; NONE for none."""
    size = is_answer.size
    places = np.where(is_answer, np.arange(size), size)
    ahead = np.minimum.accumulate(places[::-1])[::-1]
    safe = np.minimum(ahead, size - 1)
    return np.where((ahead < size) & (run[safe] == run), ahead, NONE)


def _before(order: NDArray[np.int64], runs: NDArray[np.bool_], is_answer: NDArray[np.bool_]) -> NDArray[np.int64]:
    before = np.full(int((~is_answer).sum()), NONE)
    follows = (~runs[1:] & ~is_answer[1:] & ~is_answer[:-1]).nonzero()[0]
    before[order[follows + 1]] = order[follows]
    return before


def _assign(
    result: Pairs, order: NDArray[np.int64], places: NDArray[np.int64], ahead: NDArray[np.int64], opened: NDArray[np.bool_]
) -> None:
    """Give those that are open the answer ahead of each, if there is one."""
    chosen = (opened & (ahead >= 0)).nonzero()[0]
    if not chosen.size:
        return
    ids, targets = order[places[chosen]], ahead[chosen]
    result.answer[ids] = order[targets] - len(result.answer)
    result.used[result.answer[ids]] = True
    starts = np.ones(targets.size, bool)
    starts[1:] = targets[1:] != targets[:-1]
    result.leads[ids[starts]] = True
    several = ~starts
    several[:-1] |= ~starts[1:]
    result.doubtful[ids[several]] = True


def _mark_older(
    result: Pairs, order: NDArray[np.int64], places: NDArray[np.int64], ahead: NDArray[np.int64], late: NDArray[np.bool_]
) -> None:
    """Those that were given up before an answer came that a younger copy has got: it may be theirs."""
    chosen = (late & (ahead >= 0)).nonzero()[0]
    if not chosen.size:
        return
    older = chosen[result.used[order[ahead[chosen]] - len(result.answer)]]
    result.doubtful[order[places[older]]] = True
    shared = np.isin(result.answer, order[ahead[older]] - len(result.answer))
    result.doubtful[shared & (result.answer != NONE)] = True


def _assign_late(
    result: Pairs,
    order: NDArray[np.int64],
    run: NDArray[np.int64],
    places: NDArray[np.int64],
    late: NDArray[np.bool_],
    is_answer: NDArray[np.bool_],
) -> None:
    """Give those that were given up the next answer that nobody who waited has got."""
    left = is_answer.copy()
    left[is_answer] = ~result.used[order[is_answer] - len(result.answer)]
    _assign(result, order, places, _next(left, run)[places], late)
