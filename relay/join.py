"""Join: which flows are two views of one connection, one from each end's node. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flows.relay.connections import connections_of, nearest_rows, neighbours

if TYPE_CHECKING:
    from flows.flow.batch import Batch
    from flows.relay.connections import Connections, Numbers
    from flows.relay.end_columns import EndColumns

SECOND = 1_000_000_000
# How much later than the opener's the other node may begin to see a connection, clocks apart: half a round trip around the world,
# and a first packet that was queued.
PATH_NS = SECOND // 2
# How long the opener may wait until the acceptor's socket is there: a SYN is repeated after 1, 3, 7, 15 and 31 s (RFC 6298). One
# that got through later still is rather left alone than taken for another.
HANDSHAKE_NS = 31 * SECOND
# A connection older than its agent is taken to have lived for this long before what the agent says of it: an agent tells of
# everything that is active every 5 s and sweeps every 5 s, so that both views of such a connection always overlap.
UNKNOWN_LIFE_NS = 10 * SECOND
# How wrong a clock may be that was not measured: hosts that keep time by NTP at all are well within.
UNMEASURED_ERROR_NS = SECOND // 2
NOBODY = -1
_ODD = np.uint64(0x9E3779B97F4A7C15)  # of SplitMix64: any large odd number would do


@dataclass(frozen=True, slots=True)
class Clocks:
    """Nodes' clocks against the relay's, by node number, int64 each: how far ahead, and how wrong that may be."""

    offset_ns: Numbers
    error_ns: Numbers


def partners(batch: Batch, ends: EndColumns, clocks: Clocks) -> Numbers:
    """For each row the number of the row of the other end that tells of the same connection, the nearest in time; or -1.

    Times are the nodes' own. Rows of one node that began together are one connection: it lived from its beginning to the
    last that is told of it. Two connections, one told of by the opener's socket and one by the acceptor's, are the same if
    they have the same opener and

    - the same tuple; or the opener called a Service's address, and the acceptor is a pod that this Service selects, or an
      end that no Service is known to select: then address and port were translated on the way;
    - lives that overlap, and beginnings, where known, no further apart than a handshake may take; of the one that began
      next before and the one that began next after the closer. Where they overlap by no more than what clocks and paths
      leave open, and behind Services, each must be the other's closest: ports are used again and again.

    Several rows may have the same partner. Returns (n,) int64.
    """
    found = np.full(len(batch), NOBODY, np.int64)
    rows = _on_both_sides(batch)
    if not len(rows):
        return found
    connections = connections_of(batch, rows, clocks.offset_ns, clocks.error_ns, UNKNOWN_LIFE_NS)
    other = _same_tuple(connections)
    _through_services(connections, other, batch.destination[rows[connections.row]], ends)
    nearest = nearest_rows(connections, other)
    found[rows] = np.where(nearest >= 0, rows[nearest], NOBODY)
    return found


def _on_both_sides(batch: Batch) -> Numbers:
    """Rows whose opener both sides tell of: of a stream that was not filtered nearly all, of others few."""
    rows = np.flatnonzero(batch.opener)
    opener, at_source = batch.opener[rows], batch.at_source[rows] != 0
    both = np.intersect1d(opener[at_source], opener[~at_source])
    at = np.minimum(np.searchsorted(both, opener), len(both) - 1)
    return rows[both[at] == opener] if len(both) else rows[:0]


def _same_tuple(connections: Connections) -> Numbers:
    """The other connection (or -1) of each, by tuple."""
    sources, targets = np.flatnonzero(connections.at_source), np.flatnonzero(~connections.at_source)
    key = connections.tuple
    there = _closest(connections, sources, targets, key[sources], key[targets])
    back = _closest(connections, targets, sources, key[targets], key[sources])
    other = np.full(len(key), NOBODY)
    _accept(connections, other, sources, targets, there, back, mutual_only=False)
    _accept(connections, other, targets, sources, back, there, mutual_only=False)
    return other


def _through_services(connections: Connections, other: Numbers, destinations: Numbers, ends: EndColumns) -> None:
    """Joins, in place, what is left: openers that called Services to those who accepted, by opener and Service."""
    called = ends.service[destinations]
    sources = np.flatnonzero(connections.at_source & (other < 0) & (called >= 0))
    targets = np.flatnonzero(~connections.at_source & (other < 0))
    if not len(sources) or not len(targets):
        return
    index, service = ends.selecting(destinations[targets])
    entries, unnamed = targets[index], targets[np.bincount(index, minlength=len(targets)) == 0]
    keys = _keyed(connections, sources, called[sources]), _keyed(connections, entries, service)
    _by_key(connections, other, sources, entries, *keys)
    left = sources[other[sources] < 0]
    _by_key(connections, other, left, unnamed, connections.opener[left], connections.opener[unnamed])


def _by_key(
    connections: Connections, other: Numbers, sources: Numbers, entries: Numbers, source_keys: Numbers, entry_keys: Numbers
) -> None:
    """Joins, in place. entries: the accepting connections, each as often as it has keys; its closest opener counts."""
    if not len(sources) or not len(entries):
        return
    there = _closest(connections, sources, entries, source_keys, entry_keys)
    back = _closest(connections, entries, sources, entry_keys, source_keys)
    distance = np.abs(connections.start[entries] - connections.start[sources[back]])
    order = np.lexsort((np.where(back >= 0, distance, np.iinfo(np.int64).max), entries))
    first = np.ones(len(order), np.bool_)
    first[1:] = entries[order][1:] != entries[order][:-1]
    targets, back = entries[order[first]], back[order[first]]
    there = np.where(there >= 0, np.searchsorted(targets, entries[there]), NOBODY)
    _accept(connections, other, sources, targets, there, back, mutual_only=True)
    _accept(connections, other, targets, sources, back, there, mutual_only=True)


def _keyed(connections: Connections, rows: Numbers, service: Numbers) -> Numbers:
    """A hash of opener and Service."""
    mixed = connections.opener[rows] ^ (service.astype(np.uint64) + np.uint64(1)) * _ODD
    keyed: Numbers = mixed ^ mixed >> np.uint64(29)
    return keyed


def _closest(connections: Connections, ours: Numbers, theirs: Numbers, our_keys: Numbers, their_keys: Numbers) -> Numbers:
    """For each of ours the index into theirs: of those that may have lived at the same time the closest beginning; or -1."""
    best = np.full(len(ours), NOBODY)
    distance = np.full(len(ours), np.iinfo(np.int64).max)
    start = connections.start
    for beside in neighbours(our_keys, start[ours], their_keys, start[theirs]):
        one = theirs[beside]  # of those without neighbour somebody's, who does not count
        fits = (beside >= 0) & (_overlap(connections, ours, one) >= -_slack(connections, ours, one))
        fits &= connections.opener[ours] == connections.opener[one]
        apart = np.abs(start[ours] - start[one])
        both_known = connections.known[ours] & connections.known[one]
        fits &= ~both_known | (apart <= HANDSHAKE_NS + _slack(connections, ours, one))
        closer = fits & (apart < distance)
        best[closer], distance[closer] = beside[closer], apart[closer]
    return best


def _accept(
    connections: Connections,
    other: Numbers,
    ours: Numbers,
    theirs: Numbers,
    there: Numbers,
    back: Numbers,
    *,
    mutual_only: bool,
) -> None:
    """Notes in `other` for each of ours the one that it has chosen among theirs, if that can be nobody else's."""
    chosen = np.flatnonzero(there >= 0)
    one, other_one = ours[chosen], theirs[there[chosen]]
    good = back[there[chosen]] == chosen
    certain = _overlap(connections, one, other_one) >= _slack(connections, one, other_one)
    if mutual_only:  # a connection older than its agent has no beginning to be closest by
        certain &= ~(connections.known[one] & connections.known[other_one])
    good |= certain
    other[one[good]] = other_one[good]


def _overlap(connections: Connections, one: Numbers, other: Numbers) -> Numbers:
    """By how much one may be moved in time, in either direction, before the lives overlap no more; negative if they do not."""
    start, end = connections.start, connections.end
    overlap: Numbers = np.minimum(end[one] - start[other], end[other] - start[one])
    return overlap


def _slack(connections: Connections, one: Numbers, other: Numbers) -> Numbers:
    slack: Numbers = connections.error[one] + connections.error[other] + PATH_NS
    return slack
