"""HTTP/1: what is read of requests and answers, and which meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from http1_samples import GET, MS, OK, T0, WALL, Station, Stream

from flows.agent.l7.redact import Redaction
from flows.agent.probe.lanes import left_out
from flows.agent.probe.payload import Origin
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import HOST_BYTES, METHODS, Flag, Kind, State

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NOT_A_REQUEST = {"http: not a request line": 1}
NOT_AN_ANSWER = {"http: not a status line": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GET, {"method": 1, "version": 11, "text": b"/users/7", "host": b"api.example.com", "flags": Flag.REDACTED}),
        (b"GET / HTTP/1.0\r\n\r\n", {"version": 10, "text": b"/", "host": b"", "flags": Flag.HOST_UNKNOWN}),
        (b"POST /a HTTP/1.1\nhost:b\n\nbody", {"method": METHODS.index("POST"), "text": b"/a", "host": b"b", "flags": 0}),
        (b"PROPPATCH /a HTTP/1.1\r\nHOST: \t b \t\r\n\r\n", {"method": METHODS.index("PROPPATCH"), "host": b"b", "flags": 0}),
        (b"PROPFIND /a HTTP/1.1\r\nX: y\r\nHost: b\r\n\r\n", {"method": METHODS.index("PROPFIND"), "host": b"b"}),
        (b"MKCALENDAR /a HTTP/1.1\r\nHost: b\r\n\r\n", {"method": 0, "text": b"/a", "host": b"b"}),
        (b"GET /a HTTP/1.1\r\nHost: b\r\nHost: c\r\n\r\n", {"host": b"b"}),
        (b"GET /a HTTP/1.1\r\nX-Host: c\r\n\r\n", {"host": b"", "flags": Flag.HOST_UNKNOWN}),
        (b"POST /a HTTP/1.1\r\n\r\nx\r\nHost: evil\r\n", {"host": b"", "flags": Flag.HOST_UNKNOWN}),
        (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", {"host": b"", "flags": Flag.HOST_UNKNOWN}),
        (b"GET /a HTTP/1.1\r\nHost: ann:pw@b\r\n\r\n", {"host": b"b", "flags": Flag.REDACTED}),
        (b"GET /a HTTP/1.1\r\nHost: " + b"h" * 70 + b"\r\n\r\n", {"host": b"h" * HOST_BYTES, "flags": Flag.HOST_CUT}),
        (b"GET http://ann:pw@b:8080/a?x HTTP/1.1\r\nHost: c\r\n\r\n", {"text": b"/a", "host": b"b:8080", "flags": Flag.REDACTED}),
        (b"GET HTTPS://b HTTP/1.1\r\n\r\n", {"text": b"/", "host": b"b", "flags": 0}),
        (b"GET http://b?x=1 HTTP/1.1\r\n\r\n", {"text": b"/", "host": b"b", "flags": Flag.REDACTED}),
        (b"CONNECT b:443 HTTP/1.1\r\nHost: c\r\n\r\n", {"method": METHODS.index("CONNECT"), "text": b"", "host": b"b:443"}),
        (b"CONNECT ann:pw@b:443 HTTP/1.1\r\n\r\n", {"text": b"", "host": b"b:443", "flags": Flag.REDACTED}),
        (b"OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", {"method": METHODS.index("OPTIONS"), "text": b"*", "host": b"b"}),
        (b"GET /\0\xff\r\x1b[31m\t HTTP/1.1\r\nHost: b\r\n\r\n", {"text": b"/\0\xff\r\x1b[31m\t", "host": b"b"}),
        (b"GET /a%20b%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: b\r\n\r\n", {"text": b"/a%20b%0d%0aSet-Cookie:x"}),
        (b"GET /users/peter", {"text": b"/users/peter", "version": 0, "flags": Flag.CUT | Flag.HOST_UNKNOWN}),
        (b"GET /users HT", {"text": b"/users", "version": 0, "flags": Flag.HOST_UNKNOWN}),
        (b"GET /users HTTP/1.1\r", {"text": b"/users", "version": 0, "flags": Flag.HOST_UNKNOWN}),
        (b"GET /users?token=sec", {"text": b"/users", "flags": Flag.REDACTED | Flag.HOST_UNKNOWN}),
        (b"GET http://ann:secr", {"text": b"", "host": b"", "flags": Flag.CUT | Flag.HOST_UNKNOWN}),
        (b"GET /" + b"w" * 170 + b" HTTP/1.1\r\nHost: b\r\n\r\n", {"text": b"/" + b"w" * 159, "host": b"b", "flags": Flag.CUT}),
        (b"GET /a HTTP/1.1\r\nHost: b\r\nX: " + b"y" * 400, {"text": b"/a", "host": b"b", "flags": 0}),
        (b"GET /a HTTP/1.1\r\nHost: exam", {"host": b"exam", "flags": Flag.HOST_CUT}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("long", [False, True])
def test_what_is_read_of_a_request(text: bytes, expected: dict[str, Any], long: bool) -> None:
    station = Station().take(Stream().ask(text, long=long)).settle()
    assert station.http.counts() == {}
    assert {name: station.row()[name] for name in expected} == expected


@pytest.mark.parametrize(
    "text",
    [
        b"GET ", b"GET  HTTP/1.1\r\n\r\n", b"GET some words of a book\n", b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/2.0\r\n\r\n", b"GET /a HTTP/1.x\r\n\r\n", b"GET /a\r\n\r\n", b"GET /a HTTP/1.1 \r\n\r\n",
        b"get /a HTTP/1.1\r\n\r\n", b"GET a HTTP/1.1\r\n\r\n", b"GET /a b", b"GET /a HTTP/1.1x", b"G=T /a HTTP/1.1\r\n\r\n",
        b"GET\t/a HTTP/1.1\r\n\r\n", b"://x HTTP/1.1\r\n\r\n", b"", b"\n", b"OPTIONS *x HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 165 + b" b HTTP/1.1\r\n\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("long", [False, True])
def test_what_only_begins_like_a_request_is_counted(text: bytes, long: bool) -> None:
    station = Station().take(Stream().ask(text, long=long))
    assert station.rows() == []
    assert station.http.counts() == NOT_A_REQUEST


@pytest.mark.parametrize(
    ("request_text", "text", "expected"),
    [
        (GET, OK, {"status": 200, "response_bytes": len(OK), "state": State.ANSWERED}),
        (GET, b"HTTP/1.0 404\r\n\r\n", {"status": 404, "response_bytes": -1}),
        (GET, b"HTTP/1.1 304 Not Modified\ncontent-length: 99\n\n", {"status": 304, "response_bytes": 46}),
        (GET, b"HTTP/1.1 204 No\r\n\r\n", {"status": 204, "response_bytes": 19}),
        (GET, b"HTTP/1.1 206 Partial\r\nCONTENT-LENGTH:  1000000 \r\n\r\n", {"response_bytes": 1_000_000 + 51}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n", {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 123456789\r\n\r\n", {"response_bytes": 123456835}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 900000000000007\r\n\r\n", {"response_bytes": 900000000000059}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 12345678x\r\n\r\n", {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 1x3456789\r\n\r\n", {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: " + b"y" * 300, {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\n\r\nContent-Length: 5\r\n\r\n", {"response_bytes": -1}),
        (b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", {"response_bytes": 38}),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", {"response_bytes": 19}),
        (GET, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", {"status": 101, "response_bytes": 56}),
        (GET, b"HTTP/1.1 20", {"status": 0, "state": State.ANSWERED, "response_bytes": -1}),
        (GET, b"HTTP/1.", {"status": 0, "state": State.ANSWERED}),
        (GET, b"HTTP/1.1 999 \0\xff\x1b\r\n\r\n", {"status": 999}),
    ],
)  # fmt: skip
def test_what_is_read_of_an_answer(request_text: bytes, text: bytes, expected: dict[str, Any]) -> None:
    stream = Stream()
    station = Station().take(stream.ask(request_text), stream.answer(text))
    assert station.http.counts() == {}
    assert {name: station.row()[name] for name in expected} == expected
    assert bool(station.row()["flags"] & Flag.UPGRADED) == (expected.get("status") == 101)
    assert bool(station.row()["flags"] & Flag.ANSWER_CUT) == (expected.get("status") == 0)


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"HTTP/1.1\t200 OK\r\n",
        b"HTTP",
    ],
)
def test_what_only_begins_like_an_answer_is_counted(text: bytes) -> None:
    stream = Stream()
    station = Station().take(stream.ask(), stream.answer(text))
    assert station.row()["state"] == State.ASKED
    assert station.http.counts() == NOT_AN_ANSWER


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("origin", list(Origin))
def test_a_pair_and_its_events(client: bool, origin: Origin) -> None:
    stream = Stream(client=client, origin=origin, start=(1 << 32) - 3)
    station = Station().take(stream.ask(length=900), stream.answer())
    row = station.row()
    assert (row["time"], row["answered"]) == (WALL + T0 + MS, WALL + T0 + 2 * MS)
    assert (row["client"], row["origin"], row["kind"], row["state"]) == (client, origin, Kind.HTTP1, State.ANSWERED)
    assert (row["conn_id"], row["pid"], row["comm"], row["local_port"], row["request_bytes"]) == (1, 42, b"curl", 40_000, 900)
    assert station.events == [(0, Event.REQUEST, T0 + MS), (0, Event.RESPONSE, T0 + 2 * MS)]


@pytest.mark.parametrize("together", [True, False])
def test_keep_alive_has_exact_sizes(together: bool) -> None:
    stream = Stream(start=(1 << 32) - 8_000)  # both directions wrap around
    payloads = []
    for turn in range(20):
        payloads += [stream.ask(b"GET /%d HTTP/1.1\r\nHost: b\r\n\r\n" % turn), stream.answer(CHUNKED, more=100 * turn)]
    station = Station()
    for some in [payloads] if together else [[one] for one in payloads]:
        station.take(*some)
    rows = station.rows()
    assert [row["text"] for row in rows] == [b"/%d" % turn for turn in range(20)]
    assert {row["state"] for row in rows} == {State.ANSWERED}
    assert [row["response_bytes"] for row in rows[:-1]] == [len(CHUNKED) + 100 * turn for turn in range(19)]
    assert station.http.counts() == {}


def test_sizes_do_not_span_an_exchange_that_was_lost() -> None:
    stream = Stream()
    first = [stream.ask(), stream.answer(CHUNKED, more=50)]
    stream.ask()
    stream.answer()
    station = Station().take(*first).take(stream.ask(), stream.answer())
    assert [row["response_bytes"] for row in station.rows()] == [-1, len(OK)]


@pytest.mark.parametrize("order", ["rings", "batches", "answers first"])
def test_request_and_answer_come_through_different_rings(order: str) -> None:
    stream, station = Stream(), Station()
    asked, answered = stream.ask(long=True), stream.answer()
    if order == "answers first":
        station.take(answered).expire(T0)
        assert station.events == []
        station.take(asked)
    elif order == "batches":
        station.take(asked).take(answered)
    else:
        station.take(answered, asked)
    assert station.settle().row()["state"] == State.ANSWERED
    assert station.http.counts() == {}


def test_an_older_request_of_the_other_ring_is_not_taken_for_a_repetition() -> None:
    stream, station = Stream(), Station()
    first, answer = stream.ask(long=True), stream.answer()
    station.take(answer, stream.ask(), stream.answer(), first)
    assert [row["state"] for row in station.rows()] == [State.ANSWERED] * 2
    assert station.http.counts() == {}


@pytest.mark.parametrize("calls", [0, 1, 5])
@pytest.mark.parametrize("what", ["request", "after the answer", "answer"])
def test_what_is_sent_again_is_counted_once(calls: int, what: str) -> None:
    stream, station = Stream(), Station()
    asked, answered = stream.ask(), stream.answer()
    station.take(asked, answered)
    for _ in range(calls):
        station.take(stream.ask(), stream.answer())
    again = (answered if what == "answer" else asked).copy()
    if what == "after the answer":
        again["acknowledged"] = answered["sequence"] + 20
    station.take(again).settle()
    assert len(station.rows()) == calls + 1
    assert {row["state"] for row in station.rows()} == {State.ANSWERED}
    assert station.http.counts() == {f"http: {'answer' if what == 'answer' else 'request'} again": 1}


def test_repetitions_in_one_batch_are_counted_once() -> None:
    stream, station = Stream(), Station()
    asked, answered = stream.ask(), stream.answer()
    station.take(asked, asked, answered, answered, asked)
    assert [row["state"] for row in station.rows()] == [State.ANSWERED]
    assert station.settle().http.counts() == {"http: request again": 2, "http: answer again": 1}


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_of_pipelined_requests_only_the_first_is_paired_and_later_ones_again(batches: int) -> None:
    stream, station = Stream(), Station()
    payloads = [stream.ask(b"GET /1 HTTP/1.1\r\n\r\n"), stream.ask(b"GET /2 HTTP/1.1\r\n\r\n"), stream.answer(), stream.answer()]
    for begin in range(0, 4, 4 // batches):
        station.take(*payloads[begin : begin + 4 // batches])
    station.take(stream.ask(b"GET /3 HTTP/1.1\r\n\r\n"), stream.answer()).settle().expire(T0 + 100_000 * MS)
    rows = {(row["text"], row["state"], bool(row["flags"] & Flag.PIPELINED)) for row in station.rows()}
    assert rows == {
        (b"/1", State.ANSWERED, True),
        (b"/2", State.ASKED, True),
        (b"/3", State.ANSWERED, False),
        (b"", State.ALONE, True),
    }
    assert station.http.counts() == {"http: pipelined request": 2}
    assert Event.NO_RESPONSE not in {event for _, event, _ in station.events}


@pytest.mark.parametrize(
    ("text", "pipelined"),
    [
        (GET + GET, True),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nGET", False),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nGET", False),
        (b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n\0\0", False),
    ],
)
def test_requests_in_one_packet_are_pipelined(text: bytes, pipelined: bool) -> None:
    stream = Stream()
    station = Station().take(stream.ask(text), stream.answer()).settle()
    assert bool(station.row()["flags"] & Flag.PIPELINED) is pipelined
    assert [row["state"] for row in station.rows()] == ([State.ASKED, State.ALONE] if pipelined else [State.ANSWERED])


def test_a_pair_is_undone_when_an_earlier_request_expected_the_same_answer() -> None:
    stream, station = Stream(), Station()
    first, second, answer = stream.ask(long=True), stream.ask(), stream.answer()
    station.take(second, answer, first)
    rows = station.rows()
    assert [(row["state"], row["status"], row["answered"]) for row in rows] == [(State.ASKED, 0, 0)] * 2
    assert {row["flags"] & Flag.PIPELINED for row in rows} == {Flag.PIPELINED}
    assert station.http.counts()["http: pair undone"] == 1


def test_an_answer_sent_before_its_sender_had_the_request_is_not_for_it() -> None:
    stream, station = Stream(), Station()
    stream.ask()  # not seen
    pending, answer = stream.ask(), stream.answer()
    answer["acknowledged"] = pending["sequence"]
    station.take(pending, answer).settle()
    assert [row["state"] for row in station.rows()] == [State.ASKED, State.ALONE]
    assert {row["flags"] & Flag.PIPELINED for row in station.rows()} == {Flag.PIPELINED}


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    "answers",
    [
        [CONTINUE + OK], [CONTINUE, OK], [CONTINUE + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK],
        [CONTINUE, b"HTTP/1.1 103 Early Hints\r\nLink: <" + b"a" * 400 + b">\r\n\r\n", OK], [b"HTTP/1.1 102 P\n\n" * 3 + OK],
    ],
)  # fmt: skip
@pytest.mark.parametrize("together", [True, False])
def test_interim_answers_do_not_complete(answers: list[bytes], together: bool) -> None:
    stream, station = Stream(), Station()
    payloads = [stream.ask(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", more=500), *map(stream.answer, answers)]
    for some in [payloads] if together else [[one] for one in payloads]:
        station.take(*some)
    assert len(station.settle().rows()) == 1
    assert station.row()["status"] == 200
    assert station.row()["answered"] == WALL + int(payloads[-1]["time_ns"][0])
    assert set(station.http.counts()) == {"http: interim answer"}


def test_an_answer_alone_and_one_whose_request_was_lost() -> None:
    alone, lost = Stream(1, client=False), Stream(2)
    station = Station().take(alone.answer(), lost.ask(), lost.answer())
    lost.ask()
    station.take(lost.answer()).settle()
    rows = station.rows()
    assert [(row["conn_id"], row["state"], row["status"], row["time"]) for row in rows[1:]] == [(1, State.ALONE, 200, 0)]
    assert (rows[1]["client"], rows[1]["method"], rows[1]["answered"]) == (0, 0, WALL + T0 + MS)
    assert station.events[-1] == (1, Event.RESPONSE, T0 + MS)
    assert station.http.counts() == {"http: answer without its request": 1}


def test_an_unanswered_request_and_a_late_answer() -> None:
    stream, station = Stream(), Station(timeout_ns=10 * MS)
    station.take(stream.ask()).expire(T0 + 11 * MS)
    assert station.row()["state"] == State.ASKED
    station.expire(T0 + 12 * MS).expire(T0 + 13 * MS)
    assert station.row()["state"] == State.UNANSWERED
    station.take(stream.answer())
    assert station.row()["state"] == State.ANSWERED
    assert station.row()["flags"] & Flag.LATE
    assert [event for _, event, _ in station.events] == [Event.REQUEST, Event.NO_RESPONSE, Event.RESPONSE]
    assert station.events[1] == (0, Event.NO_RESPONSE, T0 + 12 * MS)


def test_an_answer_that_was_lost_is_not_called_missing() -> None:
    stream, station = Stream(), Station(timeout_ns=10 * MS)
    station.take(stream.ask())
    stream.answer()
    station.take(stream.ask(), stream.answer()).expire(T0 + 100 * MS)
    assert [row["state"] for row in station.rows()] == [State.ASKED, State.ANSWERED]
    assert station.http.counts() == {"http: answer not seen": 1}


def test_an_answer_is_not_waited_for_for_ever() -> None:
    stream, station = Stream(), Station(timeout_ns=10 * MS)
    station.take(stream.ask()).expire(T0 + 20 * MS).expire(T0 + 200 * MS)
    station.take(stream.answer()).settle()
    assert station.row()["state"] == State.UNANSWERED


def test_the_end_of_a_connection_ends_its_requests() -> None:
    one, other, station = Stream(1), Stream(2), Station()
    station.take(one.ask(), other.ask()).end(1, T0 + 5 * MS)
    assert [row["state"] for row in station.rows()] == [State.UNANSWERED, State.ASKED]
    assert station.row()["flags"] & Flag.CONNECTION_END
    assert station.events[-1] == (0, Event.NO_RESPONSE, T0 + 5 * MS)
    assert station.end(1, T0 + 6 * MS).end(3, T0).events[-1] == (0, Event.NO_RESPONSE, T0 + 5 * MS)


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ([(T0 - MS, 0.0)], False),  # taken in the very moment
        ([(T0 + 2 * MS, 0.0)], False),  # taken before
        ([(T0 - MS, 0.0), (T0 + 2 * MS, 1.0)], False),  # the answer may have come before all were taken again
        ([(T0 - 2 * MS, 0.0), (T0 - MS, 1.0)], True),
        ([(T0 + MS, 1.0)], True),
    ],
)
def test_what_was_not_looked_for_is_not_told_unanswered(shares: list[tuple[int, float]], told: bool) -> None:
    ends, times_out = Station(), Station(timeout_ns=10 * MS)
    for station in (ends, times_out):
        station.take(Stream().ask(time_ns=T0))
        for time_ns, share in shares:
            station.http.sampling.begin(left_out(share), time_ns)
    for station, events in ((ends, ends.end(1, T0 + 5 * MS).events), (times_out, times_out.expire(T0 + 12 * MS).events)):
        assert [event for _, event, _ in events] == [Event.REQUEST] + [Event.NO_RESPONSE] * told
        assert station.http.counts() == ({} if told else {"http: answer not seen": 1})


@pytest.mark.parametrize(("share", "told"), [(1.0, True), (0.999_999, False)])
def test_of_plaintext_any_answer_may_have_been_left_out_while_there_was_a_sample(share: float, told: bool) -> None:
    station = Station().take(Stream(origin=Origin.OPENSSL).ask(time_ns=T0))
    station.http.sampling.begin(left_out(share), T0 + 1)
    assert [event for _, event, _ in station.end(1, T0 + MS).events] == [Event.REQUEST] + [Event.NO_RESPONSE] * told


def test_a_sample_is_of_those_whose_answers_leave() -> None:
    """Of many that wait, those of the share that is left are told."""
    streams, station = [Stream(number, start=1_000 * number) for number in range(1, 401)], Station()
    station.take(*(stream.ask(time_ns=T0) for stream in streams))
    station.http.sampling.begin(left_out(0.25), T0 + 1)
    for stream in streams:
        station.end(stream.conn_id, T0 + MS)
    told = sum(event == Event.NO_RESPONSE for _, event, _ in station.events)
    assert 60 <= told <= 140
    assert station.http.counts() == {"http: answer not seen": 400 - told}


def test_what_waits_is_bounded() -> None:
    streams, station = [Stream(conn_id) for conn_id in range(1, 11)], Station(most_waiting=4)
    station.take(*(stream.ask(time_ns=T0 + stream.conn_id) for stream in streams))
    station.take(*(stream.answer() for stream in streams)).settle()
    assert [row["state"] for row in station.rows()] == [State.ASKED] * 6 + [State.ANSWERED] * 4
    assert station.http.counts() == {"http: too many waiting": 6, "http: answer without its request": 6}


def test_a_batch_larger_than_the_store() -> None:
    streams, station = [Stream(conn_id) for conn_id in range(1, 101)], Station(capacity=8)
    station.take(*(stream.ask() for stream in streams), *(stream.answer() for stream in streams))
    assert station.store.written == 100
    assert {row["state"] for row in station.rows()} == {State.ANSWERED}


def test_both_ends_and_both_origins_of_a_connection_are_apart() -> None:
    station, payloads = Station(), []
    for conn_id, client, origin in (
        (1, True, Origin.PACKET),
        (1, True, Origin.OPENSSL),
        (1, False, Origin.PACKET),
        (2, False, Origin.PACKET),
    ):
        stream = Stream(conn_id, client=client, origin=origin)
        payloads += [stream.ask(b"GET /%d%d%d HTTP/1.1\r\n\r\n" % (conn_id, client, origin)), stream.answer()]
    assert [row["state"] for row in station.take(*payloads).rows()] == [State.ANSWERED] * 4
    assert station.http.counts() == {}


def test_headers_on_the_allow_list_are_kept_of_both() -> None:
    rules = Redaction.of({"headers_allow": ["Range", "Location", "X-Long", "Referer"]})
    stream, station = Stream(), Station(rules)
    asked = (
        b"GET / HTTP/1.1\r\nHost: b\r\nrange:  bytes=0-9 \r\nCookie: a=b\r\nReferer: http://u:p@x/y?z\r\nX-Long: "
        + b"y" * 99
        + b"\r\n\r\n"
    )
    station.take(
        stream.ask(asked, long=True),
        stream.answer(b"HTTP/1.1 302 Found\r\nLocation: /c?d=e\r\nSet-Cookie: f\r\n\r\nRange: no\r\n"),
    )
    assert station.row()["headers"] == b"range: bytes=0-9\nReferer: http://x/y\nLocation: /c\n"


def test_no_payloads() -> None:
    station = Station().take(Stream().ask()[:0])
    assert len(station.http.take(np.zeros(0, Stream().ask().dtype), WALL).request) == 0
    assert station.events == []


def test_an_answer_is_never_of_a_request_from_before_a_pause() -> None:
    """What passed in between was not counted, so that the numbers go on as if nothing had."""
    stream = Stream(origin=Origin.OPENSSL)
    station = Station().take(stream.ask(slice=3))
    station.http.paused(Origin.OPENSSL)
    station.take(stream.answer(slice=4)).settle()
    assert [row["state"] for row in station.rows()] == [State.ASKED, State.ALONE]
    assert station.http.counts() == {"http: answer not seen": 1}


def test_slices_are_told_apart_without_a_word_of_the_pause() -> None:
    stream = Stream(origin=Origin.OPENSSL)
    station = Station().take(stream.ask(slice=63)).take(stream.answer(slice=0)).settle()
    assert [row["state"] for row in station.rows()] == [State.ASKED, State.ALONE]
    station.take(stream.ask(slice=0)).take(stream.answer(slice=0)).settle()
    assert station.row(2)["state"] == State.ANSWERED


@pytest.mark.parametrize(("origin", "told"), [(Origin.OPENSSL, False), (Origin.PACKET, True)])
def test_after_a_pause_of_plaintext_only_packets_are_known_to_have_had_no_answer(origin: Origin, told: bool) -> None:
    station = Station().take(Stream(origin=origin).ask())
    station.http.paused(Origin.OPENSSL)
    station.expire(T0 + 61 * 10**9).end(1, T0 + 62 * 10**9)
    assert (station.row()["state"] == State.UNANSWERED) is told
    assert (Event.NO_RESPONSE in [event for _, event, _ in station.events]) is told
