"""Pipelining: which requests wait for an answer of their own, and which cannot be told apart. Source: RFC 9112, section 9.3.2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.http1_answers import is_interim, sizes_of
from flows.agent.l7.http1_connections import after, key
from flows.agent.l7.http1_extents import extents_of, find, is_inside, outermost
from flows.agent.l7.http1_owed import Owed
from flows.agent.l7.http1_pairing import REQUEST, Met, earliest, search, search_connections
from flows.agent.l7.http1_recent import REMEMBERED_CALLS
from flows.agent.l7.http1_rows import join, pick
from flows.agent.l7.masks import any_of
from flows.agent.store.request_columns import Flag, State

if TYPE_CHECKING:
    from collections import Counter

    from numpy.typing import NDArray

    from flows.agent.l7.http1_connections import Connections
    from flows.agent.l7.http1_owed import Judged
    from flows.agent.l7.http1_pairing import Waiting
    from flows.agent.store.requests import RequestStore

PIPELINED: Final = np.uint16(Flag.PIPELINED)


class Pipelining:
    """Stands between requests and those that wait. Of several that expect one answer the first one waits, and is marked."""

    def __init__(self, store: RequestStore, waiting: Waiting, connections: Connections, counts: Counter[str]) -> None:
        """All of them the handler's."""
        self._store, self._waiting, self._connections, self._counts = store, waiting, connections, counts
        self._owed = Owed()
        self.paired = [np.zeros(0, REQUEST)]  # of this call and those just before

    def begin_call(self) -> None:
        """Forget what was paired long ago."""
        self.paired = [*self.paired[-REMEMBERED_CALLS:], np.zeros(0, REQUEST)]

    def wait(self, requests: NDArray[np.void], known: NDArray[np.void], own: NDArray[np.bool_]) -> None:
        """Let new requests wait, unless which answer is theirs cannot be told. known, own: what is remembered of connections."""
        answered = own & known["answered"]
        size = requests["acknowledged"] - known["answer"]
        behind = size.view(np.int32) > 0
        lost, shares, several = own & known["pipelines"], answered & ~behind, requests["begun"] != 1
        if any_of(shares):
            at = shares.nonzero()[0]
            found, before = self._undo(pick(requests, at))
            lost[at] |= before | (found & (size[at] != 0))
            shares[at] = size[at] == 0
        within = shares | (answered & is_inside(requests["acknowledged"], known["answer"], known["answer_size"]))
        next_one = answered & (known["answer_size"] == 0)
        if any_of(next_one):
            next_one &= behind & (known["answer_acknowledged"] == requests["sequence"])
        if not len(self._owed) and not any_of(within | several | lost):
            self._size(known, size, next_one)
            self.share(self._waiting.add(requests))
            return
        owes = self._owed.of(requests) & ~lost
        begins = (within | several) & ~lost & ~owes
        if begins.any():
            behind_answer = known["answer"] + np.maximum(known["answer_size"], np.uint32(1))
            from_where = np.where(within, behind_answer, requests["acknowledged"])
            self._flag(known["number"][begins & shares])
            firsts = self._begin(pick(requests, begins), from_where[begins], told_apart=False)
            at, later = search_connections(firsts, requests)
            later[later] = after(requests["sequence"][later], firsts["sequence"][at[later]])
            owes |= later & ~lost & ~begins
        self._size(known, size, next_one & ~(lost | begins | owes))
        self.share(self._waiting.add(pick(requests, ~(lost | begins | owes))))
        if lost.any() or begins.any() or owes.any():
            self._not_told_apart(pick(requests, lost))
            self._owed.ask(pick(requests, owes))
            self._judge()

    def _size(self, known: NDArray[np.void], size: NDArray[np.uint32], which: NDArray[np.bool_]) -> None:
        """The newest answers were followed by requests that acknowledge so much of them (n,): it is their size."""
        if any_of(which):
            self._store.answer(known["number"][which], {"response_bytes": size[which].astype(np.int64)})

    def share(self, requests: NDArray[np.void]) -> None:
        """Requests (n,) expect the same answers: each is that of the first one."""
        if not len(requests):
            return
        owe = self._owed.of(requests)
        self._not_told_apart(pick(requests, owe))
        requests = pick(requests, ~owe)
        if len(requests):
            first = earliest(requests)
            self._waiting.add(pick(requests, first))
            self._begin(pick(requests, first), requests["acknowledged"][first], told_apart=True)
            self._owed.ask(pick(requests, ~first))
            self._judge()

    def feed(self, answers: NDArray[np.void]) -> NDArray[np.void]:
        """Count answers (n,) of connections that owe. Returns all without those that came before."""
        if not len(self._owed):
            return answers
        new = (self._owed.of(answers) & ~answers["owed"]).nonzero()[0]
        if not new.size:
            return answers
        ours = pick(answers, new).copy()
        self._begin_before(ours)
        again = self._owed.answer(ours)
        answers["owed"][new] = ours["owed"]
        self._judge()
        keep = np.ones(len(answers), bool)
        keep[new[again]] = False
        self._counts["http: answer again"] += int(again.sum())
        return pick(answers, keep)

    def meet(self, answers: NDArray[np.void]) -> tuple[NDArray[np.void], Met]:
        """Let answers (n,) meet those who wait. Returns them without those that came before, and which final ones met."""
        met = self._waiting.meet(pick(answers, ~is_interim(answers)))
        skipped, later = self._waiting.skipped(met)
        if skipped.size and self._begin_within(met, skipped, later):
            answers = self.feed(answers)
            met = self._waiting.meet(pick(answers, ~is_interim(answers)))
        if len(met.doubtful):
            self._not_told_apart(met.doubtful)
        return answers, met

    def age(self) -> None:
        """End a call."""
        if len(self._owed):
            self._tell(self._owed.age())

    def end(self, connections: NDArray[np.uint64]) -> None:
        """Connections (n,) ended."""
        if len(self._owed):
            self._tell(self._owed.end(connections))

    def _begin_before(self, answers: NDArray[np.void]) -> None:
        """Answers (n,) of connections that owe may show that they did so before what was counted from."""
        waits = pick(self._waiting.requests, self._owed.of(self._waiting.requests))
        if not len(waits):
            return
        waits = pick(waits, np.argsort(waits["expects"], kind="stable"))
        at, found = search(waits["expects"], key(answers["conn_id"], answers["link"], answers["sequence"]))
        sizes = sizes_of(np.where(found, waits["method"][at], np.uint8(0)), answers)
        extents = extents_of(answers, self._connections.places(answers["conn_id"], answers["link"]), sizes)
        within, ends = self._within(waits, extents)
        if len(within):
            self._begin(within, ends, told_apart=False)

    def _within(self, waits: NDArray[np.void], extents: NDArray[np.void]) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
        """Which requests were asked during one of these answers or of the newest before; and where those end."""
        extents = outermost(join(extents, self._connections.last_answers(waits)))
        probes = extents_of(waits, waits["place"])
        probes["sequence"] = waits["acknowledged"]
        at, which = find(probes, extents)
        return pick(waits, at), extents["sequence"][which] + extents["size"][which]

    def _begin_within(self, met: Met, skipped: NDArray[np.int64], later: NDArray[np.bool_]) -> bool:
        """Of those who were skipped, some may have been asked during an answer: what followed it is not that of later ones.

        Returns whether any was; if so, all that met wait again.
        """
        waits = pick(self._waiting.requests, skipped)
        places = np.isin(met.requests["place"], waits["place"])
        requests, answers = pick(met.requests, places), pick(met.answers, places)
        extents = extents_of(answers, requests["place"], sizes_of(requests["method"], answers))
        within, ends = self._within(waits, extents)
        passed = later & ~np.isin(waits["number"], within["number"])
        self._waiting.requests["passed"][skipped[passed]] = True
        if not len(within):
            return False
        self._waiting.add(join(met.requests, met.doubtful))
        self._begin(within, ends, told_apart=False)
        self._judge()
        return True

    def _begin(self, requests: NDArray[np.void], answered_from: NDArray[np.uint32], *, told_apart: bool) -> NDArray[np.void]:
        """Count answers of requests (n,), from there on. Later requests wait no more until it is known that they may.

        Returns the first ones on their connections.
        """
        first = earliest(requests)
        firsts, others = pick(requests, first), pick(requests, ~first)
        at, later = search_connections(firsts, self._waiting.requests)
        later[later] = ~after(firsts["sequence"][at[later]], self._waiting.requests["sequence"][later])
        if told_apart:
            later &= ~np.isin(self._waiting.requests["number"], firsts["number"])
        taken = self._waiting.take(later)
        taken = pick(taken, ~np.isin(taken["number"], requests["number"]))
        for at_first, where in zip(range(len(firsts)), answered_from[first].tolist(), strict=True):
            self._owed.begin(pick(firsts, slice(at_first, at_first + 1)), where, told_apart=told_apart)
        if not told_apart:
            self._mark(firsts)
        self._owed.ask(join(others, taken))
        return firsts

    def _judge(self) -> None:
        self._tell(self._owed.judge())

    def _tell(self, judged: Judged) -> None:
        self._not_told_apart(self._waiting.add(judged.clean))
        self._mark(judged.pipelined)
        if len(judged.lost) or len(judged.given_up):
            self._connections.pipeline(judged.given_up)
            self._not_told_apart(judged.lost)

    def _mark(self, requests: NDArray[np.void], *, broken: bool = False) -> None:
        """Say of requests that they were pipelined. broken: as nothing on their connections is told apart any more."""
        if len(requests):
            again = requests["number"][requests["begun"] == 1]
            again = again[self._store.stored(again)]
            again = again[(self._store.take(again, ("flags",))["flags"] & PIPELINED) != 0]
            self._counts["http: pipelined request"] += len(requests) - (0 if broken else len(again))
            self._flag(requests["number"])

    def _flag(self, numbers: NDArray[np.int64]) -> None:
        numbers = np.unique(numbers[self._store.stored(numbers)])
        if numbers.size:
            self._store.answer(numbers, {"flags": self._store.take(numbers, ("flags",))["flags"] | PIPELINED})
            self._waiting.requests["flags"][np.isin(self._waiting.requests["number"], numbers)] |= PIPELINED

    def _undo(self, requests: NDArray[np.void]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which requests (n,) expected an answer that another one got, and which were asked before that one: the pair is none."""
        paired = join(*self.paired)
        paired = pick(paired, np.argsort(paired["expects"], kind="stable"))
        at, found = search(paired["expects"], requests["expects"])
        others, before = pick(paired, at[found]), found.copy()
        before[found] = after(others["sequence"], requests["sequence"][found])
        wrong = others["number"][before[found]]
        columns = {"status": np.uint16(0), "answered": np.int64(0), "response_bytes": np.int64(-1), "flags": PIPELINED}
        rows = {name: np.full(len(wrong), value) for name, value in columns.items()}
        self._store.answer(wrong, rows | {"state": np.full(len(wrong), State.ASKED, np.uint8)})
        self._counts["http: pair undone"] += len(np.unique(wrong))
        return found, before

    def _not_told_apart(self, requests: NDArray[np.void]) -> None:
        """Say that nothing on these connections can be told apart any more. That it was not answered will not be said."""
        if len(requests):
            requests = join(requests, self._owed.drop(requests))
            self._connections.pipeline(requests)
            waited = self._waiting.take(self._waiting.of_connections(requests))
            self._mark(join(requests, pick(waited, (waited["flags"] & PIPELINED) == 0)), broken=True)
