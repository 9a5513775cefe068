from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_samples import batch

from flows.proto import observer_pb2
from flows.relay.limit import Everything, Newest, Oldest, limit
from flows.relay.merge import Rows
from flows.relay.query import parse


def rows(*times: int) -> Rows:
    made = batch(times)
    return Rows(made, made.time_ns)


def shown(bound: Newest | Oldest, windows: list[list[int]]) -> list[int]:
    got = [time for window in windows for time in bound.push(rows(*window)).at_ns.tolist()]
    return got + rest(bound)


def rest(bound: Newest | Oldest) -> list[int]:
    kept = bound.end()
    return [] if kept is None else [int(time) for time in kept.at_ns]


@given(number=st.integers(1, 12), windows=st.lists(st.lists(st.integers(0, 50), max_size=6).map(sorted), max_size=8))
def test_the_newest_and_the_oldest_are_of_the_whole_stream(number: int, windows: list[list[int]]) -> None:
    ordered = sorted(time for window in windows for time in window)
    cut = [ordered[first : first + 4] for first in range(0, len(ordered), 4)]
    newest, oldest = Newest(number), Oldest(number)
    assert shown(newest, cut) == ordered[-number:]
    assert shown(oldest, cut) == ordered[:number]
    assert oldest.done == (len(ordered) >= number)
    assert newest.reached == oldest.reached == (len(ordered) >= number)


def test_the_newest_hold_no_more_than_the_number_and_a_window() -> None:
    bound = Newest(5)
    for first in range(0, 1000, 10):
        bound.push(rows(*range(first, first + 10)))
        assert bound._rows <= 15
    assert rest(bound) == list(range(995, 1000))


def test_what_comes_late_takes_its_place_among_the_newest() -> None:
    bound = Newest(3)
    bound.push(rows(10, 20))
    bound.push(rows(5, 15, 30))
    assert rest(bound) == [15, 20, 30]


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({}, Everything),
        ({"number": 5}, Newest),
        ({"number": 5, "first": True}, Oldest),
        ({"first": True}, Everything),
        ({"number": 1 << 63}, Everything),
        ({"number": (1 << 64) - 1, "first": True}, Everything),
    ],
)
def test_limits_of_requests(request_: dict[str, Any], kind: type[object]) -> None:
    assert type(limit(parse(observer_pb2.GetFlowsRequest(**request_)))) is kind
