"""HTTP/1: what becomes of pipelined requests, of bodies that look like HTTP and of upgrades does not depend on batches."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from http1_samples import MS, T0, Station, Stream
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.agent.l7.http1_extents import EXTENT, inside, outermost
from flows.agent.l7.http1_owed import MOST_OF_ONE, Owed
from flows.agent.l7.http1_requests import several
from flows.agent.l7.redact import Redaction
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag, State

if TYPE_CHECKING:
    from collections.abc import Iterable

Payload = np.ndarray[Any, Any]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n"
ALIKE = b"GET /x HTTP/1.1\r\n\r\n"
ANSWER_ALIKE = b"HTTP/1.1 599 No\r\n\r\n"
PIPELINED, ANSWERED, ASKED, ALONE = Flag.PIPELINED, State.ANSWERED, State.ASKED, State.ALONE


def get(name: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\n\r\n" % name


def post(name: int, size: int) -> bytes:
    return b"POST /%d HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (name, size)


def sized(name: int, size: int = 0) -> bytes:
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n" % (400 + name, size)


def chunked(name: int) -> bytes:
    return b"HTTP/1.1 %d OK\r\nTransfer-Encoding: chunked\r\n\r\n" % (400 + name)


def simple(station: Station) -> list[tuple[str, int, int, bool]]:
    """Path, state, status, whether pipelined; in order of requests, then answers alone."""
    rows = sorted(station.rows(), key=lambda row: (row["state"] == ALONE, row["time"], row["answered"]))
    return [(row["text"].decode(), row["state"], row["status"], bool(row["flags"] & PIPELINED)) for row in rows]


def taken(payloads: list[Payload], sizes: Iterable[int]) -> Station:
    """In calls of so many payloads; the rest in one."""
    station, begin = Station(), 0
    for size in sizes:
        if payloads[begin : begin + size]:
            station.take(*payloads[begin : begin + size])
        begin += size
    if payloads[begin:]:
        station.take(*payloads[begin:])
    for _ in range(4):
        station.settle()
    return station.expire(T0 + 1000 * MS)


def during(stream: Stream, text: bytes, before_end: int, **fields: Any) -> Payload:
    """A request whose sender has not seen that many of the bytes that were sent to it."""
    made = stream.ask(text, **fields)
    made["acknowledged"] -= np.uint32(before_end)
    return made


def pipelines(start: int = 0) -> list[Payload]:
    stream = Stream(start=start)
    return [
        stream.ask(get(1)), stream.answer(sized(1)),
        stream.ask(get(2)), stream.ask(get(3)), stream.ask(get(4)),
        stream.answer(sized(2)), stream.answer(chunked(3), more=50), stream.answer(sized(4, 9), more=9),
        stream.ask(get(5)), stream.answer(sized(5)), stream.ask(get(6)), stream.answer(sized(6)),
    ]  # fmt: skip


PIPELINES = [
    ("/1", ANSWERED, 401, False),
    ("/2", ANSWERED, 402, True),
    ("/3", ASKED, 0, True),
    ("/4", ASKED, 0, True),
    ("/5", ANSWERED, 405, False),
    ("/6", ANSWERED, 406, False),
    ("", ALONE, 403, True),
    ("", ALONE, 404, True),
]


def in_one_packet(start: int = 0) -> list[Payload]:
    stream = Stream(start=start)
    return [
        stream.ask(get(1)), stream.answer(sized(1)), stream.ask(get(2) + get(3) + get(4)),
        stream.answer(chunked(2), more=9), stream.answer(CONTINUE), stream.answer(sized(3)), stream.answer(chunked(4), more=3),
        stream.ask(get(5)), stream.answer(sized(5)),
    ]  # fmt: skip


IN_ONE_PACKET = [
    ("/1", ANSWERED, 401, False),
    ("/2", ASKED, 0, True),
    ("/5", ANSWERED, 405, False),
    *(("", ALONE, 400 + name, True) for name in (2, 3, 4)),
]


def danger(start: int = 0) -> list[Payload]:
    """/3 acknowledges exactly where the answer to /2 begins, which was asked in the middle of the answer to /1."""
    stream = Stream(start=start)
    first = [stream.ask(get(1)), stream.answer(sized(1, 100), more=100)]
    second = during(stream, get(2), 50)
    third = stream.ask(get(3))
    answers = [stream.answer(sized(2)), stream.answer(sized(3))]
    return [*first, second, third, *answers, stream.ask(get(4)), stream.answer(sized(4))]


DANGER = [
    ("/1", ANSWERED, 401, False),
    ("/2", ASKED, 0, True),
    ("/3", ASKED, 0, True),
    ("/4", ANSWERED, 404, False),
    ("", ALONE, 402, True),
    ("", ALONE, 403, True),
]


def again(start: int = 0) -> list[Payload]:
    """One comes when the first answer has begun but was not received yet."""
    stream = Stream(start=start)
    first, answer = stream.ask(get(1)), stream.answer(sized(1))
    second = during(stream, get(2), len(sized(1)))
    return [first, answer, second, stream.answer(sized(2)), stream.ask(get(3)), stream.answer(sized(3))]


AGAIN = [("/1", ANSWERED, 401, True), ("/2", ASKED, 0, True), ("/3", ANSWERED, 403, False), ("", ALONE, 402, True)]


def bodies(start: int = 0) -> list[Payload]:
    """Packets of both bodies begin like requests and answers; some even announce bodies."""
    stream, size = Stream(start=start), 2 * len(ALIKE) + len(post(9, 10_000))
    upload = [
        stream.ask(post(1, size)),
        stream.answer(CONTINUE),
        stream.ask(ALIKE),
        stream.ask(post(9, 10_000)),
        stream.ask(ALIKE),
    ]
    download = [stream.answer(sized(1, 2 * len(ANSWER_ALIKE))), stream.answer(ANSWER_ALIKE), stream.answer(ANSWER_ALIKE)]
    return [*upload, *download, stream.ask(get(2)), stream.answer(sized(2))]


BODIES = [("/1", ANSWERED, 401, False), ("/2", ANSWERED, 402, False)]


def upgrade(start: int = 0) -> list[Payload]:
    stream = Stream(start=start)
    before = [stream.ask(get(1)), stream.answer(sized(1)), stream.ask(get(2)), stream.answer(SWITCHING)]
    return [*before, stream.ask(ALIKE), stream.answer(ANSWER_ALIKE), stream.ask(ALIKE), stream.ask(ALIKE)]


UPGRADE = [("/1", ANSWERED, 401, False), ("/2", ANSWERED, 101, False)]
KINDS = [
    (pipelines, PIPELINES), (in_one_packet, IN_ONE_PACKET), (danger, DANGER), (again, AGAIN), (bodies, BODIES),
    (upgrade, UPGRADE),
]  # fmt: skip
COUNTED = {
    pipelines: {"http: pipelined request": 3},
    in_one_packet: {"http: pipelined request": 1, "http: interim answer without its request": 1},
    danger: {"http: pipelined request": 2},
    bodies: {"http: body that looks like a request": 3, "http: body that looks like an answer": 2, "http: interim answer": 1},
    upgrade: {"http: after an upgrade": 4},
}


@pytest.mark.parametrize(("kind", "expected"), KINDS)
@pytest.mark.parametrize("start", [0, (1 << 32) - 60, (1 << 32) - 7_030, 1 << 31])
def test_however_records_are_split_the_rows_are_the_same(kind: Any, expected: list[Any], start: int) -> None:
    payloads = kind(start)
    for cuts in itertools.product([False, True], repeat=len(payloads) - 1):
        if 1 < sum(cuts) < len(cuts):
            continue
        ends = [at + 1 for at, cut in enumerate(cuts) if cut]
        station = taken(payloads, [end - begin for begin, end in itertools.pairwise([0, *ends])])
        assert simple(station) == expected, ends
        if kind in COUNTED:
            assert station.http.counts() == COUNTED[kind], ends
        assert Event.NO_RESPONSE not in {event for _, event, _ in station.events}


class Talk:
    """Connections as a server with no bounds on pipelining has them; answers name their requests by status."""

    def __init__(self, draw: Any, *, within: bool = True) -> None:
        self.payloads: list[Payload] = []
        self.alone: set[str] = set()
        stream = Stream(start=draw(st.sampled_from([0, (1 << 32) - 9_000, 1 << 31])))
        waiting: list[int] = []
        sent = 0  # bytes of the body of the answer just before
        for name in range(1, draw(st.integers(2, 9)) + 1):
            part = draw(st.sampled_from([0, 0, 0, sent // 2])) if within and sent > 1 else 0
            many = bool(waiting) or part
            self.payloads.append(during(stream, get(name), part))
            self.alone |= set() if many else {f"/{name}"}
            waiting.append(name)
            sent = 0  # nobody acknowledges less than before
            for _ in range(draw(st.integers(0, len(waiting)))):
                number, more = waiting.pop(0), draw(st.integers(0, 30))
                self.payloads.append(stream.answer(sized(number, more), more=more))
                sent = more
        self.payloads += [stream.answer(sized(number)) for number in waiting]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.lists(st.integers(1, 6), max_size=20))
def test_pipelining_at_will_gives_the_same_rows_however_it_is_split(data: st.DataObject, sizes: list[int]) -> None:
    talk = Talk(data.draw)
    split, whole, single = (taken(talk.payloads, some) for some in (sizes, [], [1] * len(talk.payloads)))
    assert simple(split) == simple(whole) == simple(single)
    assert split.http.counts() == whole.http.counts() == single.http.counts()
    for path, state, status, pipelined in simple(whole):
        if state == ANSWERED:
            assert path == f"/{status - 400}"
        elif path:
            assert pipelined
    states = {path: state for path, state, _, _ in simple(whole)}
    assert all(states[path] == ANSWERED for path in talk.alone)
    assert Counter(status for _, _, status, _ in simple(whole) if status) == Counter(
        400 + name for name in range(1, 1 + sum(path != "" for path, *_ in simple(whole)))
    )


@settings(max_examples=300, deadline=None)
@given(st.data(), st.lists(st.integers(1, 6), max_size=20))
def test_answers_that_are_lost_make_no_wrong_pairs(data: st.DataObject, sizes: list[int]) -> None:
    talk = Talk(data.draw, within=False)  # where an answer ends that was lost is not known
    kept = [one for one in talk.payloads if one["sent"][0] or not data.draw(st.booleans())]
    for path, state, status, _ in simple(taken(kept, sizes)):
        assert state != ANSWERED or path == f"/{status - 400}"


def test_a_lost_request_among_pipelined_ones_ends_pairing_on_its_connection_only() -> None:
    stream, other = Stream(1), Stream(2)
    asked = [stream.ask(get(name)) for name in (1, 2, 3, 4)]
    del asked[2]
    answers = [stream.answer(sized(name)) for name in (1, 2, 3)]
    payloads = [*asked, *answers, stream.ask(get(5)), stream.answer(sized(4)), stream.answer(sized(5))]
    station = taken([*payloads, other.ask(get(6)), other.answer(sized(6))], [])
    states = {path: (state, status) for path, state, status, _ in simple(station) if path}
    assert states == {"/1": (ANSWERED, 401), "/2": (ASKED, 0), "/4": (ASKED, 0), "/5": (ASKED, 0), "/6": (ANSWERED, 406)}


@pytest.mark.parametrize("sizes", [[], [2, 2], [1] * 6, [4], [3, 2]])
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


def test_a_chunked_body_may_look_like_a_request_and_is_pipelined_then() -> None:
    stream = Stream()
    asked = stream.ask(b"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    station = taken([asked, stream.ask(ALIKE), stream.answer(sized(1))], [])
    assert simple(station) == [("/1", ANSWERED, 401, True), ("/x", ASKED, 0, True)]


def test_an_upgrade_whose_request_was_not_seen_ends_http_as_well() -> None:
    stream, station = Stream(client=False), Station()
    stream.ask(get(1))
    station.take(stream.answer(SWITCHING)).settle().take(stream.ask(ALIKE), stream.answer(ANSWER_ALIKE)).settle()
    assert [(row["state"], row["status"]) for row in station.rows()] == [(ALONE, 101)]
    assert station.http.counts() == {"http: after an upgrade": 2}


@pytest.mark.parametrize("sizes", [[], [1, 1], [2, 1, 1], [2, 2]])
def test_what_a_server_sends_after_an_upgrade_is_no_request_either(sizes: list[int]) -> None:
    stream, echo = Stream(), Stream(client=False)
    payloads = [stream.ask(get(1)), stream.answer(SWITCHING), stream.ask(ALIKE)]
    echo.asked, echo.answered, echo.now = stream.answered, stream.asked, stream.now
    payloads += [echo.ask(ALIKE), echo.answer(ANSWER_ALIKE)]
    station = taken(payloads, sizes)
    assert simple(station) == [("/1", ANSWERED, 101, False)]
    assert station.http.counts() == {"http: after an upgrade": 3}


@pytest.mark.parametrize("headers", [{}, {"headers_allow": ["X-One"]}])
def test_long_packets_of_a_body_are_read_before_its_request(headers: dict[str, list[str]]) -> None:
    stream, station = Stream(), Station(Redaction.of(headers))
    asked = stream.ask(post(1, 4_998))
    packets = [stream.ask(ALIKE + b"12345" * 490 + b"\n" * 30, long=True, length=2_499) for _ in range(2)]
    answers, later = [stream.answer(sized(1))], [stream.ask(get(2)), stream.answer(sized(2))]
    station.take(*packets).take(asked, *answers, *later)
    assert simple(station) == BODIES
    assert station.http.counts() == {"http: body that looks like a request": 2}


def test_a_long_request_with_something_behind_it_comes_a_call_later() -> None:
    stream, station = Stream(), Station(Redaction.of({"headers_allow": ["X-One"]}))
    text = b"GET /1 HTTP/1.1\r\nX-One: 1\r\n\r\n" + b"\0" * 300
    station.take(stream.ask(text, long=True), stream.ask(get(2), long=True))
    assert [row["text"] for row in station.rows()] == [b"/2"]
    station.expire(T0)
    assert [(row["text"], row["headers"]) for row in station.rows()] == [(b"/2", b""), (b"/1", b"X-One: 1\n")]


def test_an_upgrade_in_a_body_is_none() -> None:
    stream = Stream()
    payloads = [stream.ask(get(1)), stream.answer(sized(1, len(SWITCHING))), stream.answer(SWITCHING)]
    station = taken([*payloads, stream.ask(get(2)), stream.answer(sized(2))], [])
    assert simple(station) == BODIES


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
)
def test_how_many_requests_are_in_a_packet(raw: bytes, expected: tuple[int, int]) -> None:
    assert several(raw) == expected


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
