"""HTTP/1: the rows of pipelined requests, of bodies and of upgrades are the same however records are split into calls."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from http1_samples import Stream
from hypothesis import given, settings
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
    chunked,
    get,
    post,
    simple,
    sized,
    taken,
)

from flows.agent.probe.record import Event


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


def upgrade(start: int = 0) -> list[Payload]:
    stream = Stream(start=start)
    before = [stream.ask(get(1)), stream.answer(sized(1)), stream.ask(get(2)), stream.answer(SWITCHING)]
    return [*before, stream.ask(ALIKE), stream.answer(ANSWER_ALIKE), stream.ask(ALIKE), stream.ask(ALIKE)]


UPGRADE = [("/1", ANSWERED, 401, False), ("/2", ANSWERED, 101, False)]
KINDS = [
    (pipelines, PIPELINES), (in_one_packet, IN_ONE_PACKET), (danger, DANGER), (again, AGAIN), (bodies, TWO_PAIRS),
    (upgrade, UPGRADE),
]  # fmt: skip
COUNTED = {
    pipelines: {"http: pipelined request": 3},
    in_one_packet: {"http: pipelined request": 1, "http: interim answer without its request": 1},
    danger: {"http: pipelined request": 2},
    bodies: {"http: body that looks like a request": 3, "http: body that looks like an answer": 2, "http: interim answer": 1},
    upgrade: {"http: after an upgrade": 4},
}


@pytest.mark.parametrize(("kind", "expected"), KINDS, ids=[kind.__name__ for kind, _ in KINDS])
@pytest.mark.parametrize(
    "start", [0, (1 << 32) - 60, (1 << 32) - 7_030, 1 << 31], ids=["low", "requests wrap", "answers wrap", "middle"]
)
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


@settings(max_examples=300)
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


@settings(max_examples=300)
@given(st.data(), st.lists(st.integers(1, 6), max_size=20))
def test_answers_that_are_lost_make_no_wrong_pairs(data: st.DataObject, sizes: list[int]) -> None:
    talk = Talk(data.draw, within=False)  # where an answer ends that was lost is not known
    kept = [one for one in talk.payloads if one["sent"][0] or not data.draw(st.booleans())]
    for path, state, status, _ in simple(taken(kept, sizes)):
        assert state != ANSWERED or path == f"/{status - 400}"
