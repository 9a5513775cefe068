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
from flows.agent.l7.http1_connections import Connections, after, key
from flows.agent.l7.http1_distinct import distinct
from flows.agent.l7.http1_extents import bounded, extents_of, inside, is_inside, outermost
from flows.agent.l7.http1_headers import appended, kept
from flows.agent.l7.http1_held import Held
from flows.agent.l7.http1_pairing import MOST_WAITING, Met, Recent, Waiting, requests_of, search_connections
from flows.agent.l7.http1_pipelining import Pipelining
from flows.agent.l7.http1_rows import join, pick
from flows.agent.probe.payload import PayloadKind
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag, Kind, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.l7.redact import Redaction
    from flows.agent.store.requests import RequestStore

TIMEOUT_NS: Final = 60 * 10**9  # nginx's, and most proxies', time to wait for an answer
LATE_FACTOR: Final = 10  # an answer that is later than so many timeouts is not waited for
PART_BYTES: Final = 2 << 20  # text looked at in one go: what is computed from it fits into the caches, whatever it is
PIPELINED: Final = np.uint16(Flag.PIPELINED)


class Http1:
    """Handler of HTTP_REQUEST and HTTP_RESPONSE."""

    def __init__(
        self, store: RequestStore, rules: Redaction, timeout_ns: int = TIMEOUT_NS, *, most_waiting: int = MOST_WAITING
    ) -> None:
        """most_waiting: requests without an answer that are remembered."""
        self._store, self._rules, self._timeout_ns = store, rules, timeout_ns
        self._answer_dtype = ANSWER_WITH_HEADERS if rules.keeps_headers else ANSWER
        self._waiting, self._recent, self._held = Waiting(most_waiting), Recent(), Held(self._answer_dtype)
        self._connections = Connections()
        self._counts: Counter[str] = Counter()
        self._pipelining = Pipelining(store, self._waiting, self._connections, self._counts)

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
            part = payloads[begin : begin + step]
            answered = pick(part, part["kind"] == PayloadKind.HTTP_RESPONSE)
            answers, others = read_all(answered, self._answer_dtype, self._rules)
            self._counts["http: not a status line"] += others
            events.append(self._ask(pick(part, part["kind"] == PayloadKind.HTTP_REQUEST), answers, to_wall_ns))
            events.append(self._answer(answers, answered, to_wall_ns))
        events.append(self._resolve(to_wall_ns))
        return together(*events)

    def expire(self, now_ns: int, to_wall_ns: int) -> Events:
        """See Handler."""
        age = np.uint64(now_ns) - np.minimum(self._waiting.requests["time_ns"], np.uint64(now_ns))
        self._waiting.take(age > self._timeout_ns * LATE_FACTOR)
        age = age[age <= self._timeout_ns * LATE_FACTOR]
        over = self._waiting.take((age > self._timeout_ns) & ~self._waiting.requests["given_up"])
        unanswered = self._give_up(over, Flag(0))
        unanswered["given_up"] = True
        self._waiting.add(unanswered)
        resolved = self._resolve(to_wall_ns)
        return together(resolved, _events(unanswered["number"], Event.NO_RESPONSE, np.uint64(now_ns)))

    def ended(self, connections: NDArray[np.uint64], time_ns: NDArray[np.uint64], to_wall_ns: int) -> Events:  # noqa: ARG002
        """See Handler."""
        self._pipelining.end(connections)
        order = np.argsort(connections, kind="stable")
        at = np.searchsorted(connections[order], self._waiting.requests["conn_id"])
        at = order[np.minimum(at, len(order) - 1)] if len(order) else at
        here = connections[at] == self._waiting.requests["conn_id"] if len(order) else np.zeros(len(at), bool)
        over, times = self._waiting.take(here), time_ns[at[here]]
        times, over = times[~over["given_up"]], pick(over, ~over["given_up"])
        past = self._connections.is_past(over, over["acknowledged"])
        unanswered = self._give_up(over, Flag.CONNECTION_END)
        return _events(unanswered["number"], Event.NO_RESPONSE, times[~past])

    def _ask(self, payloads: NDArray[np.void], answers: NDArray[np.void], to_wall_ns: int) -> Events:
        """Store requests; answers: those that came with them."""
        if not len(payloads):
            return nothing()
        texts = distinct(payloads)
        read = http1_requests.read(texts.text, self._rules)
        rows_with, which = texts.all_with(read.row)
        read = http1_requests.Heads._make(column[which] for column in read)._replace(row=rows_with)
        self._counts["http: not a request line"] += len(payloads) - len(read.row)
        requests = requests_of(payloads, read, self._connections)
        known, own = self._connections.ask(requests)
        if len(read.row) < len(payloads):
            payloads = pick(payloads, read.row)
        kept_rows = self._are_http(requests, known, own, answers, payloads["length"])
        for mask in (kept_rows, None):
            new = self._is_new(requests, known, own) if mask is None else mask
            if not new.all():
                requests, read = pick(requests, new), http1_requests.Heads._make(column[new] for column in read)
                known, own, payloads = pick(known, new), own[new], pick(payloads, new)
        requests["flags"] |= (own & known["pipelines"]) * PIPELINED
        rows: dict[str, NDArray[Any]] = copied(payloads) | {
            "time": requests["time_ns"].astype(np.int64) + to_wall_ns,
            "kind": np.full(len(requests), Kind.HTTP1, np.uint8),
            "request_bytes": payloads["length"],
            "response_bytes": np.full(len(requests), -1),
            "flags": requests["flags"], "method": read.method, "version": read.version, "text": read.text, "host": read.host,
        }  # fmt: skip
        if self._rules.keeps_headers:
            rows["headers"] = kept(texts.text, texts.of[read.row], self._rules)
        requests["number"] = self._store.add(rows)
        self._pipelining.wait(requests, known, own)
        self._counts["http: too many waiting"] = self._waiting.dropped
        return _events(requests["number"], Event.REQUEST, requests["time_ns"])

    def _is_new(self, requests: NDArray[np.void], known: NDArray[np.void], own: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Not sent again; bool (n,). known, own: what is remembered of their connections."""
        new = self._recent.add(requests)
        old = own & known["settled"] & ~after(requests["sequence"], known["sequence"])
        if old.any():
            # Packets of pipelined requests may arrive in another order; what is sent again expects what nobody else does.
            new &= ~old | self._waiting.others(requests)
        self._counts["http: request again"] += int((~new).sum())
        return new

    def _are_http(
        self,
        requests: NDArray[np.void],
        known: NDArray[np.void],
        own: NDArray[np.bool_],
        answers: NDArray[np.void],
        lengths: NDArray[np.uint32],
    ) -> NDArray[np.bool_]:
        """Neither in a request's body nor after an upgrade; bool (n,). lengths: bytes of their packets (n,)."""
        body = own & is_inside(requests["sequence"], known["body"], known["body_size"])
        goes_on = (requests["size"] > lengths) & ~body
        over = own & known["upgraded"]
        over[over] = after(requests["acknowledged"][over], known["answer"][over])
        over |= self._follow_upgrade(requests, answers)
        if goes_on.any():
            long = pick(requests, goes_on & ~over)
            extents = outermost(extents_of(long, long["place"], long["size"].astype(np.int64)))
            body |= inside(requests, extents)
            self._connections.send_body(extents)
        self._counts["http: body that looks like a request"] += int((body & ~over).sum())
        self._counts["http: after an upgrade"] += int(over.sum())
        http: NDArray[np.bool_] = ~(body | over)
        return http

    def _follow_upgrade(self, requests: NDArray[np.void], answers: NDArray[np.void]) -> NDArray[np.bool_]:
        """Which requests (n,) acknowledge a part of an answer that came with them and that ends HTTP; bool (n,)."""
        switching = pick(answers, answers["status"] == SWITCHING)
        mask = np.zeros(len(requests), bool)
        if len(switching):
            expected = np.concatenate((requests["expects"], self._waiting.requests["expects"]))
            switching = pick(switching, np.isin(key(switching["conn_id"], switching["link"], switching["sequence"]), expected))
            at, mask = search_connections(switching, requests)
            mask[mask] = after(requests["acknowledged"][mask], switching["sequence"][at[mask]])
        return mask

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
            rest = self._not_in_bodies(rest, met)
        events = self._complete(met.requests, met.answers, to_wall_ns)
        if len(rest):
            over = self._connections.is_over(rest)
            self._counts["http: after an upgrade"] += int(over.sum())
            rest = pick(rest, ~over)
        self._held.keep(rest, payloads)
        return events

    def _not_in_bodies(self, answers: NDArray[np.void], met: Met) -> NDArray[np.void]:
        """Answers (n,) that met no request, without those in bodies of others: of those that did, and of the newest before."""
        places = self._connections.places(answers["conn_id"], answers["link"])
        maybe = np.isin(met.requests["place"], places)
        requests, others = pick(met.requests, maybe), pick(met.answers, maybe)
        extents = extents_of(others, requests["place"], sizes_of(requests["method"], others))
        probes = extents_of(answers, places)
        body = inside(probes, outermost(extents)) | inside(probes, self._connections.last_answers(answers))
        self._counts["http: body that looks like an answer"] += int(body.sum())
        return pick(answers, ~body)

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
        flags |= requests["given_up"] * np.uint16(Flag.LATE)
        flags |= (answers["status"] == SWITCHING) * np.uint16(Flag.UPGRADED)
        sizes = sizes_of(requests["method"], answers)
        unsized = (sizes < 0).nonzero()[0]
        if unsized.size:
            acknowledged, seen = self._recent.following(pick(answers, unsized))
            begins = answers["sequence"][unsized]
            sizes[unsized] = np.where(seen, acknowledged - begins, sizes[unsized])
        rows: dict[str, NDArray[Any]] = {
            "answered": answers["time_ns"].astype(np.int64) + to_wall_ns,
            "state": np.full(len(answers), State.ANSWERED, np.uint8),
            "status": answers["status"], "flags": flags, "response_bytes": sizes,
        }  # fmt: skip
        numbers = requests["number"]
        self._pipelining.paired[-1] = join(self._pipelining.paired[-1], requests)
        self._store.answer(numbers, rows)
        if self._rules.keeps_headers:
            here = self._store.stored(numbers)
            before = self._store.take(numbers[here], ("headers",))["headers"]
            self._store.answer(numbers[here], {"headers": appended(before, answers["headers"][here])})
        self._connections.answer(answers, requests, bounded(sizes))
        switching = pick(answers, answers["status"] == SWITCHING)
        if len(switching):
            self._upgrade(switching)
        return _events(numbers, Event.RESPONSE, answers["time_ns"])

    def _upgrade(self, answers: NDArray[np.void]) -> None:
        """HTTP/1 ends with these answers (n,): requests that were taken for such before they came wait no more."""
        self._connections.upgrade(answers)
        at, over = search_connections(answers, self._waiting.requests)
        over[over] = after(self._waiting.requests["acknowledged"][over], answers["sequence"][at[over]])
        self._counts["http: after an upgrade"] += len(self._waiting.take(over))

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
            self._upgrade(switching)
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

    def _give_up(self, requests: NDArray[np.void], flag: Flag) -> NDArray[np.void]:
        """Say that requests were not answered, but of those on whose connections a later answer was seen. Returns the former."""
        past = self._connections.is_past(requests, requests["acknowledged"])
        self._counts["http: answer not seen"] += int(past.sum())
        unanswered = pick(requests, ~past)
        unanswered["flags"] |= np.uint16(flag)
        state = np.full(len(unanswered), State.UNANSWERED, np.uint8)
        self._store.answer(unanswered["number"], {"state": state, "flags": unanswered["flags"]})
        return unanswered


def _events(numbers: NDArray[np.int64], event: Event, time_ns: NDArray[np.uint64] | np.uint64) -> Events:
    events, times = np.full(len(numbers), event, np.uint8), np.empty(len(numbers), np.uint64)
    times[:] = time_ns
    return Events(numbers.copy(), events, times)
