"""Limits: what looks like HTTP/1 and is none, in a body or after an upgrade. Source: RFC 9110, 7.8; RFC 9112, 6."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flows.agent.l7.http1_answers import SWITCHING, is_interim, sizes_of
from flows.agent.l7.http1_connections import after, key
from flows.agent.l7.http1_extents import extents_of, inside, is_inside, outermost
from flows.agent.l7.http1_pairing import Met, Waiting, search_connections
from flows.agent.l7.http1_rows import copy, join, pick
from flows.agent.l7.masks import any_of

if TYPE_CHECKING:
    from collections import Counter

    from numpy.typing import NDArray

    from flows.agent.l7.http1_connections import Connections


class Limits:
    """Of connections that are remembered; what they keep out is counted."""

    def __init__(self, waiting: Waiting, connections: Connections, counts: Counter[str]) -> None:
        """All of them the handler's."""
        self._waiting, self._connections, self._counts = waiting, connections, counts

    def are_http(
        self,
        requests: NDArray[np.void],
        known: NDArray[np.void],
        own: NDArray[np.bool_],
        answers: NDArray[np.void],
        lengths: NDArray[np.uint32],
    ) -> NDArray[np.bool_] | None:
        """Neither in a request's body nor after an upgrade; bool (n,), None: all. lengths: bytes of their packets (n,)."""
        goes_on = requests["size"] > lengths
        switching = answers["status"] == SWITCHING
        bodies = known["body_size"] != 0
        echoed = self._in_answers(requests, ~(own & known["answered"]), answers)
        if not (any_of(goes_on) or any_of(bodies) or any_of(known["upgraded"]) or any_of(switching) or any_of(echoed)):
            return None
        body = own & is_inside(requests["sequence"], known["body"], known["body_size"])
        over = own & known["upgraded"]
        over[over] = after(requests["acknowledged"][over], known["answer"][over])
        over |= self._follow_upgrade(requests, pick(answers, switching))
        next_one = self._follow_answer(requests, own & known["answered"], known["answer_acknowledged"], answers)
        body &= ~next_one
        long = pick(requests, goes_on & ~body & ~over & ~echoed)
        extents = outermost(extents_of(long, long["place"], long["size"].astype(np.int64)))
        body |= inside(requests, extents) & ~next_one
        body |= echoed
        self._connections.send_body(extents)
        self._counts["http: body that looks like a request"] += int((body & ~over).sum())
        self._counts["http: after an upgrade"] += int(over.sum())
        http: NDArray[np.bool_] = ~(body | over)
        return http

    @staticmethod
    def _follow_answer(
        requests: NDArray[np.void], answered: NDArray[np.bool_], until: NDArray[np.uint32], answers: NDArray[np.void]
    ) -> NDArray[np.bool_]:
        """Which requests (n,) begin where a final answer was given: then the rest of the body before them was never sent.

        As after `Expect: 100-continue` and a refusal (RFC 9110, section 10.1.1). answered, until: up to where the connection's
        newest answer of earlier calls was to (n,).
        """
        final = pick(answers, ~is_interim(answers))
        ends = key(final["conn_id"], final["link"], final["acknowledged"])
        mask: NDArray[np.bool_] = answered & (until == requests["sequence"])
        mask |= np.isin(key(requests["conn_id"], requests["link"], requests["sequence"]), ends)
        return mask

    def _follow_upgrade(self, requests: NDArray[np.void], switching: NDArray[np.void]) -> NDArray[np.bool_]:
        """Which requests (n,) acknowledge a part of an answer that came with them and that ends HTTP; bool (n,)."""
        mask = np.zeros(len(requests), bool)
        if len(switching):
            expected = np.concatenate((requests["expects"], self._waiting.requests["expects"]))
            switching = pick(switching, np.isin(key(switching["conn_id"], switching["link"], switching["sequence"]), expected))
            switching = join(switching, turned(switching))
            at, mask = search_connections(switching, requests)
            mask[mask] = after(requests["acknowledged"][mask], switching["sequence"][at[mask]])
        return mask

    def _in_answers(self, requests: NDArray[np.void], maybe: NDArray[np.bool_], answers: NDArray[np.void]) -> NDArray[np.bool_]:
        """Which requests (n,) are in bodies of answers of who sends them, also of those that came with them; bool (n,).

        maybe: who never got an answer, (n,): nobody else can be a server.
        """
        mask, rows = np.zeros(len(requests), bool), maybe.nonzero()[0]
        if rows.size:
            others = other_way(pick(requests, rows))
            probes = extents_of(others, self._connections.places(others["conn_id"], others["link"]))
            places = self._connections.places(answers["conn_id"], answers["link"])
            here = np.isin(places, probes["place"])
            came = pick(answers, here)
            extents = outermost(extents_of(came, places[here], sizes_of(np.zeros(len(came), np.uint8), came)))
            mask[rows] = inside(probes, extents) | inside(probes, self._connections.last_answers(others))
        return mask

    def not_in_bodies(self, answers: NDArray[np.void], met: Met) -> NDArray[np.void]:
        """Answers (n,) that met no request, without those in bodies.

        That is, of other answers, of those that did and of the newest before; and of requests of who sends them.
        """
        places = self._connections.places(answers["conn_id"], answers["link"])
        maybe = np.isin(met.requests["place"], places)
        requests, others = pick(met.requests, maybe), pick(met.answers, maybe)
        extents = extents_of(others, requests["place"], sizes_of(requests["method"], others))
        probes = extents_of(answers, places)
        body = inside(probes, outermost(extents)) | inside(probes, self._connections.last_answers(answers))
        body |= self._connections.in_last_body(other_way(answers))
        self._counts["http: body that looks like an answer"] += int(body.sum())
        return pick(answers, ~body)

    def not_over(self, answers: NDArray[np.void]) -> NDArray[np.void]:
        """Answers (n,) without those after an upgrade."""
        over = self._connections.is_over(answers)
        self._counts["http: after an upgrade"] += int(over.sum())
        return pick(answers, ~over)

    def upgrade(self, answers: NDArray[np.void]) -> None:
        """HTTP/1 ends with these answers (n,): requests that were taken for such before they came wait no more."""
        answers = join(answers, turned(answers))
        self._connections.upgrade(answers)
        at, over = search_connections(answers, self._waiting.requests)
        over[over] = after(self._waiting.requests["acknowledged"][over], answers["sequence"][at[over]])
        self._counts["http: after an upgrade"] += len(self._waiting.take(over))


def turned(answers: NDArray[np.void]) -> NDArray[np.void]:
    """The same ends (n,) for requests that come from who answers: what it has got so far was HTTP, what it gets then is none."""
    others = other_way(answers)
    others["sequence"] = answers["acknowledged"] - np.uint32(1)
    return others


def other_way(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Requests as answers (n,), and answers as requests: of the same bytes, should the other one be who asks."""
    others = copy(rows)
    others["link"] ^= 1
    return others
