"""The door to all handlers: what first bytes tell of connections, which is the protocol and the name of the peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns_samples
import http1_samples
import numpy as np
import pytest
import tls_samples
from door_samples import MS, SPOKEN, Door, S
from samples import record

from flows.agent.l7.redact import Redaction
from flows.agent.probe.payload import Origin
from flows.agent.probe.record import RECORD, Event, Initiator
from flows.agent.store.public_names import NameSource, number_of
from flows.agent.store.request_columns import Kind

if TYPE_CHECKING:
    from flows.agent.l7.requests import Read

pytestmark = pytest.mark.usefixtures("clock")


def test_plaintext_of_openssl_does_not_make_its_connection_plain() -> None:
    door = Door()
    hello = tls_samples.payload(tls_samples.client_hello(tls_samples.server_name(b"web.example.com")), conn_id=1)
    stream = http1_samples.Stream(conn_id=1, origin=Origin.TLS_LIBRARY)
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


def answered(name: str = "db.shop.") -> list[np.ndarray[Any, Any]]:
    question = dns_samples.query(name)
    answer = dns_samples.answer(question, (name, 30, "A", "10.0.0.9"))
    return [
        dns_samples.payload(question, cgroup_id=7, at=S - MS),
        dns_samples.payload(answer, cgroup_id=7, at=S, sent=False, long=len(answer) > 208),
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
    ports: dict[str, Any] = {"local_port": 53, "remote_port": 40_000, "cgroup_id": 7}
    door.read(dns_samples.payload(question, sent=False, **ports), dns_samples.payload(answer, sent=True, at=S + MS, **ports))
    read = door.read(records=record(conn_id=1, remote_addr="10.0.0.9", start_ns=S + 2 * MS))
    assert door.details(read) == [(0, "", 0)]


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
