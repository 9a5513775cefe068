"""HTTP/1: of pipelined requests none is paired wrongly, and what is remembered of them is bounded."""

from __future__ import annotations

import pytest
from http1_samples import T0, Station, Stream
from pairing_samples import ANSWERED, ASKED, PIPELINED, chunked, get, post, simple, sized, taken

from flows.agent.l7.http1_owed import MOST_OF_ONE, Owed
from flows.agent.l7.http1_requests import several
from flows.agent.l7.redact import Redaction


def test_a_lost_request_among_pipelined_ones_ends_pairing_on_its_connection_only() -> None:
    stream, other = Stream(1), Stream(2)
    asked = [stream.ask(get(name)) for name in (1, 2, 3, 4)]
    del asked[2]
    answers = [stream.answer(sized(name)) for name in (1, 2, 3)]
    payloads = [*asked, *answers, stream.ask(get(5)), stream.answer(sized(4)), stream.answer(sized(5))]
    station = taken([*payloads, other.ask(get(6)), other.answer(sized(6))], [])
    states = {path: (state, status) for path, state, status, _ in simple(station) if path}
    assert states == {"/1": (ANSWERED, 401), "/2": (ASKED, 0), "/4": (ASKED, 0), "/5": (ASKED, 0), "/6": (ANSWERED, 406)}


@pytest.mark.parametrize("sizes", [[], [2, 2], [1] * 6, [4], [3, 2]], ids=str)
def test_the_size_of_an_answer_does_not_span_the_next_one(sizes: list[int]) -> None:
    stream = Stream()
    payloads = [stream.ask(get(1)), stream.ask(get(2)), stream.answer(chunked(1), more=5), stream.answer(chunked(2), more=7)]
    station = taken([*payloads, stream.ask(get(3)), stream.answer(sized(3))], sizes)
    assert [(row["status"], row["response_bytes"]) for row in station.rows()] == [
        (401, -1),
        (0, -1),
        (403, len(sized(3))),
        (402, -1),
    ]


def test_what_is_owed_when_a_connection_ends_is_forgotten() -> None:
    stream, station = Stream(), Station()
    station.take(stream.ask(get(1)), stream.ask(get(2)), stream.ask(get(3))).end(1, T0)
    assert len(station.http._pipelining._owed) == 0
    assert all(row["flags"] & PIPELINED for row in station.rows())


def test_debts_are_bounded() -> None:
    station = Station(capacity=1 << 13)
    station.http._pipelining._owed = Owed(most=3)
    streams = [Stream(conn_id) for conn_id in range(1, 11)]
    for stream in streams:
        station.take(stream.ask(get(1)), stream.ask(get(2)))
    assert len(station.http._pipelining._owed) == 3
    for name in range(3, MOST_OF_ONE + 5):
        station.take(streams[0].ask(get(name)))
    assert len(station.http._pipelining._owed) == 2
    station.take(*(stream.answer(sized(name)) for stream in streams for name in (1, 2))).settle()
    wrong = [row for row in station.rows() if row["state"] == ANSWERED and row["text"] != b"/%d" % (row["status"] - 400)]
    assert wrong == []


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (get(1) * 3, (3, 3 * len(get(1)))),
        (get(1) + post(2, 4) + b"GET " + get(3), (3, 2 * len(get(1)) + len(post(2, 4)) + 4)),
        (get(1) + post(2, 4), (2, len(get(1)) + len(post(2, 4)) + 4)),
        (get(1) + get(2)[:-1], (0, 0)),
        (get(1) + b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", (0, 0)),
        (get(1) + b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", (0, 0)),
        (get(1) * 300, (0, 0)),
    ],
    ids=["alike", "a body between", "a body last", "one is cut", "a chunked body", "a body of no length", "too many"],
)
def test_how_many_requests_are_in_a_packet(raw: bytes, expected: tuple[int, int]) -> None:
    assert several(raw) == expected


def test_a_long_request_with_something_behind_it_comes_a_call_later() -> None:
    stream, station = Stream(), Station(Redaction.of({"headers_allow": ["X-One"]}))
    text = b"GET /1 HTTP/1.1\r\nX-One: 1\r\n\r\n" + b"\0" * 300
    station.take(stream.ask(text, long=True), stream.ask(get(2), long=True))
    assert [row["text"] for row in station.rows()] == [b"/2"]
    station.expire(T0)
    assert [(row["text"], row["headers"]) for row in station.rows()] == [(b"/2", b""), (b"/1", b"X-One: 1\n")]
