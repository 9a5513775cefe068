"""Requests: first bytes to flows. Each protocol's handler pairs and stores; what became of requests turns into records."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

from flows.agent.l7.dns import Dns
from flows.agent.l7.dns_names import AnsweredNames
from flows.agent.l7.events import nothing, together
from flows.agent.l7.http1 import Http1
from flows.agent.l7.http1_rows import copy, pick
from flows.agent.l7.http2 import Http2
from flows.agent.l7.masks import all_of, any_of, number
from flows.agent.l7.sockets import Sockets
from flows.agent.l7.tls import TlsHello
from flows.agent.probe.batch import Batch, joined
from flows.agent.probe.payload import Origin, PayloadKind, wipe
from flows.agent.probe.record import Event, Initiator
from flows.agent.store.public_names import NameSource, detail, number_of, public_name
from flows.agent.store.request_columns import Kind
from flows.agent.store.store import Told
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from flows.agent.l7.events import Events, Handler
    from flows.agent.l7.redact import Redaction
    from flows.agent.probe.batch import Records
    from flows.agent.store.requests import RequestStore

TCP: Final = 6
IS_HTTP: Final = np.isin(np.arange(256), (Kind.HTTP1, Kind.HTTP2, Kind.GRPC))
INITIATORS: Final = np.array([Initiator.REMOTE, Initiator.LOCAL], np.uint8)  # by `client`
DNS, REQUEST, HELLO, PACKET = (number(each, np.uint8) for each in (Kind.DNS, Event.REQUEST, Event.HELLO, Origin.PACKET))
ENDS: Final = (Event.CLOSED, Event.RESET, Event.TIMED_OUT)
# What the first bytes of a connection say of it, by PayloadKind.
SPOKEN: Final = np.array(
    [
        extension_pb2.SPOKEN_UNKNOWN, extension_pb2.SPOKEN_HTTP1, extension_pb2.SPOKEN_HTTP1, extension_pb2.SPOKEN_HTTP2,
        extension_pb2.SPOKEN_DNS, extension_pb2.SPOKEN_TLS, extension_pb2.SPOKEN_HTTP2,
    ],
    np.uint8,
)  # fmt: skip
# By PayloadKind the place of its handler; -1: it has none.
HANDLER: Final = np.full(256, -1, np.int8)
HANDLER[[PayloadKind.HTTP_REQUEST, PayloadKind.HTTP_RESPONSE]] = 0
HANDLER[[PayloadKind.HTTP2, PayloadKind.HTTP2_MORE]] = 1
HANDLER[PayloadKind.DNS] = 2
HANDLER[PayloadKind.TLS_HELLO] = 3
SHARED: Final = (
    "conn_id",
    "cgroup_id",
    "local_addr",
    "remote_addr",
    "comm",
    "pid",
    "netns",
    "local_port",
    "remote_port",
    "protocol",
)


NOTHING_TOLD: Final = Told(np.zeros(0, np.uint64), np.zeros(0, np.uint8), np.zeros(0, np.uint32))
SLACK_NS: Final = 20_000_000  # as of observer/fresh.py: by so much watermarks are behind the last look at the kernel
EXPIRE_NS: Final = 500_000_000  # how often to look for what has waited too long


class Read(NamedTuple):
    """A batch of n records: connections' as they came, then those of requests; details (n,) as the store keeps them.

    told: what is news of connections that may be in earlier batches.
    """

    records: Records
    details: NDArray[np.uint32]
    told: Told


class Counting(Protocol):
    """What keeps count of what it leaves out."""

    def counts(self) -> dict[str, int]:
        """Since the start, by reason."""


class Requests:
    """All handlers, behind one door. For the ring's reader only."""

    def __init__(self, store: RequestStore, rules: Redaction, dns_timeout_ns: int, http_timeout_ns: int) -> None:
        """rules: what is taken out before anything is stored."""
        self.names = AnsweredNames()
        self._store, self._sockets = store, Sockets()
        name_rule = rules.dns_name if rules.dns_rules else None
        self._dns, self._tls = Dns(store, name_rule, dns_timeout_ns), TlsHello(store)
        self._http1, self._http2 = Http1(store, rules, http_timeout_ns), Http2(store, rules, http_timeout_ns)
        self._expire_at = self._read_ns = 0
        self._handlers: tuple[Handler, ...] = (self._http1, self._http2, self._dns, self._tls)  # as HANDLER has them

    def counts(self) -> dict[str, int]:
        """What could not be read, paired or kept, by reason."""
        sources: tuple[Counting, ...] = (*self._handlers, self.names)
        return {reason: count for each in sources for reason, count in each.counts().items()}

    def lost(self, now_ns: int) -> None:
        """First bytes were lost in the kernel, nobody knows whose."""
        self._http2.lost(now_ns)

    def sample(self, left_out: int, now_ns: int) -> None:
        """From now on requests of HTTP/1 whose hash is below do not leave the kernel, nor do their answers."""
        self._http1.sampling.begin(left_out, now_ns)

    def paused(self, now_ns: int) -> None:
        """Plaintext was not looked at for a while: answers to what waits may have come meanwhile."""
        self._http1.paused(Origin.TLS_LIBRARY)
        self._http2.lost(now_ns, plaintext_only=True)

    def read(self, records: NDArray[np.void], payloads: Iterable[NDArray[np.void]], to_wall_ns: int) -> Read:
        """A batch: connections' records (n,) RECORD, and first bytes, arrays of one dtype each, in the order to be read in."""
        floor_ns, self._read_ns = self._read_ns - SLACK_NS, time.monotonic_ns()
        records = copy(records)
        if len(records):
            self._learn(records)
        told, events = [], [nothing()]
        for each in payloads:
            if len(each):
                told.append(self._spoken(each))
                events += self._taken(each, to_wall_ns)
        events += self._over(records, to_wall_ns)
        requests, rows, kinds = self._rows(together(*events), floor_ns)
        told += self._named(requests, rows, kinds)
        details = np.concatenate((self._details(records), requests.astype(np.uint32)))
        return Read(joined(records, rows), details, _together(told))

    def _learn(self, records: NDArray[np.void]) -> None:
        new = self._sockets.learn(records)
        ours = records[new & (records["initiator"] == Initiator.LOCAL)]
        began = np.where(ours["start_ns"] != 0, ours["start_ns"], ours["time_ns"])
        numbers = self.names.lookup(ours["cgroup_id"], ours["remote_addr"], began)
        self._sockets.name(ours["conn_id"], detail(numbers, NameSource.DNS_ANSWER))

    def _spoken(self, payloads: NDArray[np.void]) -> Told:
        connections, spoken, seen = payloads["conn_id"].copy(), SPOKEN.take(payloads["kind"]), payloads["origin"] == PACKET
        if not all_of(seen):
            connections, spoken = connections[seen], spoken[seen]
        maybe = self._sockets.may_be_news(connections, spoken)
        if not any_of(maybe):
            return NOTHING_TOLD
        connections, first = np.unique(connections[maybe], return_index=True)
        spoken = spoken[maybe][first]
        news = self._sockets.speak(connections, spoken)
        return Told(connections[news], spoken[news], np.zeros(int(news.sum()), np.uint32))

    def _taken(self, payloads: NDArray[np.void], to_wall_ns: int) -> list[Events]:
        handlers, events = HANDLER.take(payloads["kind"]), []
        for place, handler in enumerate(self._handlers):
            mask = handlers == place
            if any_of(mask):
                picked = pick(payloads, mask)
                events.append(handler.take(picked, to_wall_ns))
                if picked is not payloads:
                    wipe(picked)
        return events

    def _over(self, records: NDArray[np.void], to_wall_ns: int) -> list[Events]:
        """What gets no answer any more, for its connection or its time is over."""
        events = []
        ended = pick(records, np.isin(records["event"], ENDS)) if len(records) else records
        if len(ended):
            events += [each.ended(ended["conn_id"], ended["time_ns"], to_wall_ns) for each in self._handlers]
        now = time.monotonic_ns()
        if now >= self._expire_at:
            self._expire_at = now + EXPIRE_NS
            events += [each.expire(now, to_wall_ns) for each in self._handlers]
        return events

    def _rows(self, events: Events, floor_ns: int) -> tuple[NDArray[np.int64], Batch, NDArray[np.uint8]]:
        """Of those requests that are still stored the numbers, the records, in the order of their time, and the kinds; (n,).

        What could be told only now of earlier, such as an answer for which no request came, is told as of floor_ns: readers were
        promised that they had got all flows of before.
        """
        order = np.argsort(events.time_ns, kind="stable")
        requests = events.request[order]
        stored = self._store.stored(requests)
        if not all_of(stored):
            order, requests = order[stored], requests[stored]
        columns = self._store.take(requests, (*SHARED, "client", "kind"))
        client, kinds = columns.pop("client"), columns.pop("kind")
        columns["time_ns"] = np.maximum(events.time_ns[order], np.uint64(max(floor_ns, 0)))
        columns["event"], columns["initiator"] = events.event[order], INITIATORS.take(client)
        self._sockets.complete(columns)
        return requests, Batch(columns), kinds

    def _named(self, requests: NDArray[np.int64], rows: Batch, kinds: NDArray[np.uint8]) -> list[Told]:
        """Names that SNI and Host tell of connections; DNS answers are learnt for those to come."""
        events = rows["event"]
        answered = kinds == DNS
        if any_of(answered):
            answered &= (events == Event.RESPONSE) & (rows["initiator"] == Initiator.LOCAL)
            columns = self._store.take(requests[answered], ("answer", "answer_bytes", "text"))
            cgroups, times = rows["cgroup_id"][answered], rows["time_ns"][answered]
            self.names.learn(cgroups, columns["answer"], columns["answer_bytes"], columns["text"], times)
        hello, asked = events == HELLO, (events == REQUEST) & IS_HTTP.take(kinds)
        named = ((hello, "text", NameSource.TLS_SNI), (asked, "host", NameSource.HTTP_HOST))
        return [
            self._name(requests[which], rows["conn_id"][which], text, source) for which, text, source in named if any_of(which)
        ]

    def _name(self, requests: NDArray[np.int64], connections: NDArray[np.uint64], text: str, source: NameSource) -> Told:
        """Name connections (n,) by a column of requests (n,), each by its first."""
        unnamed = self._sockets.lack(connections, source)
        if not any_of(unnamed):
            return NOTHING_TOLD
        connections, first = np.unique(connections[unnamed], return_index=True)
        texts = self._store.take(requests[unnamed][first], (text,))[text]
        names = texts.reshape(-1).view(f"S{texts.shape[1]}").tolist()
        details = detail(np.array([self.names.names.number(public_name(name)) for name in names], np.uint32), source)
        news = self._sockets.name(connections, details)
        return Told(connections[news], np.zeros(int(news.sum()), np.uint8), details[news])

    def _details(self, records: NDArray[np.void]) -> NDArray[np.uint32]:
        """Details (n,) of connections' records, whose `icmp_code` becomes, in place, what is spoken."""
        spoken, names = self._sockets.spoken_and_names(records["conn_id"])
        records["icmp_code"] = np.where(records["protocol"] == TCP, spoken, records["icmp_code"])
        return names

    def retain(self, details: NDArray[np.uint32]) -> None:
        """Give back names that neither stored flows (their details, (n,)) nor anything here has."""
        self.names.names.retain((number_of(details), number_of(self._sockets.names_in_use()), self.names.in_use()))


def _together(told: list[Told]) -> Told:
    filled = [each for each in told if each.connections.size] or [NOTHING_TOLD]
    if len(filled) == 1:
        return filled[0]
    names = ("connections", "spoken", "names")
    return Told(*(np.concatenate([getattr(each, name) for each in filled]) for name in names))
