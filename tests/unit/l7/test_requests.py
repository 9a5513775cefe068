"""The door to all handlers: first bytes in, flows of requests, and what they tell of connections, out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

import dns_samples
import http1_samples
import http2_samples
import tls_samples
from samples import packed, record

from flows.agent.l7.redact import Redaction
from flows.agent.l7.requests import Read, Requests
from flows.agent.probe.payload import LONG_PAYLOAD, SHORT_PAYLOAD, PayloadKind
from flows.agent.probe.record import RECORD, Event, Initiator
from flows.agent.store.public_names import NameSource, number_of, source_of
from flows.agent.store.request_columns import Kind, State
from flows.agent.store.requests import RequestStore
from flows.proto import extension_pb2

S, MS = 1_000_000_000, 1_000_000
WALL = 1_700_000_000 * S
NOTHING = np.zeros(0, RECORD)
SPOKEN = {"http1": extension_pb2.SPOKEN_HTTP1, "dns": extension_pb2.SPOKEN_DNS, "tls": extension_pb2.SPOKEN_TLS}


class Row(NamedTuple):
    """A flow of a request."""

    event: Event
    conn_id: int
    time_ns: int
    request: int


class Door:
    """Requests with their store, and all they gave."""

    def __init__(self, capacity: int = 64, rules: Redaction | None = None) -> None:
        self.store = RequestStore(capacity)
        self.requests = Requests(self.store, rules or Redaction(), 5 * S, 60 * S)

    def read(self, *payloads: np.ndarray[Any, Any], records: np.ndarray[Any, Any] = NOTHING) -> Read:
        """One batch, long ones first, as the probe gives it."""
        by_size = [[one for one in payloads if one.dtype == dtype] for dtype in (LONG_PAYLOAD, SHORT_PAYLOAD)]
        return self.requests.read(records, [np.concatenate(some) for some in by_size if some], WALL)

    def rows(self, read: Read, records: int = 0) -> list[Row]:
        """Flows of requests, which follow those of connections."""
        columns = [read.records[name][records:].tolist() for name in ("event", "conn_id", "time_ns")]
        return [Row(Event(event), *rest) for event, *rest in zip(*columns, read.details[records:].tolist(), strict=True)]

    def told(self, read: Read) -> list[tuple[int, int, str, NameSource | int]]:
        """Connection, what is spoken, name, where it is from."""
        names = [self.requests.names.names.name(number) for number in number_of(read.told.names).tolist()]
        sources = source_of(read.told.names).tolist()
        return list(zip(read.told.connections.tolist(), read.told.spoken.tolist(), names, sources, strict=True))

    def details(self, read: Read) -> list[tuple[int, str, int]]:
        """Of connections' records what is spoken, the name, and where it is from."""
        names = [self.requests.names.names.name(number) for number in number_of(read.details).tolist()]
        return list(zip(read.records["icmp_code"].tolist(), names, source_of(read.details).tolist(), strict=True))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """It is second 2 until a test says otherwise."""
    now = [2 * S]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now


def test_a_request_and_its_answer_are_two_flows_of_one_request() -> None:
    door, stream = Door(), http1_samples.Stream(conn_id=5)
    opened = record(conn_id=5, event=Event.ESTABLISHED, start_ns=900 * MS, pid=43, comm=b"wget", netns=11)
    ask, answer = stream.ask(pid=0, comm=b"", netns=0), stream.answer(pid=0, comm=b"", netns=0)
    read = door.read(ask, answer, records=opened)
    asked, answered = ask["time_ns"][0], answer["time_ns"][0]
    assert door.rows(read, 1) == [(Event.REQUEST, 5, asked, 0), (Event.RESPONSE, 5, answered, 0)]
    expected = {
        "pid": 43, "comm": b"wget", "netns": 11, "start_ns": 900 * MS, "initiator": Initiator.LOCAL, "protocol": 6,
        "remote_port": 80, "local_addr": packed("10.0.0.1").tolist(), "sent_bytes": 0,
    }  # fmt: skip
    assert {name: read.records[name][1:].tolist() for name in expected} == {name: [one] * 2 for name, one in expected.items()}
    row = door.store.take(np.array([0]))
    assert (row["state"][0], row["status"][0], row["kind"][0]) == (State.ANSWERED, 200, Kind.HTTP1)
    assert row["text"].tobytes().rstrip(b"\0") == b"/users/7"


def test_the_servers_end_is_the_remote_initiators() -> None:
    door, stream = Door(), http1_samples.Stream(client=False)
    read = door.read(stream.ask(), stream.answer())
    assert read.records["initiator"].tolist() == [Initiator.REMOTE] * 2


def test_an_answer_may_come_a_batch_later() -> None:
    door, stream = Door(), http1_samples.Stream()
    assert [row.event for row in door.rows(door.read(stream.ask()))] == [Event.REQUEST]
    assert [(row.event, row.request) for row in door.rows(door.read(stream.answer()))] == [(Event.RESPONSE, 0)]


def test_records_of_connections_come_first_and_stay_as_they_were() -> None:
    door = Door()
    records = np.concatenate([record(conn_id=1, event=Event.ACTIVE), record(conn_id=2, protocol=1, icmp_code=3)])
    before = records.copy()
    read = door.read(http1_samples.Stream(conn_id=1).ask(), records=records)
    assert read.records["conn_id"].tolist() == [1, 2, 1]
    assert read.records["icmp_code"].tolist() == [SPOKEN["http1"], 3, 0]
    assert (records == before).all()


def test_flows_of_requests_are_in_the_order_of_their_time() -> None:
    door = Door()
    streams = [http1_samples.Stream(conn_id=number) for number in (1, 2)]
    late, early = streams[0].ask(time_ns=5 * S), streams[1].ask(time_ns=4 * S)
    query = dns_samples.payload(dns_samples.query(), at=4 * S + MS)
    assert [row.time_ns for row in door.rows(door.read(late, early, query))] == [4 * S, 4 * S + MS, 5 * S]


def test_all_protocols_of_one_batch_are_read() -> None:
    door, stream = Door(), http1_samples.Stream(conn_id=1)
    talk = http2_samples.Talk()
    talk.answer(talk.get("/things"), (":status", "204"), end=True)
    question = dns_samples.query()
    hello = tls_samples.payload(tls_samples.client_hello(tls_samples.server_name(b"web.example.com")), conn_id=3)
    dns = [dns_samples.payload(question), dns_samples.payload(dns_samples.answer(question), sent=False, at=2 * S)]
    read = door.read(stream.ask(), stream.answer(), *dns, talk.records(conn_id=2), hello)
    kinds = door.store.take(np.array([row.request for row in door.rows(read)]), ("kind",))["kind"].tolist()
    seen = sorted(zip(kinds, [row.event for row in door.rows(read)], strict=True))
    assert seen == sorted(
        [(kind, event) for kind in (Kind.HTTP1, Kind.HTTP2, Kind.DNS) for event in (Event.REQUEST, Event.RESPONSE)]
        + [(Kind.TLS, Event.HELLO)]
    )
    spoken = {connection: spoken for connection, spoken, _, _ in door.told(read) if spoken}
    assert spoken == {
        1: extension_pb2.SPOKEN_HTTP1, 2: extension_pb2.SPOKEN_HTTP2, 3: extension_pb2.SPOKEN_TLS, 11: extension_pb2.SPOKEN_DNS
    }  # fmt: skip


def test_plaintext_of_openssl_does_not_make_its_connection_plain() -> None:
    door = Door()
    hello = tls_samples.payload(tls_samples.client_hello(tls_samples.server_name(b"web.example.com")), conn_id=1)
    stream = http1_samples.Stream(conn_id=1, origin=http1_samples.Origin.OPENSSL)
    read = door.read(hello, stream.ask(), records=record(conn_id=1))
    assert read.records["icmp_code"][0] == SPOKEN["tls"]
    assert [spoken for _, spoken, _, _ in door.told(read) if spoken] == [SPOKEN["tls"]]


def test_a_connection_is_named_by_sni_and_by_host() -> None:
    door = Door()
    hello = tls_samples.payload(tls_samples.client_hello(tls_samples.server_name(b"Web.Example.com")), conn_id=1)
    plain = http1_samples.Stream(conn_id=2).ask(b"GET / HTTP/1.1\r\nHost: api.example.com:8080\r\n\r\n")
    records = np.concatenate([record(conn_id=1), record(conn_id=2)])
    read = door.read(hello, plain, records=records)
    names = [(connection, name, source) for connection, _, name, source in door.told(read) if name]
    assert names == [(1, "web.example.com", NameSource.TLS_SNI), (2, "api.example.com", NameSource.HTTP_HOST)]
    later = door.read(records=records)
    assert door.details(later) == [
        (SPOKEN["tls"], "web.example.com", NameSource.TLS_SNI), (SPOKEN["http1"], "api.example.com", NameSource.HTTP_HOST)
    ]  # fmt: skip


def test_an_address_in_host_is_no_name() -> None:
    door = Door()
    ask = http1_samples.Stream(conn_id=1).ask(b"GET / HTTP/1.1\r\nHost: 10.0.0.2:80\r\n\r\n")
    door.read(ask, records=record(conn_id=1))
    assert door.details(door.read(records=record(conn_id=1))) == [(SPOKEN["http1"], "", 0)]


def answered(name: str = "db.shop.", address: str = "10.0.0.9", at: int = S, ttl: int = 30) -> list[np.ndarray[Any, Any]]:
    question = dns_samples.query(name)
    answer = dns_samples.answer(question, (name, ttl, "A", address))
    return [
        dns_samples.payload(question, cgroup_id=7, at=at - MS),
        dns_samples.payload(answer, cgroup_id=7, at=at, sent=False, long=len(answer) > 208),
    ]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, True),
        ({"remote_addr": "10.0.0.8"}, False),
        ({"cgroup_id": 8}, False),
        ({"initiator": Initiator.REMOTE}, False),
        ({"initiator": Initiator.UNKNOWN}, False),
        ({"start_ns": S - 2 * MS}, False),
        ({"start_ns": 0, "time_ns": 2 * S}, True),
        ({"start_ns": 3_600 * S}, False),
    ],
)
def test_a_connection_to_an_address_that_its_pod_was_told_has_that_name(fields: dict[str, Any], named: bool) -> None:
    door = Door()
    door.read(*answered())
    opened = {"conn_id": 1, "cgroup_id": 7, "remote_addr": "10.0.0.9", "start_ns": S + MS, "event": Event.ESTABLISHED, **fields}
    read = door.read(records=record(**opened))
    assert door.details(read) == [(0, "db.shop" if named else "", NameSource.DNS_ANSWER if named else 0)]


def test_what_the_client_says_is_better_than_what_its_pod_had_asked_for() -> None:
    door = Door()
    door.read(*answered())
    opened = record(conn_id=1, remote_addr="10.0.0.9", start_ns=S + MS)
    ask = http1_samples.Stream(conn_id=1).ask(b"GET / HTTP/1.1\r\nHost: www.db.shop\r\n\r\n")
    door.read(ask, records=opened)
    assert door.details(door.read(records=opened)) == [(SPOKEN["http1"], "www.db.shop", NameSource.HTTP_HOST)]


def test_an_answer_that_the_server_sends_teaches_nothing() -> None:
    door, question = Door(), dns_samples.query("db.shop.")
    answer = dns_samples.answer(question, ("db.shop.", 30, "A", "10.0.0.9"))
    ports = {"local_port": 53, "remote_port": 40_000, "cgroup_id": 7}
    door.read(dns_samples.payload(question, sent=False, **ports), dns_samples.payload(answer, sent=True, at=S + MS, **ports))
    read = door.read(records=record(conn_id=1, remote_addr="10.0.0.9", start_ns=S + 2 * MS))
    assert door.details(read) == [(0, "", 0)]


def test_what_waits_on_a_connection_that_ended_gets_no_answer() -> None:
    door, stream = Door(), http1_samples.Stream(conn_id=1)
    read = door.read(stream.ask(), records=record(conn_id=1, event=Event.RESET, time_ns=3 * S))
    assert [(row.event, row.time_ns) for row in door.rows(read, 1)][1:] == [(Event.NO_RESPONSE, 3 * S)]


def test_an_answer_in_the_batch_in_which_its_connection_ended_counts() -> None:
    door, stream = Door(), http1_samples.Stream(conn_id=1)
    read = door.read(stream.ask(), stream.answer(), records=record(conn_id=1, event=Event.CLOSED, time_ns=3 * S))
    assert [row.event for row in door.rows(read, 1)] == [Event.REQUEST, Event.RESPONSE]


def test_what_has_waited_too_long_is_given_up(clock: list[int]) -> None:
    door, stream = Door(), http1_samples.Stream(conn_id=1)
    door.read(stream.ask(time_ns=S), dns_samples.payload(dns_samples.query(), at=S))
    events = []
    for second in (3, 7, 59, 62):
        clock[0] = second * S
        events.append([(row.event, row.conn_id) for row in door.rows(door.read())])
    assert events == [[], [(Event.NO_RESPONSE, 11)], [], [(Event.NO_RESPONSE, 1)]]


def test_requests_that_are_overwritten_before_they_are_told_make_no_flow() -> None:
    door = Door(capacity=4)
    asks = [http1_samples.Stream(conn_id=number).ask() for number in range(1, 7)]
    rows = door.rows(door.read(*asks))
    assert [row.conn_id for row in rows] == [3, 4, 5, 6]
    assert [row.request for row in rows] == [2, 3, 4, 5]


def test_an_answer_to_a_request_that_is_gone_makes_no_flow() -> None:
    door = Door(capacity=2)
    first, others = http1_samples.Stream(conn_id=1), [http1_samples.Stream(conn_id=number) for number in (2, 3)]
    door.read(first.ask())
    door.read(*[other.ask() for other in others])
    assert door.rows(door.read(first.answer())) == []
    assert door.store.take(np.array([1, 2]), ("status",))["status"].tolist() == [0, 0]


def test_numbers_of_requests_go_on_beyond_32_bits() -> None:
    door, stream = Door(), http1_samples.Stream(conn_id=1)
    door.store.written = (1 << 32) - 1
    read = door.read(stream.ask(), http1_samples.Stream(conn_id=2).ask())
    assert read.details.tolist() == [(1 << 32) - 1, 0]
    assert door.store.numbers_of(read.details).tolist() == [(1 << 32) - 1, 1 << 32]
    assert [row.request for row in door.rows(door.read(stream.answer()))] == [(1 << 32) - 1]


def test_nothing_unredacted_is_stored_or_told() -> None:
    rules = Redaction.of({"dns_rules": ["planted[a-z0-9]* => x"]})
    door = Door(rules=rules)
    ask = b"GET /a?q=planted HTTP/1.1\r\nHost: web\r\nAuthorization: planted\r\nCookie: planted\r\n\r\n"
    read = door.read(http1_samples.Stream().ask(ask), *answered("planted7.shop."))
    columns = door.store.take(np.arange(door.store.written))
    assert columns["kind"].tolist() == [Kind.HTTP1, Kind.DNS]
    told = b"".join(column.tobytes() for column in (*columns.values(), *vars_of(read)))
    assert b"planted" not in told
    assert not any("planted" in name for name in door.requests.names.names._names)


def vars_of(read: Read) -> list[np.ndarray[Any, Any]]:
    records = [read.records[name] for name in RECORD.names or ()]
    return [*records, read.details, read.told.connections, read.told.spoken, read.told.names]


@pytest.mark.parametrize("kind", list(PayloadKind))
@pytest.mark.parametrize("text", [b"", b"\0" * 64, b"\xff" * 208, b"GET " * 52, bytes(range(208))])
def test_bytes_that_mean_nothing_are_counted_or_left_out(kind: PayloadKind, text: bytes) -> None:
    door = Door()
    for protocol in (6, 17):
        for sent in (0, 1):
            read = door.read(http1_samples.payload(text, kind=kind, protocol=protocol, sent=sent))
            assert all(row.event in (Event.REQUEST, Event.HELLO) for row in door.rows(read))
    assert all(count >= 0 for count in door.requests.counts().values())


def test_counts_of_all_handlers_are_told() -> None:
    door = Door()
    door.read(http1_samples.payload(b"GET no request line\r\n\r\n", kind=PayloadKind.HTTP_REQUEST))
    door.read(dns_samples.payload(b"\0" * 5))
    door.read(tls_samples.payload(b"\x16\x03\x01\0\4\1\0\0\0"))
    counts = {reason: count for reason, count in door.requests.counts().items() if count}
    assert len(counts) >= 3
    assert counts["http: not a request line"] == 1


def test_names_that_nobody_uses_any_more_are_given_back() -> None:
    door = Door()
    ask = http1_samples.Stream(conn_id=1).ask(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
    read = door.read(ask, records=record(conn_id=1))
    details = read.told.names[read.told.names != 0]
    names = door.requests.names.names
    for stored in (details, np.zeros(0, np.uint32)):
        for _ in range(3):
            door.requests.retain(stored)
        assert names.name(int(number_of(details)[0])) == "api.example.com"  # its connection may tell of it again
    many = np.concatenate([record(conn_id=number) for number in range(2, 600_000, 4_097)])
    door.requests._sockets._slots[:] = 0
    door.read(records=many)
    for _ in range(3):
        door.requests.retain(np.zeros(0, np.uint32))
    assert names.name(int(number_of(details)[0])) == ""
