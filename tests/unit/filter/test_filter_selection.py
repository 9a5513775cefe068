"""Which of the matching flows are shown: number, first, since, until; lost events pass by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.filter import Selection, compile_filters, select
from flows.flow.filter.selection import ALL
from flows.flow.table import choose
from flows.proto.flow_pb2 import FlowFilter
from flows.proto.observer_pb2 import GetFlowsResponse

if TYPE_CHECKING:
    from numpy.typing import NDArray

MATCHES = np.array([True, False, True, True, False, True])
TIMES = np.array([10, 20, 30, 30, 40, 50])


def rows(mask: NDArray[np.bool_]) -> list[int]:
    return np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [0, 2, 3, 5]),
        (Selection(number=ALL), [0, 2, 3, 5]),
        (Selection(number=2), [3, 5]),
        (Selection(number=2, first=True), [0, 2]),
        (Selection(number=9, first=True), [0, 2, 3, 5]),
        (Selection(since=30), [2, 3, 5]),
        (Selection(until=30), [0, 2, 3]),
        (Selection(since=30, until=30), [2, 3]),
        (Selection(number=1, until=30), [3]),
        (Selection(number=1, first=True, since=11), [2]),
        (Selection(since=10**30), []),
    ],
    ids=str,
)
def test_selected_rows(selection: Selection, expected: list[int]) -> None:
    assert rows(select(MATCHES, TIMES, selection)) == expected


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [0, 1, 2, 3, 4, 5]),
        (Selection(number=1), [5]),
        (Selection(number=2), [3, 4, 5]),
        (Selection(number=2, first=True), [0, 1, 2]),
        (Selection(since=30, until=40), [2, 3, 4]),
    ],
    ids=str,
)
def test_what_is_no_flow_is_shown_where_a_reader_passes_it(selection: Selection, expected: list[int]) -> None:
    assert rows(select(MATCHES, TIMES, selection, exempt=~MATCHES)) == expected


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=20), st.integers(0, 9), st.booleans())
def test_a_number_takes_from_the_right_end(flows: list[tuple[bool, int]], number: int, first: bool) -> None:
    flows.sort(key=lambda flow: flow[1])
    matches, times = np.array([f[0] for f in flows], bool), np.array([f[1] for f in flows], np.int64)
    all_rows = rows(matches)
    kept = all_rows[:number] if first else all_rows[-number:]
    assert rows(select(matches, times, Selection(number=number, first=first))) == (kept if number else all_rows)


def test_lost_events_and_node_status_bypass_the_filters() -> None:
    flow, lost, status = GetFlowsResponse(), GetFlowsResponse(), GetFlowsResponse()
    flow.flow.uuid, lost.lost_events.num_events_lost, status.node_status.message = "u", 1, "m"
    nothing = compile_filters([FlowFilter(uuid=["v"])])
    assert choose([flow, lost, status], nothing, Selection()) == [lost, status]
    assert choose([flow, lost, status], compile_filters(), Selection(number=1, first=True)) == [flow]
    assert choose([], nothing, Selection(number=3)) == []
