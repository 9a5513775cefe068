"""What is remembered of connections: the last request and the last answer, for as long as no other connection takes the place.

A table of fixed size without chains: what is lost when two connections meet in one place is known repetition and exact sizes of
answers, never a pair. Pairs do not depend on it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flows.agent.l7.http1_extents import extents_of, is_inside
from flows.agent.l7.http1_rows import pick, put
from flows.agent.l7.masks import all_of, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PLACES: Final = 1 << 17  # 8 MB; of 5,000 connections at a time one in 26 shares its place
_SEEDS: Final = [number(secrets.randbits(64) | 1, np.uint64) for _ in range(3)]
_HALF, _NEARLY_HALF, _BYTE = (number(bits, np.uint64) for bits in (32, 29, 8))
_ZERO: Final = number(0, np.int32)
_ONE, _TWO = (number(bits, np.uint8) for bits in (1, 2))
_PLACE: Final = np.dtype(
    [
        ("conn_id", "u8"), ("link", "u1"),
        ("asked", "?"),  # a request was seen
        ("pipelines", "?"),  # more requests came before an answer, so nothing is paired any more
        ("settled", "?"), ("sequence", "u4"),  # newest request of earlier calls
        ("acknowledged", "u4"),  # of the newest request
        ("answered", "?"), ("answer", "u4"), ("answer_acknowledged", "u4"),  # newest answer that was paired
        ("answer_size", "u4"),  # 0: not known
        ("upgraded", "?"),  # that answer was the last one: what comes after it is no HTTP
        ("number", "i8"),  # of its request
        ("body", "u4"), ("body_size", "u4"),  # newest request that goes on in other packets, as an extent; 0: there was none
    ],
    align=True,
)  # fmt: skip


def link(asked_here: NDArray[np.bool_], origin: NDArray[np.uint8], slices: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tells apart what may share a connection and is numbered by itself: who asks, where the bytes were read, and in which slice.

    What passed between two slices was not counted, so that the same number may be another place.
    """
    links: NDArray[np.uint8] = slices << _TWO
    links |= origin << _ONE
    links |= asked_here
    return links


def origin_of(links: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Where the bytes were read (n,): Origin."""
    origins: NDArray[np.uint8] = links >> _ONE & _ONE
    return origins


def key(conn_id: NDArray[np.uint64], links: NDArray[np.uint8], sequence: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Hash of a place in a stream of bytes (n,), seeded at random; who finds it compares what it stands for."""
    return next(keys(conn_id, links, sequence))


def keys(
    conn_id: NDArray[np.uint64], links: NDArray[np.uint8], *sequences: NDArray[np.uint32] | None
) -> Iterator[NDArray[np.uint64]]:
    """Hashes of several places in each stream of bytes; None: of its beginning."""
    stream = conn_id * _SEEDS[0]
    stream ^= stream >> _NEARLY_HALF
    for sequence in sequences:
        mixed = links.astype(np.uint64) if sequence is None else sequence.astype(np.uint64)
        if sequence is not None:
            mixed <<= _BYTE
            mixed |= links
        mixed *= _SEEDS[1]
        mixed += stream
        mixed ^= mixed >> _HALF
        mixed *= _SEEDS[2]
        mixed ^= mixed >> _NEARLY_HALF
        yield mixed


def after(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which sequence numbers are beyond the others (RFC 9293, section 3.4: modulo 2^32)."""
    mask: NDArray[np.bool_] = (one - other).view(np.int32) > _ZERO
    return mask


class Connections:
    """The table. Rows of requests and answers have conn_id and link."""

    def __init__(self, places: int = PLACES) -> None:
        """places: a power of two."""
        self._table = np.zeros(places, _PLACE)
        self._mask = number(places - 1, np.uint64)

    def places(self, conn_id: NDArray[np.uint64], links: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Where connections (n,) are, if they are."""
        return self.places_of(next(keys(conn_id, links, None)))

    def places_of(self, streams: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The same by keys of the beginnings of their streams (n,)."""
        places: NDArray[np.int64] = (streams & self._mask).view(np.int64)
        return places

    def find(self, rows: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Places of rows (n,), and whether what is there is of their connection."""
        at = self.places(rows["conn_id"], rows["link"])
        return at, self._are(rows, pick(self._table, at))

    def get(self, at: NDArray[np.int64], name: str) -> NDArray[Any]:
        """One column of places."""
        return self._table[name][at]

    def ask(self, requests: NDArray[np.void]) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
        """Requests (n,) were seen, whose `place` is set: their connections take their places.

        What is remembered of them (n,), and whether it is of their connection.
        """
        places = requests["place"].astype(np.int64)
        known = pick(self._table, places)
        own = self._are(requests, known)
        if not all_of(own):
            put(self._table, places[~own], np.zeros(1, _PLACE))
            for name in ("conn_id", "link"):
                self._table[name][places[~own]] = requests[name][~own]
            known = pick(self._table, places)
            own = self._are(requests, known)
        newer = ~known["asked"] | after(requests["acknowledged"], known["acknowledged"])
        if not all_of(own):
            newer &= own
            places = places[own]
        at = requests["place"][newer]
        self._table["acknowledged"][at] = requests["acknowledged"][newer]
        self._table["asked"][places] = True
        return known, own

    @staticmethod
    def _are(rows: NDArray[np.void], known: NDArray[np.void]) -> NDArray[np.bool_]:
        own: NDArray[np.bool_] = known["conn_id"] == rows["conn_id"]
        own &= known["link"] == rows["link"]
        return own

    def settle(self, requests: NDArray[np.void]) -> None:
        """Requests (n,) of earlier calls: what is older on their connections can only be a repetition."""
        at = requests["place"].astype(np.int64)
        known = pick(self._table, at)
        newer = self._are(requests, known)
        at = at[newer]
        newer &= ~known["settled"] | after(requests["sequence"], known["sequence"])
        self._table["sequence"][requests["place"][newer]] = requests["sequence"][newer]
        self._table["settled"][at] = True

    def pipeline(self, rows: NDArray[np.void]) -> None:
        """Nothing on these connections can be told apart any more."""
        self._table["pipelines"][self._own(rows)[0]] = True

    def send_body(self, extents: NDArray[np.void]) -> None:
        """Requests go on: EXTENT (n,), in order, on connections that are known."""
        at = extents["place"].astype(np.int64)
        newer = self._are(extents, pick(self._table, at))
        newer &= (self._table["body_size"][at] == 0) | after(extents["sequence"], self._table["body"][at])
        for name, column in (("body", "sequence"), ("body_size", "size")):
            self._table[name][at[newer]] = extents[column][newer]

    def upgrade(self, answers: NDArray[np.void]) -> None:
        """These answers (n,) are the last ones on their connections, which may not be known."""
        at = self._claim(answers)
        newest = ~self._table["answered"][at] | ~after(self._table["answer"][at], answers["sequence"])
        at = at[newest]
        self._table["answer"][at], self._table["answered"][at] = answers["sequence"][newest], True
        self._table["upgraded"][at], self._table["answer_size"][at] = True, 0

    def _claim(self, rows: NDArray[np.void]) -> NDArray[np.int64]:
        """Places of rows (n,), theirs from now on."""
        at, own = self.find(rows)
        new = (~own).nonzero()[0]
        if new.size:
            put(self._table, at[new], np.zeros(1, _PLACE))
            for name in ("conn_id", "link"):
                self._table[name][at[new]] = rows[name][new]
        return at

    def answer(self, answers: NDArray[np.void], requests: NDArray[np.void], sizes: NDArray[np.uint32]) -> None:
        """Answers (n,) met requests (n,); sizes: as extents have them (n,)."""
        at = requests["place"].astype(np.int64)
        known = pick(self._table, at)
        newer = self._are(requests, known)
        newer &= ~known["answered"] | after(answers["sequence"], known["answer"])
        known["answered"], known["answer"], known["answer_acknowledged"] = True, answers["sequence"], answers["acknowledged"]
        known["number"], known["answer_size"] = requests["number"], sizes
        put(self._table, at if all_of(newer) else at[newer], pick(known, newer))

    def last_answers(self, rows: NDArray[np.void]) -> NDArray[np.void]:
        """Where the newest answers on connections of these rows (n,) reach, where it is known: EXTENT (k,)."""
        at, own = self.find(rows)
        at = np.unique(at[own & self._table["answered"][at]])
        known = pick(self._table, at)
        extents = extents_of(known, at, known["answer_size"].astype(np.int64))
        extents["sequence"] = known["answer"]
        return extents

    def in_last_body(self, rows: NDArray[np.void]) -> NDArray[np.bool_]:
        """Which rows (n,) are within the newest request that goes on in other packets; bool (n,)."""
        at, own = self.find(rows)
        body: NDArray[np.bool_] = own & is_inside(rows["sequence"], self._table["body"][at], self._table["body_size"][at])
        return body

    def is_over(self, answers: NDArray[np.void]) -> NDArray[np.bool_]:
        """Which answers (n,) come after an upgrade."""
        at, own = self.find(answers)
        mask: NDArray[np.bool_] = own & self._table["upgraded"][at] & after(answers["sequence"], self._table["answer"][at])
        return mask

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
