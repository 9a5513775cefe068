"""HTTP/1: what looks like a request or an answer in a body or after an upgrade is none, where that can be known."""

from __future__ import annotations

import numpy as np
import pytest
from http1_samples import Station, Stream
from hypothesis import given
from hypothesis import strategies as st
from pairing_samples import (
    ALIKE,
    ALONE,
    ANSWER_ALIKE,
    ANSWERED,
    ASKED,
    CONTINUE,
    SWITCHING,
    TWO_PAIRS,
    Payload,
    get,
    post,
    simple,
    sized,
    taken,
)

from flows.agent.l7.http1_extents import EXTENT, inside, outermost
from flows.agent.l7.redact import Redaction
from flows.agent.probe.payload import PayloadKind


def test_a_chunked_body_may_look_like_a_request_and_is_pipelined_then() -> None:
    stream = Stream()
    asked = stream.ask(b"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    station = taken([asked, stream.ask(ALIKE), stream.answer(sized(1))], [])
    assert simple(station) == [("/1", ANSWERED, 401, True), ("/x", ASKED, 0, True)]


@pytest.mark.parametrize("headers", [{}, {"headers_allow": ["X-One"]}], ids=["no headers", "headers"])
def test_long_packets_of_a_body_are_read_before_its_request(headers: dict[str, list[str]]) -> None:
    stream, station = Stream(), Station(Redaction.of(headers))
    asked = stream.ask(post(1, 4_998))
    packets = [stream.ask(ALIKE + b"12345" * 490 + b"\n" * 30, long=True, length=2_499) for _ in range(2)]
    answers, later = [stream.answer(sized(1))], [stream.ask(get(2)), stream.answer(sized(2))]
    station.take(*packets).take(asked, *answers, *later)
    assert simple(station) == TWO_PAIRS
    assert station.http.counts() == {"http: body that looks like a request": 2}


@pytest.mark.parametrize("calls", [1, 3])
def test_what_a_server_sends_within_its_answer_is_no_request_of_its_own(calls: int) -> None:
    stream, station = Stream(), Station()
    payloads = [stream.ask(get(1)), stream.answer(sized(1, 3_000)), stream.answer(ALIKE, kind=PayloadKind.HTTP_REQUEST)]
    for part in np.array_split(np.concatenate(payloads), calls):
        station.take(part)
    station.settle().expire(70 * 10**9)
    assert simple(station) == [("/1", ANSWERED, 401, False)]
    assert station.http.counts() == {"http: body that looks like a request": 1}


@pytest.mark.parametrize("calls", [1, 3])
def test_what_a_client_sends_within_its_request_is_no_answer_of_its_own(calls: int) -> None:
    stream, station = Stream(), Station()
    payloads = [stream.ask(post(1, 3_000)), stream.ask(ANSWER_ALIKE, kind=PayloadKind.HTTP_RESPONSE), stream.answer(sized(1))]
    for part in np.array_split(np.concatenate(payloads), calls):
        station.take(part)
    station.settle()
    assert simple(station) == [("/1", ANSWERED, 401, False)]
    assert station.http.counts() == {"http: body that looks like an answer": 1}


UPLOAD = b"PUT /1 HTTP/1.1\r\nHost: s3\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize("calls", [1, 2, 3, 8])
def test_after_a_refusal_to_take_a_body_requests_go_on(calls: int) -> None:
    """What botocore does, and curl after 417: Expect: 100-continue, a final answer, and no body."""
    stream, station = Stream(), Station()
    payloads = [stream.ask(UPLOAD % (8 << 20)), stream.answer(sized(1))]
    for name in (2, 3, 4):
        payloads += [stream.ask(get(name)), stream.answer(sized(name))]
    for part in np.array_split(np.concatenate(payloads), calls):
        station.take(part)
    assert simple(station.settle()) == [*TWO_PAIRS, ("/3", ANSWERED, 403, False), ("/4", ANSWERED, 404, False)]
    assert station.http.counts() == {}


@pytest.mark.parametrize("calls", [1, 2, 3, 6])
def test_a_body_that_was_asked_for_may_look_like_a_request_from_its_first_packet_on(calls: int) -> None:
    stream, station = Stream(), Station()
    payloads = [stream.ask(UPLOAD % (2 * len(ALIKE))), stream.answer(CONTINUE), stream.ask(ALIKE), stream.ask(ALIKE)]
    payloads += [stream.answer(sized(1)), stream.ask(get(2)), stream.answer(sized(2))]
    for part in np.array_split(np.concatenate(payloads), calls):
        station.take(part)
    assert simple(station.settle()) == TWO_PAIRS
    assert station.http.counts() == {"http: body that looks like a request": 2, "http: interim answer": 1}


def test_an_upgrade_in_a_body_is_none() -> None:
    stream = Stream()
    payloads = [stream.ask(get(1)), stream.answer(sized(1, len(SWITCHING))), stream.answer(SWITCHING)]
    station = taken([*payloads, stream.ask(get(2)), stream.answer(sized(2))], [])
    assert simple(station) == TWO_PAIRS


def test_an_upgrade_whose_request_was_not_seen_ends_http_as_well() -> None:
    stream, station = Stream(client=False), Station()
    stream.ask(get(1))
    station.take(stream.answer(SWITCHING)).settle().take(stream.ask(ALIKE), stream.answer(ANSWER_ALIKE)).settle()
    assert [(row["state"], row["status"]) for row in station.rows()] == [(ALONE, 101)]
    assert station.http.counts() == {"http: after an upgrade": 2}


@pytest.mark.parametrize("sizes", [[], [1, 1], [2, 1, 1], [2, 2]], ids=str)
def test_what_a_server_sends_after_an_upgrade_is_no_request_either(sizes: list[int]) -> None:
    stream, echo = Stream(), Stream(client=False)
    payloads = [stream.ask(get(1)), stream.answer(SWITCHING), stream.ask(ALIKE)]
    echo.asked, echo.answered, echo.now = stream.answered, stream.asked, stream.now
    payloads += [echo.ask(ALIKE), echo.answer(ANSWER_ALIKE)]
    station = taken(payloads, sizes)
    assert simple(station) == [("/1", ANSWERED, 101, False)]
    assert station.http.counts() == {"http: after an upgrade": 3}


EXTENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 30)), max_size=12)


@given(EXTENTS, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 90)), max_size=20), st.sampled_from([0, (1 << 32) - 40]))
def test_extents_are_those_that_looking_at_each_finds(
    drawn: list[tuple[int, int, int]], asked: list[tuple[int, int]], start: int
) -> None:
    def rows(values: list[tuple[int, int, int]]) -> Payload:
        made = np.zeros(len(values), EXTENT)
        for at, (place, sequence, size) in enumerate(values):
            made[at] = (place + 7, place, (sequence + start) % (1 << 32), size, 0)
        return made

    outer: list[tuple[int, int, int]] = []
    for place, begin, size in sorted(drawn, key=lambda one: (one[0], one[1])):
        if not any(place == other and start_at < begin < start_at + long for other, start_at, long in outer):
            outer.append((place, begin, size))
    distinct = {(place, begin) for place, begin, _ in drawn}
    if len(distinct) < len(drawn):
        return  # which of two that begin in one place counts is not said
    found = outermost(rows(drawn))
    assert {(int(one["place"]), int(one["sequence"])) for one in found} == {(p, (b + start) % (1 << 32)) for p, b, _ in outer}
    mask = inside(rows([(place, sequence, 0) for place, sequence in asked]), found)
    assert mask.tolist() == [
        any(place == other and begin < sequence < begin + size for other, begin, size in outer) for place, sequence in asked
    ]
