from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_samples import S, batch, position, uuids

from flows.relay.merge import AHEAD_NS, HIGHEST, LOWEST, STALLED_SECONDS, Lane, Merge, Rows


def merge(*lanes: tuple[list[int], int]) -> Merge:
    """Lanes of (times, watermark)."""
    made = Merge()
    for times, watermark in lanes:
        lane = Lane()
        lane.add(batch(times), 0)
        lane.advance(watermark, 0.0)
        made.lanes.append(lane)
    return made


def taken(made: Merge, **bounds: Any) -> list[int]:
    rows = made.take(**bounds)
    return [] if rows is None else [int(time) for time in rows.at_ns]


def whole(made: Merge) -> Rows:
    rows = made.take()
    assert rows is not None
    return rows


def test_gives_out_what_is_before_the_lowest_watermark() -> None:
    made = merge(([1, 5, 9], 10), ([2, 3, 6], 6))
    assert taken(made) == [1, 2, 3, 5]
    assert made.watermark_ns == 6
    assert [lane.rows for lane in made.lanes] == [1, 1]
    made.lanes[1].advance(20, 0.0)
    assert taken(made) == [6, 9]


def test_a_lane_that_is_not_live_holds_nobody_up() -> None:
    made = merge(([1, 5], 10), ([2], LOWEST))
    assert taken(made) == []
    made.lanes[1].live = False
    assert taken(made) == [1, 2, 5]


def test_without_live_lanes_everything_goes_out_and_the_watermark_stays_finite() -> None:
    made = merge(([1, 5], 3))
    made.lanes[0].live = False
    assert taken(made) == [1, 5]
    assert made.watermark_ns == 6
    assert taken(made) == []
    assert made.watermark_ns == 6


def test_late_flows_come_first_and_in_order_among_themselves() -> None:
    made = merge(([10, 11], 12), ([], LOWEST))
    made.lanes[1].live = False
    assert taken(made) == [10, 11]
    made.lanes[1].add(batch([4, 7]), 0)
    made.lanes[0].add(batch([13]), 0)
    made.lanes[0].advance(14, 0.0)
    assert taken(made) == [4, 7, 13]


def test_flows_of_one_nanosecond_stay_in_their_lanes_order() -> None:
    made = Merge()
    for name in ("a", "b"):
        lane = Lane()
        lane.add(batch([5, 5], [f"{name}1", f"{name}2"]), 0)
        lane.advance(6, 0.0)
        made.lanes.append(lane)
    assert uuids(whole(made).batch) == ["a1", "a2", "b1", "b2"]


def test_a_batch_out_of_order_is_put_in_order() -> None:
    made = merge(([5, 3, 4], 10))
    rows = whole(made)
    assert rows.at_ns.tolist() == [3, 4, 5]
    assert uuids(rows.batch) == ["3", "4", "5"]


@pytest.mark.parametrize(("most", "expected"), [(2, [1, 2]), (3, [1, 2, 3, 3]), (4, [1, 2, 3, 3]), (100, [1, 2, 3, 3, 4, 8])])
def test_windows_are_cut_at_times_not_within(most: int, expected: list[int]) -> None:
    made = merge(([1, 3, 8], 10), ([2, 3, 4], 10))
    assert taken(made, most=most) == expected


def test_until_holds_back_what_is_later() -> None:
    made = merge(([1, 5, 9], 10))
    assert taken(made, until_ns=5) == [1]
    assert taken(made) == [5, 9]


def test_times_are_corrected_by_lane() -> None:
    made = Merge()
    for times, offset in (([1_100, 1_300], 1_000), ([200, 400], 0)):
        lane = Lane()
        lane.add(batch(times), offset)
        lane.advance(500, 0.0)
        made.lanes.append(lane)
    rows = whole(made)
    assert rows.at_ns.tolist() == [100, 200, 300, 400]
    assert rows.batch.time_ns.tolist() == [1_100, 200, 1_300, 400]


def test_an_offset_changes_only_while_no_flow_waits() -> None:
    lane = Lane()
    lane.add(batch([100]), 10)
    lane.add(batch([110]), 50)
    assert lane.offset_ns == 10
    lane.take(HIGHEST)
    lane.add(batch([120]), 50)
    assert lane.offset_ns == 50


def test_a_watermark_never_goes_back_and_stalls_after_a_while() -> None:
    lane = Lane()
    lane.advance(5, 100.0)
    lane.advance(3, 101.0)
    assert lane.watermark_ns == 5
    assert not lane.stalled(100.0 + STALLED_SECONDS)
    assert lane.stalled(100.1 + STALLED_SECONDS)


def test_positions_are_said_when_they_change() -> None:
    made = merge()
    lane = Lane()
    made.lanes.append(lane)
    assert made.positions() == []
    lane.add(batch([]), 0, position(received=4, first=4, watermark_ns=9))
    assert made.positions() == [position(received=4, first=4, watermark_ns=9)]
    assert made.positions() == []


def test_the_position_of_flows_given_out_in_part_names_the_last_of_them() -> None:
    made = Merge()
    lane = Lane(position(first=3, received=3, watermark_ns=50))
    made.lanes.append(lane)
    lane.add(batch([60, 70, 80]), 0, position(first=6, received=6, watermark_ns=90))
    lane.advance(90, 0.0)
    assert taken(made, until_ns=70) == [60]
    assert made.positions() == [position(first=3, received=6, watermark_ns=69)]
    made.take()
    assert made.positions() == [position(first=6, received=6, watermark_ns=90)]


def test_what_comes_late_after_a_take_does_not_change_what_its_position_says() -> None:
    """As when both ends are joined meanwhile: 70 was given out, whatever older flows have come since then."""
    made = Merge()
    lane = Lane(position(first=3, received=3, watermark_ns=50))
    lane.live = False
    made.lanes.append(lane)
    lane.add(batch([60, 70, 80]), 0, position(first=6, received=6, watermark_ns=55))
    assert taken(made, until_ns=75) == [60, 70]
    lane.add(batch([65, 90]), 0, position(first=8, received=8, watermark_ns=85))
    assert made.positions() == [position(first=3, received=6, watermark_ns=74)]
    assert taken(made, until_ns=75) == [65]
    assert made.positions() == [position(first=3, received=8, watermark_ns=74)]


def test_after_a_position_of_two_ranges_nothing_is_given_out_that_no_position_can_say() -> None:
    made = Merge()
    lane = Lane(position(first=0, received=9, watermark_ns=50))
    made.lanes.append(lane)
    lane.add(batch([10, 20, 60]), 0, position(first=12, received=12, watermark_ns=90))
    lane.advance(90, 0.0)
    assert taken(made, until_ns=15) == [10, 20]
    assert made.positions() == [position(first=0, received=12, watermark_ns=50)]


def test_flows_of_an_agent_that_was_restarted_have_its_instance() -> None:
    made = Merge()
    lane = Lane(position(instance=1, first=5, received=5, watermark_ns=50))
    made.lanes.append(lane)
    lane.add(batch([60, 70]), 0, position(instance=2, first=2, received=2, watermark_ns=80))
    lane.advance(80, 0.0)
    made.take(until_ns=65)
    assert made.positions() == [position(instance=2, first=0, received=2, watermark_ns=64)]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("to_ns", [HIGHEST - 2, None])
def test_no_agent_gets_an_answer_further_than_the_time(live: bool, to_ns: int | None) -> None:
    """Else all that others tell from then on would be late, and in no order."""
    now, to_ns = time.time_ns(), to_ns or time.time_ns() + 3_600 * S
    made = merge(([now - S, to_ns], to_ns + 1), ([], now))
    made.lanes[0].live, made.lanes[1].live = live, False
    assert taken(made) == [now - S, to_ns]
    assert made.watermark_ns <= time.time_ns() + AHEAD_NS
    later = now + 2 * AHEAD_NS
    made.lanes[1].live = True
    made.lanes[1].add(batch([later + 1, later + 2]), 0)
    made.lanes[1].advance(later + 2, 0.0)
    made.lanes[0].live = False
    made.lanes[0].add(batch([later]), 0)
    assert taken(made) == [later, later + 1]


@given(
    lanes=st.lists(st.tuples(st.lists(st.integers(0, 60), max_size=12).map(sorted), st.integers(0, 60)), min_size=1, max_size=5),
    most=st.one_of(st.none(), st.integers(1, 10)),
)
def test_everything_comes_once_and_in_order(lanes: list[tuple[list[int], int]], most: int | None) -> None:
    made = merge(*lanes)
    low = min(watermark for _, watermark in lanes)
    got = []
    while (rows := made.take(most)) is not None:
        got += rows.at_ns.tolist()
    assert got == sorted(time for times, _ in lanes for time in times if time < low)
    assert made.watermark_ns == low
    for lane in made.lanes:
        lane.live = False
    rows = made.take()
    rest = [] if rows is None else rows.at_ns.tolist()
    assert rest == sorted(time for times, _ in lanes for time in times if time >= low)
    assert np.all(np.diff(got + rest) >= 0)
