"""Clocks: offsets between known bounds, the best sample, and clocks that are set."""

from __future__ import annotations

import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st

from flows.relay.clock import SAMPLES, Clock, ClockFilter, Sample, take_sample

MS, SECOND = 10**6, 10**9


async def test_the_error_holds_however_unequal_the_ways_are() -> None:
    for there, back in ((0.0, 0.03), (0.03, 0.0), (0.01, 0.01)):

        async def ask(there: float = there, back: float = back) -> int:
            await asyncio.sleep(there)
            now = time.time_ns() + 7 * SECOND
            await asyncio.sleep(back)
            return now

        sample = await take_sample(ask)
        assert abs(sample.offset_ns - 7 * SECOND) <= sample.round_trip_ns // 2


def test_the_shortest_round_trip_is_believed() -> None:
    known = ClockFilter()
    known.add(Sample(0, 40 * MS, 90 * MS))
    assert known.add(Sample(1, 5 * MS, 2 * MS)) == Clock(5 * MS, MS)
    assert known.add(Sample(2, -20 * MS, 60 * MS)) == Clock(5 * MS, MS)


def test_an_old_sample_gives_way_to_newer_ones() -> None:
    known = ClockFilter()
    known.add(Sample(0, 0, 2 * MS))
    late = 200 * SECOND  # by then 3 ms of drift are possible
    assert known.add(Sample(late, 3 * MS, 4 * MS)).offset_ns == 3 * MS
    for number in range(SAMPLES):
        clock = known.add(Sample(late + number, 2 * MS, 6 * MS))
    assert clock == Clock(2 * MS, 3 * MS)


def test_a_clock_that_was_set_is_believed_at_once() -> None:
    known = ClockFilter()
    known.add(Sample(0, 0, 2 * MS))
    assert known.add(Sample(SECOND, 5 * SECOND, 50 * MS)) == Clock(5 * SECOND, 25 * MS)
    assert known.add(Sample(2 * SECOND, 5 * SECOND, 2 * MS)).error_ns == MS


@given(
    st.integers(-(10**10), 10**10),
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(0, 10**10)), min_size=1, max_size=30),
)
def test_the_true_offset_is_always_within_the_error(truth: int, trips: list[tuple[int, int, int]]) -> None:
    known, now = ClockFilter(), 0
    for there, back, later in trips:
        now += later
        clock = known.add(Sample(now, truth + (there - back) // 2, there + back))
        assert abs(clock.offset_ns - truth) <= clock.error_ns + 1
