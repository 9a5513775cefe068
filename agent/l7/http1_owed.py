"""What connections owe whose requests were pipelined, and which request is the first one after that which can be told apart.

Answers come in the order of requests (RFC 9112, section 9.3.2). A request is told apart again if as many final answers began
before what it acknowledges as requests were sent before it: then none is to come that is not its own. Counted by place in the
streams, so it does not matter in which order or in how many calls they are brought. Sizes of answers, where known, must agree.

Only for connections that pipeline, one by one: on others nothing of this runs.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np

from flows.agent.l7.http1_answers import CONNECT, HEAD, is_interim, sizes_of
from flows.agent.l7.http1_held import CALLS
from flows.agent.l7.http1_pairing import REQUEST
from flows.agent.l7.http1_rows import join

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_CONNECTIONS: Final = 4_096
MOST_OF_ONE: Final = 512  # requests and answers; browsers that pipelined had at most eight requests at a time
UNKNOWN: Final = -1

Key: TypeAlias = tuple[int, int]  # conn_id and link


class Judged(NamedTuple):
    """Requests, REQUEST (k,) each. clean: told apart; pipelined: not, or not from one that was told apart before.

    lost: of connections on which nothing can be told apart any more, what was open; given_up: one of each such connection.
    """

    clean: NDArray[np.void]
    pipelined: NDArray[np.void]
    lost: NDArray[np.void]
    given_up: NDArray[np.void]


@dataclass(slots=True)
class _Asked:
    """A packet of `count` requests, 0: not known. All places are relative to where the debt began."""

    begin: int
    end: int  # UNKNOWN: of its body, or head
    expects: int
    count: int
    trusts: bool  # whether the sizes of answers are as their heads say
    request: NDArray[np.void]
    open: bool = True  # nothing was said of it yet
    calls: int = 0


@dataclass(slots=True)
class _Debt:
    """Of one connection. first: the request that answers are counted from."""

    asked_from: int
    answered_from: int
    first: _Asked
    clean: bool = False  # `first` can be told apart, and nobody shares its answer
    asked: list[_Asked] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)  # where final ones begin and end
    interim: dict[int, int] = field(default_factory=dict)
    unsure: bool = False  # records are missing, or still to come
    dirty: bool = True
    waits: bool = False  # `first` is not known here alone

    def take_over(self, other: _Debt) -> None:
        """Count also what was counted from a later request on; that one, if it waits, is asked anew."""
        asked, answered = (
            _distance(*ends) for ends in ((other.asked_from, self.asked_from), (other.answered_from, self.answered_from))
        )
        for one in other.asked if other.waits else [other.first, *other.asked]:
            one.begin, one.end, one.expects = one.begin + asked, _moved(one.end, asked), one.expects + answered
            self.asked.append(one)
        for mine, theirs in ((self.answers, other.answers), (self.interim, other.interim)):
            mine |= {start + answered: _moved(end, answered) for start, end in theirs.items()}

    def judge(self, clean: list[NDArray[np.void]], pipelined: list[NDArray[np.void]]) -> None:
        """Say what can be said of requests."""
        self.dirty = False
        while self._step(clean, pipelined):
            pass

    def _step(self, clean: list[NDArray[np.void]], pipelined: list[NDArray[np.void]]) -> bool:
        """Look at all requests. Returns whether one could be told apart, so that it is the first one now."""
        self.unsure = False
        starts, ends = self._places()
        owed, last = self.first.count, self.first
        for one in sorted(self.asked, key=lambda one: one.begin):
            begun = bisect_left(starts, one.expects)
            if one.expects <= last.expects:
                self._shares(one, last, pipelined)
            if last.end != one.begin or begun > owed:
                self.unsure = True
                return False
            end = self._after_interim(ends[begun - 1]) if begun else 0
            if one.expects > last.expects and begun == owed and end in (UNKNOWN, one.expects):
                self._begin_with(one, clean, pipelined)
                return True
            if begun == owed and one.expects < end:
                _say(one, pipelined)
            owed, last = owed + one.count, one
        return False

    def _places(self) -> tuple[list[int], list[int]]:
        """Where answers begin and end, without what is in the body of another one."""
        starts, ends, end = list[int](), list[int](), UNKNOWN
        trusted = self.first.trusts and all(one.trusts for one in self.asked)
        for start in sorted(self.answers):
            if start >= end:
                end = self.answers[start] if trusted else UNKNOWN
                starts.append(start)
                ends.append(end)
        return starts, ends

    def _after_interim(self, end: int) -> int:
        for _ in range(len(self.interim)):
            if end == UNKNOWN or end not in self.interim:
                break
            end = self.interim[end]
        return end

    def _shares(self, one: _Asked, other: _Asked, pipelined: list[NDArray[np.void]]) -> None:
        """One expects what another one does, or was sent before it in spite of its place."""
        _say(one, pipelined)
        if other is self.first and self.clean:
            pipelined.append(other.request)
            self.clean = False

    def _begin_with(self, one: _Asked, clean: list[NDArray[np.void]], pipelined: list[NDArray[np.void]]) -> None:
        """All before this one is paid."""
        for other in self.asked:
            if other.begin < one.begin:
                _say(other, pipelined)
        self.first, self.clean = one, one.count == 1
        self.waits = self.clean
        self.asked = [other for other in self.asked if other.begin > one.begin]
        self.answers = {start: end for start, end in self.answers.items() if start >= one.expects}
        self.interim = {start: end for start, end in self.interim.items() if start >= one.expects}
        if one.open:
            one.open = False
            (clean if self.clean else pipelined).append(one.request)

    def age(self, pipelined: list[NDArray[np.void]]) -> bool:
        """End a call. Of what has been open for long no more is to come. Returns whether the connection is to be given up."""
        for one in self.asked:
            one.calls += one.open
            if one.open and one.calls > CALLS:
                if self.unsure:
                    return True
                _say(one, pipelined)
        return False


def _say(one: _Asked, pipelined: list[NDArray[np.void]]) -> None:
    if one.open:
        one.open = False
        pipelined.append(one.request)


class Owed:
    """Debts by connection."""

    def __init__(self, most: int = MOST_CONNECTIONS) -> None:
        """most: connections; with those beyond that nothing is told apart any more."""
        self._debts: dict[Key, _Debt] = {}
        self._most = most
        self._lost: list[NDArray[np.void]] = []
        self._given_up: list[NDArray[np.void]] = []

    def __len__(self) -> int:
        return len(self._debts)

    def of(self, rows: NDArray[np.void]) -> NDArray[np.bool_]:
        """Which rows, with conn_id and link, are of connections that owe; bool (n,)."""
        mask = np.zeros(len(rows), bool)
        if self._debts and len(rows):
            maybe = np.isin(rows["conn_id"], np.array([conn_id for conn_id, _ in self._debts], np.uint64)).nonzero()[0]
            mask[maybe] = [key in self._debts for key in _keys(rows, maybe)]
        return mask

    def begin(self, first: NDArray[np.void], answered_from: int, *, told_apart: bool) -> None:
        """A debt: of a REQUEST (1,), whose answers begin there, or later. told_apart: its own answer is the first one."""
        key = (int(first["conn_id"][0]), int(first["link"][0]))
        older = self._debts.get(key)
        if older is not None and _distance(int(first["sequence"][0]), older.asked_from + older.first.begin) > 0:
            self.ask(first)
            return
        if (older is None and len(self._debts) >= self._most) or not first["begun"][0]:
            self._lost.append(first)
            return
        sequence = int(first["sequence"][0])
        one = _asked(first, sequence, answered_from)
        one.open = False
        debt = _Debt(sequence, answered_from, one, clean=told_apart, waits=told_apart)
        if older is not None:
            debt.take_over(older)
        self._debts[key] = debt

    def ask(self, requests: NDArray[np.void]) -> None:
        """Requests (n,) of connections that owe, or of such as could not."""
        for at, key in enumerate(_keys(requests, np.arange(len(requests)))):
            debt, one = self._debts.get(key), requests[at : at + 1].copy()
            if debt is None:
                self._lost.append(one)
                continue
            asked = _asked(one, debt.asked_from, debt.answered_from)
            debt.asked.append(asked)
            debt.dirty = True
            # What was sent before the first one and comes after it shows that answers were not counted from the first one on.
            if (
                sum(map(len, (debt.asked, debt.answers, debt.interim))) > MOST_OF_ONE
                or not asked.count
                or asked.begin < debt.first.begin
            ):
                self._forget(key)

    def answer(self, answers: NDArray[np.void]) -> NDArray[np.bool_]:
        """Answers (n,) of connections that owe: `owed` is set of those that count. Returns which were seen before; bool (n,)."""
        again = np.zeros(len(answers), bool)
        interim, sizes = is_interim(answers), sizes_of(np.zeros(len(answers), np.uint8), answers)
        sizes[interim] = np.where(answers["head"] >= 0, answers["head"], answers["length"])[interim]
        for at, key in enumerate(_keys(answers, np.arange(len(answers)))):
            debt = self._debts.get(key)
            start = _distance(int(answers["sequence"][at]), debt.answered_from) if debt else UNKNOWN
            if debt is None or start < 0:
                continue
            known = debt.interim if interim[at] else debt.answers
            again[at] = start in known
            answers["owed"][at] = True
            known[start] = start + int(sizes[at]) if sizes[at] >= 0 else UNKNOWN
            debt.dirty = True
            if sum(map(len, (debt.asked, debt.answers, debt.interim))) > MOST_OF_ONE:
                self._forget(key)
        return again

    def judge(self) -> Judged:
        """What can be said now."""
        clean: list[NDArray[np.void]] = []
        pipelined: list[NDArray[np.void]] = []
        for key, debt in list(self._debts.items()):
            if debt.dirty:
                debt.judge(clean, pipelined)
                if debt.clean and not debt.asked:
                    del self._debts[key]
        return self._judged(clean, pipelined)

    def age(self) -> Judged:
        """End a call."""
        pipelined: list[NDArray[np.void]] = []
        for key, debt in list(self._debts.items()):
            if debt.age(pipelined):
                self._forget(key)
        return self._judged([], pipelined)

    def end(self, connections: NDArray[np.uint64]) -> Judged:
        """Connections (n,) ended: of what is open on them no more is to come."""
        pipelined: list[NDArray[np.void]] = []
        over = set(connections.tolist()) if self._debts else set[int]()
        for key in [key for key in self._debts if key[0] in over]:
            for one in self._debts.pop(key).asked:
                _say(one, pipelined)
        return self._judged([], pipelined)

    def drop(self, rows: NDArray[np.void]) -> NDArray[np.void]:
        """Nothing on these connections is told apart any more. Returns what was open, REQUEST (k,)."""
        if self._debts:
            for key in {key for key in _keys(rows, np.arange(len(rows))) if key in self._debts}:
                self._forget(key)
        return self._judged([], []).lost

    def _forget(self, key: Key) -> None:
        debt = self._debts.pop(key)
        self._lost += [one.request for one in debt.asked if one.open]
        self._given_up.append(debt.first.request)

    def _judged(self, clean: list[NDArray[np.void]], pipelined: list[NDArray[np.void]]) -> Judged:
        lost, self._lost, given_up, self._given_up = self._lost, [], self._given_up, []
        return Judged(*(join(np.zeros(0, REQUEST), *rows) for rows in (clean, pipelined, lost, given_up)))


def _asked(request: NDArray[np.void], asked_from: int, answered_from: int) -> _Asked:
    one = request[0]
    begin, size, count = _distance(int(one["sequence"]), asked_from), int(one["size"]), int(one["begun"])
    expects = _distance(int(one["acknowledged"]), answered_from)
    trusts = count == 1 and int(one["method"]) not in (HEAD, CONNECT)
    return _Asked(begin, begin + size if size else UNKNOWN, expects, count, trusts, request)


def _moved(end: int, by: int) -> int:
    return end + by if end != UNKNOWN else UNKNOWN


def _keys(rows: NDArray[np.void], at: NDArray[np.int64]) -> list[Key]:
    return list(zip(rows["conn_id"][at].tolist(), rows["link"][at].tolist(), strict=True))


def _distance(one: int, other: int) -> int:
    """How far it is beyond the other one (RFC 9293, section 3.4: modulo 2^32)."""
    return (one - other + (1 << 31)) % (1 << 32) - (1 << 31)
