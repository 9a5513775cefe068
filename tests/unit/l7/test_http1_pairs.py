"""HTTP/1: which request and answer are a pair, in whatever order, however often and with what in between they come."""

from __future__ import annotations

import numpy as np
import pytest
from http1_samples import GET, MS, OK, T0, WALL, Station, Stream

from flows.agent.probe.payload import Origin
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag, Kind, State

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


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


def test_both_ends_and_both_origins_of_a_connection_are_apart() -> None:
    station, payloads = Station(), []
    for conn_id, client, origin in (
        (1, True, Origin.PACKET),
        (1, True, Origin.TLS_LIBRARY),
        (1, False, Origin.PACKET),
        (2, False, Origin.PACKET),
    ):
        stream = Stream(conn_id, client=client, origin=origin)
        payloads += [stream.ask(b"GET /%d%d%d HTTP/1.1\r\n\r\n" % (conn_id, client, origin)), stream.answer()]
    assert [row["state"] for row in station.take(*payloads).rows()] == [State.ANSWERED] * 4
    assert station.http.counts() == {}


def test_a_batch_larger_than_the_store() -> None:
    streams, station = [Stream(conn_id) for conn_id in range(1, 101)], Station(capacity=8)
    station.take(*(stream.ask() for stream in streams), *(stream.answer() for stream in streams))
    assert station.store.written == 100
    assert {row["state"] for row in station.rows()} == {State.ANSWERED}


def test_no_payloads() -> None:
    station = Station().take(Stream().ask()[:0])
    assert len(station.http.take(np.zeros(0, Stream().ask().dtype), WALL).request) == 0
    assert station.events == []
