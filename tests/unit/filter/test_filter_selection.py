"""Which of the matching flows are shown: number, first, since, until; lost events of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=20), st.integers(0, 9), st.booleans())
def test_a_number_takes_from_the_right_end(flows: list[tuple[bool, int]], number: int, first: bool) -> None:
    flows.sort(key=lambda flow: flow[1])
    matches, times = np.array([f[0] for f in flows], bool), np.array([f[1] for f in flows], np.int64)
    all_rows = rows(matches)
    kept = all_rows[:number] if first else all_rows[-number:]
    assert rows(select(matches, times, Selection(number=number, first=first))) == (kept if number else all_rows)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({}, True),
        ({"uuid": ["v"]}, False),
        ({"source_pod": ["nosuch"]}, False),
        ({"verdict": ["VERDICT_UNKNOWN"]}, False),
        ({"ip_version": ["IP_NOT_USED"]}, False),
    ],
)
def test_lost_events_and_node_status_of_a_file_are_filtered_as_hubble_does(asked: dict[str, Any], shown: bool) -> None:
    lost, status = GetFlowsResponse(), GetFlowsResponse()
    lost.lost_events.num_events_lost, status.node_status.message = 1, "m"
    found = choose([lost, status], compile_filters([FlowFilter(**asked)] if asked else []), Selection())
    assert found == ([lost, status] if shown else [])


def test_what_is_no_flow_counts_as_one_in_a_file() -> None:
    flow, lost = GetFlowsResponse(), GetFlowsResponse()
    flow.flow.uuid, lost.lost_events.num_events_lost = "u", 1
    assert choose([flow, lost, flow], compile_filters(), Selection(number=2, first=True)) == [flow, lost]
    assert choose([flow, lost, flow], compile_filters(), Selection(number=2)) == [lost, flow]
    assert choose([], compile_filters(), Selection(number=3)) == []
