"""HTTP/1: payloads that begin like requests and answers to rows of requests with their answers. Source: RFC 9110, RFC 9112."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flows.agent.l7 import http1_requests
from flows.agent.l7.copied import copied
from flows.agent.l7.events import Events, nothing, together
from flows.agent.l7.http1_answers import (
    ANSWER,
    ANSWER_WITH_HEADERS,
    MOST_INTERIM,
    SWITCHING,
    is_interim,
    read_all,
    sizes_of,
)
from flows.agent.l7.http1_connections import Connections, after, origin_of
from flows.agent.l7.http1_deferred import Asked, Deferred
from flows.agent.l7.http1_distinct import distinct
from flows.agent.l7.http1_extents import bounded
from flows.agent.l7.http1_held import Held
from flows.agent.l7.http1_limits import Limits
from flows.agent.l7.http1_pairing import MOST_WAITING, Waiting, requests_of
from flows.agent.l7.http1_pipelining import Pipelining
from flows.agent.l7.http1_recent import Recent
from flows.agent.l7.http1_rows import PAYLOAD, heads, join, pick
from flows.agent.l7.http1_sampling import Sampling
from flows.agent.l7.http_headers import appended, kept
from flows.agent.l7.masks import all_of, any_of, number
from flows.agent.probe.payload import SHORT_PAYLOAD, Origin, PayloadKind
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag, Kind, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.l7.http1_distinct import Some
    from flows.agent.l7.redact import Redaction
    from flows.agent.store.requests import RequestStore

TIMEOUT_NS: Final = 60 * 10**9  # nginx's, and most proxies', time to wait for an answer
LATE_FACTOR: Final = 10  # an answer that is later than so many timeouts is not waited for
PART_BYTES: Final = 2 << 20  # text looked at in one go: what is computed from it fits into the caches, whatever it is
PIPELINED, REDACTED = (number(flag, np.uint16) for flag in (Flag.PIPELINED, Flag.REDACTED))
IS_HTTP1, ANSWERED, NO_SIZE = number(Kind.HTTP1, np.uint8), number(State.ANSWERED, np.uint8), number(-1, np.int64)
KINDS: Final = [number(kind, np.uint8) for kind in (PayloadKind.HTTP_REQUEST, PayloadKind.HTTP_RESPONSE)]


class Http1:
    """Handler of HTTP_REQUEST and HTTP_RESPONSE."""

    def __init__(
        self, store: RequestStore, rules: Redaction, timeout_ns: int = TIMEOUT_NS, *, most_waiting: int = MOST_WAITING
    ) -> None:
        """most_waiting: requests without an answer that are remembered."""
        self._store, self._rules, self._timeout_ns = store, rules, timeout_ns
        self._answer_dtype = ANSWER_WITH_HEADERS if rules.keeps_headers else ANSWER
        self._waiting, self._recent, self._held = Waiting(most_waiting), Recent(), Held(self._answer_dtype)
        self._connections, self.sampling = Connections(), Sampling()
        self._counts: Counter[str] = Counter()
        self._pipelining = Pipelining(store, self._waiting, self._connections, self._counts)
        self._deferred = Deferred()
        self._limits = Limits(self._waiting, self._connections, self._counts)

    def counts(self) -> dict[str, int]:
        """See Handler."""
        return {name: count for name, count in self._counts.items() if count}

    def take(self, payloads: NDArray[np.void], to_wall_ns: int) -> Events:
        """See Handler."""
        self._connections.settle(self._recent.age())
        self._pipelining.begin_call()
        events = [nothing()]
        width = max(1, int(payloads["captured"].max(initial=0)))
        step = max(1, min(PART_BYTES // width, self._store.capacity))
        for begin in range(0, len(payloads), step):
            events += self._take(payloads[begin : begin + step], to_wall_ns)
        if not len(payloads):
            events.append(self._ask(self._deferred.take(), np.zeros(0, self._answer_dtype), to_wall_ns))
        self._deferred.end_call()
        events.append(self._resolve(to_wall_ns))
        return together(*events)

    def _take(self, payloads: NDArray[np.void], to_wall_ns: int) -> tuple[Events, Events]:
        """Of one part. Requests' and answers' texts are looked at together, for each step takes some time whatever it is of."""
        texts, kind = distinct(payloads), payloads["kind"]
        asked, answered = (texts.those((kind == each).nonzero()[0]) for each in KINDS)
        came = heads(payloads, answered.which)
        answers, others = read_all(came, answered, self._answer_dtype, self._rules)
        self._counts["http: not a status line"] += others
        if asked.which.size:
            requests = self._read(heads(payloads, asked.which), asked)
            due = self._deferred.with_due(requests, long=payloads.dtype.itemsize > SHORT_PAYLOAD.itemsize)
        else:
            due = self._deferred.take()
        return self._ask(due, answers, to_wall_ns), self._answer(answers, came, to_wall_ns)

    def expire(self, now_ns: int, to_wall_ns: int) -> Events:
        """See Handler."""
        asked, no_answers = nothing(), np.zeros(0, self._answer_dtype)
        if self._deferred.due:
            asked = self._ask(self._deferred.take(), no_answers, to_wall_ns)
            asked = together(asked, self._answer(no_answers, np.zeros(0, PAYLOAD), to_wall_ns))
        age = np.uint64(now_ns) - np.minimum(self._waiting.requests["time_ns"], np.uint64(now_ns))
        self._waiting.take(age > self._timeout_ns * LATE_FACTOR)
        age = age[age <= self._timeout_ns * LATE_FACTOR]
        over = self._waiting.take((age > self._timeout_ns) & ~self._waiting.requests["given_up"])
        unanswered = self._give_up(over, Flag(0))
        unanswered["given_up"] = True
        self._waiting.add(unanswered)
        resolved = self._resolve(to_wall_ns)
        return together(asked, resolved, _events(unanswered["number"], Event.NO_RESPONSE, np.uint64(now_ns)))

    def ended(self, connections: NDArray[np.uint64], time_ns: NDArray[np.uint64], to_wall_ns: int) -> Events:  # noqa: ARG002
        """See Handler."""
        self._pipelining.end(connections)
        order = np.argsort(connections, kind="stable")
        at = np.searchsorted(connections[order], self._waiting.requests["conn_id"])
        at = order[np.minimum(at, len(order) - 1)] if len(order) else at
        here = connections[at] == self._waiting.requests["conn_id"] if len(order) else np.zeros(len(at), bool)
        over, times = self._waiting.take(here), time_ns[at[here]]
        times, over = times[~over["given_up"]], pick(over, ~over["given_up"])
        unseen = self._unseen(over)
        unanswered = self._give_up(over, Flag.CONNECTION_END)
        return _events(unanswered["number"], Event.NO_RESPONSE, times[~unseen])

    def paused(self, origin: Origin) -> None:
        """What is read there was not read for a while: what waits may have been answered."""
        over = self._waiting.take(origin_of(self._waiting.requests["link"]) == origin)
        self._counts["http: answer not seen"] += int((~over["given_up"]).sum())

    def _read(self, payloads: NDArray[np.void], some: Some) -> Asked:
        """What begins like a request: PAYLOAD (n,) with their texts."""
        read = http1_requests.read(some.text, some.rows, self._rules)
        rows, which = some.all_with(read.row)
        read = http1_requests.Heads._make(column.take(which, axis=0) for column in read)._replace(row=rows)
        self._counts["http: not a request line"] += len(payloads) - len(rows)
        if len(rows) < len(payloads):
            payloads = pick(payloads, rows)
        requests = requests_of(payloads, read, self._connections)
        headers = None
        if self._rules.keeps_headers:
            headers, redacted = kept(some.text, some.of[rows], self._rules)
            requests["flags"] |= redacted * REDACTED
        return Asked(payloads, requests, read, headers)

    def _ask(self, asked: Asked | None, answers: NDArray[np.void], to_wall_ns: int) -> Events:
        """Store requests, if there are any; answers: those that came with them."""
        if asked is None:
            return nothing()
        requests = asked.requests
        known, own = self._connections.ask(requests)
        http = self._limits.are_http(requests, known, own, answers, asked.payloads["length"])
        if http is not None:
            asked, known, own = asked.pick(http), pick(known, http), own[http]
        new = self._is_new(asked.requests, known, own)
        if not all_of(new):
            asked, known, own = asked.pick(new), pick(known, new), own[new]
        payloads, requests, read, headers = asked
        requests["flags"] |= (own & known["pipelines"]) * PIPELINED
        rows: dict[str, NDArray[Any]] = copied(payloads) | {
            "time": requests["time_ns"].astype(np.int64) + to_wall_ns,
            "kind": IS_HTTP1,
            "request_bytes": payloads["length"],
            "response_bytes": NO_SIZE,
            "flags": requests["flags"], "method": read.method, "version": read.version, "text": read.text, "host": read.host,
        }  # fmt: skip
        if headers is not None:
            rows["headers"] = headers
        requests["number"] = self._store.add(rows)
        self._pipelining.wait(requests, known, own)
        self._counts["http: too many waiting"] = self._waiting.dropped
        return _events(requests["number"], Event.REQUEST, requests["time_ns"])

    def _is_new(self, requests: NDArray[np.void], known: NDArray[np.void], own: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Not sent again; bool (n,). known, own: what is remembered of their connections."""
        new = self._recent.add(requests)
        old = own & known["settled"] & ~after(requests["sequence"], known["sequence"])
        if any_of(old):
            # Packets of pipelined requests may arrive in another order; what is sent again expects what nobody else does.
            new &= ~old | self._waiting.others(requests)
        self._counts["http: request again"] += len(new) - int(np.count_nonzero(new))
        return new

    def _answer(self, answers: NDArray[np.void], payloads: NDArray[np.void], to_wall_ns: int) -> Events:
        """Pair answers, those that were held before with them."""
        answers = self._pipelining.feed(self._held.with_new(answers))
        answers = self._move_on(answers)
        answers, met = self._pipelining.meet(answers)
        self._counts["http: answer again"] += int(np.count_nonzero(met.repeated))
        left = is_interim(answers)
        left[~left] = met.left
        rest = pick(answers, left)
        if len(rest):
            rest = self._limits.not_in_bodies(rest, met)
        events = self._complete(met.requests, met.answers, to_wall_ns)
        if len(rest):
            rest = self._limits.not_over(rest)
        self._held.keep(rest, payloads)
        return events

    def _move_on(self, answers: NDArray[np.void]) -> NDArray[np.void]:
        """Leave interim answers out whose requests wait on; bounded, as each of them is met once."""
        for _ in range(MOST_INTERIM):
            interim = is_interim(answers).nonzero()[0]
            moved = interim[self._waiting.move(pick(answers, interim))] if interim.size else interim
            if not moved.size:
                break
            self._pipelining.share(self._waiting.take_shared())  # asked before the final answer, so they expect the same now
            self._counts["http: interim answer"] += moved.size
            left = np.ones(len(answers), bool)
            left[moved] = False
            answers = pick(answers, left)
        return answers

    def _complete(self, requests: NDArray[np.void], answers: NDArray[np.void], to_wall_ns: int) -> Events:
        """Store pairs."""
        if not len(requests):
            return nothing()
        flags = requests["flags"] | answers["flags"]
        switching = answers["status"] == SWITCHING
        for which, flag in ((requests["given_up"], Flag.LATE), (switching, Flag.UPGRADED)):
            if any_of(which):
                flags[which] |= np.uint16(flag)
        sizes = sizes_of(requests["method"], answers)
        announced = bounded(sizes)
        unsized = ((sizes < 0) & ((requests["flags"] & PIPELINED) == 0)).nonzero()[0]
        if unsized.size:
            acknowledged, seen = self._recent.following(pick(answers, unsized))
            begins = answers["sequence"][unsized]
            sizes[unsized] = np.where(seen, acknowledged - begins, sizes[unsized])
        rows: dict[str, NDArray[Any]] = {
            "answered": answers["time_ns"].astype(np.int64) + to_wall_ns,
            "state": ANSWERED,
            "status": answers["status"], "flags": flags, "response_bytes": sizes,
        }  # fmt: skip
        numbers = requests["number"]
        self._pipelining.paired[-1] = join(self._pipelining.paired[-1], requests)
        self._store.answer(numbers, rows)
        if self._rules.keeps_headers:
            here = self._store.stored(numbers)
            before = self._store.take(numbers[here], ("headers",))["headers"]
            self._store.answer(numbers[here], {"headers": appended(before, answers["headers"][here])})
        self._connections.answer(answers, requests, announced)
        if any_of(switching):
            self._limits.upgrade(pick(answers, switching))
        return _events(numbers, Event.RESPONSE, answers["time_ns"])

    def _resolve(self, to_wall_ns: int) -> Events:
        """Answers that were held long enough: alone if no request was seen on their connection."""
        self._pipelining.age()
        answers, payloads = self._held.age()
        self._counts["http: too many answers held"] = self._held.dropped
        if not len(answers):
            return nothing()
        at, own = self._connections.find(answers)
        again = own & self._connections.get(at, "answered") & ~after(answers["sequence"], self._connections.get(at, "answer"))
        again &= ~answers["owed"]
        pipelined = (own & self._connections.get(at, "pipelines") & ~again) | answers["owed"]
        interim = is_interim(answers)
        alone = ~again & ~interim & (pipelined | ~(own & self._connections.get(at, "asked")))
        self._counts["http: answer again"] += int(again.sum())
        self._counts["http: interim answer without its request"] += int((interim & ~again).sum())
        self._counts["http: answer without its request"] += int((~again & ~interim & ~alone).sum())
        flags = answers["flags"] | np.where(pipelined, PIPELINED, np.uint16(0)) | np.uint16(Flag.HOST_UNKNOWN)
        flags |= np.where(answers["status"] == SWITCHING, np.uint16(Flag.UPGRADED), np.uint16(0))
        switching = pick(answers, alone & (answers["status"] == SWITCHING))
        if len(switching):
            self._limits.upgrade(switching)
        return self._alone(pick(answers, alone), pick(payloads, alone), flags[alone], to_wall_ns)

    def _alone(self, answers: NDArray[np.void], payloads: NDArray[np.void], flags: NDArray[np.uint16], to_wall_ns: int) -> Events:
        """Store answers without requests."""
        events = [nothing()]
        for begin in range(0, len(answers), self._store.capacity):
            part = slice(begin, begin + self._store.capacity)
            some = pick(answers, part)
            rows = copied(pick(payloads, part), answers=True) | {
                "answered": some["time_ns"].astype(np.int64) + to_wall_ns,
                "kind": np.full(len(some), Kind.HTTP1, np.uint8),
                "state": np.full(len(some), State.ALONE, np.uint8),
                "flags": flags[part], "version": some["version"], "status": some["status"],
                "response_bytes": sizes_of(np.zeros(len(some), np.uint8), some),
            }  # fmt: skip
            if self._rules.keeps_headers:
                rows["headers"] = some["headers"]
            events.append(_events(self._store.add(rows), Event.RESPONSE, some["time_ns"]))
        return together(*events)

    def _unseen(self, requests: NDArray[np.void]) -> NDArray[np.bool_]:
        """Which of those without an answer (n,) may have got one that nobody saw; bool (n,)."""
        return self.sampling.may_hide(requests) | self._connections.is_past(requests, requests["acknowledged"])

    def _give_up(self, requests: NDArray[np.void], flag: Flag) -> NDArray[np.void]:
        """Say that requests were not answered, but of those whose answers may just not have been seen. Returns the former."""
        unseen = self._unseen(requests)
        self._counts["http: answer not seen"] += int(unseen.sum())
        unanswered = pick(requests, ~unseen)
        unanswered["flags"] |= np.uint16(flag)
        state = np.full(len(unanswered), State.UNANSWERED, np.uint8)
        self._store.answer(unanswered["number"], {"state": state, "flags": unanswered["flags"]})
        return unanswered


def _events(numbers: NDArray[np.int64], event: Event, time_ns: NDArray[np.uint64] | np.uint64) -> Events:
    events, times = np.full(len(numbers), event, np.uint8), np.empty(len(numbers), np.uint64)
    times[:] = time_ns
    return Events(numbers.copy(), events, times)
