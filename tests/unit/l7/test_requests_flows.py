"""The door to all handlers: first bytes in, flows of requests out."""

from __future__ import annotations

import dns_samples
import http1_samples
import http2_samples
import numpy as np
import pytest
import tls_samples
from door_samples import MS, SPOKEN, Door, S
from samples import packed, record

from flows.agent.probe.payload import PayloadKind
from flows.agent.probe.record import Event, Initiator
from flows.agent.store.request_columns import Kind, State
from flows.proto import extension_pb2

pytestmark = pytest.mark.usefixtures("clock")


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
