"""Two views of one connection are found, and no other two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from join_samples import CLIENT, DATABASE, MS, SERVER, UNNAMED, WEB, Row, S, clocks, end, join

from flows.relay.connections import neighbours
from flows.relay.join import HANDSHAKE_NS, PATH_NS, UNKNOWN_LIFE_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Group = tuple[int, bool, int, int, int]


def source(time: int, start: int = 1 * S, **more: Any) -> Row:
    return Row(0, True, time, start, **more)


def target(time: int, start: int = 1 * S, **more: Any) -> Row:
    return Row(1, False, time, start, **more)


CASES = {
    "both ends of one connection": ([source(2 * S), target(2 * S)], [1, 0]),
    "nothing to join": ([source(2 * S), source(2 * S, opener=8)], [-1, -1]),
    "another opener": ([source(2 * S), target(2 * S, opener=8)], [-1, -1]),
    "another tuple, and no Service was called": ([source(2 * S), target(2 * S, tuple=71)], [-1, -1]),
    "no opener: ICMP, loopback": ([source(2 * S, opener=0), target(2 * S, opener=0)], [-1, -1]),
    "one side only": ([source(2 * S), source(3 * S)], [-1, -1]),
    "the nearest row of several": (
        [source(1 * S), source(9 * S), target(1 * S + MS), target(5 * S + MS), target(9 * S + MS)],
        [2, 4, 0, 1, 1],
    ),
    "the next connection of the same tuple": (
        [source(5 * S), source(9 * S, 7 * S), target(5 * S), target(9 * S, 7 * S)],
        [2, 3, 0, 1],
    ),
    "the same port again, whose other view is not there": ([source(5 * S), target(9 * S, 7 * S)], [-1, -1]),
    "the same port again at once: the nearest beginning": (
        [source(5 * S), target(5 * S), target(9 * S, 5 * S + 20 * MS), source(9 * S, 5 * S + 20 * MS)],
        [1, 0, 3, 2],
    ),
    "the same port again at once, one view missing": (
        [source(5 * S), target(9 * S, 5 * S + 20 * MS), source(9 * S, 5 * S + 20 * MS)],
        [-1, 2, 1],
    ),
    "the acceptor's agent began again: what it says later has no beginning": (
        [source(60 * S), target(20 * S), target(60 * S, 0)],
        [1, 0, 0],
    ),
    "both are older than their agents": ([source(20 * S, 0), target(25 * S, 0)], [1, 0]),
    "both are older, and far apart": ([source(20 * S, 0), target(21 * S + UNKNOWN_LIFE_NS, 0)], [-1, -1]),
    "within one node": ([source(2 * S), Row(0, False, 2 * S, 1 * S)], [1, 0]),
    "through a Service": ([source(2 * S, destination=WEB), target(2 * S, tuple=71)], [1, 0]),
    "through a Service within one node": (
        [source(2 * S, destination=WEB), Row(0, False, 2 * S, 1 * S, tuple=71)],
        [1, 0],
    ),
    "through another Service than any that selects the pod": (
        [source(2 * S, destination=DATABASE), target(2 * S, tuple=71)],
        [-1, -1],
    ),
    "through a Service to an end that none is known to select": (
        [source(2 * S, destination=DATABASE), target(2 * S, tuple=71, destination=UNNAMED)],
        [1, 0],
    ),
    "two Services from one port": (
        [
            source(2 * S, destination=WEB),
            source(2 * S, destination=DATABASE, tuple=72),
            target(2 * S, tuple=73, destination=end(pod="db", services=("database",))),
            target(2 * S, tuple=71),
        ],
        [3, 2, 1, 0],
    ),
    "a Service's pod with the name goes before an end without": (
        [source(2 * S, destination=WEB), target(2 * S, tuple=71, destination=UNNAMED), target(2 * S, tuple=72)],
        [2, -1, 0],
    ),
    "a pod called directly is not behind a Service called from the same port": (
        [source(2 * S), source(2 * S, destination=WEB, tuple=71), target(2 * S)],
        [2, -1, 0],
    ),
    "a pod that two Services select answers for one of two calls": (
        [
            source(2 * S, destination=WEB),
            source(9 * S, 6 * S, destination=DATABASE, tuple=72),
            target(9 * S, 6 * S, tuple=73, destination=end(pod="both", services=("web", "database"))),
        ],
        [-1, 2, 1],
    ),
    "the port again through a Service, one view missing": (
        [
            source(5 * S, destination=WEB),
            source(9 * S, 5 * S + 20 * MS, destination=WEB),
            target(9 * S, 5 * S + 20 * MS, tuple=71),
        ],
        [-1, 2, 1],
    ),
    "a short connection within a long one from the same port": (
        [
            source(90 * S, destination=WEB),
            source(52 * S, 50 * S, destination=DATABASE, tuple=72),
            target(52 * S, 50 * S, tuple=73, destination=end(pod="both", services=("web", "database"))),
        ],
        [-1, 2, 1],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_views_of_one_connection(case: str) -> None:
    rows, expected = CASES[case]
    assert join(rows) == expected


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_rows_does_not_matter(case: str) -> None:
    rows, expected = CASES[case]
    last = len(rows) - 1
    assert join(rows[::-1]) == [last - one if one >= 0 else -1 for one in expected[::-1]]


def test_clocks_that_are_apart_are_corrected() -> None:
    rows = [source(2 * S), target(3600 * S + 2 * S, 3600 * S + 1 * S)]
    assert join(rows) == [-1, -1]
    assert join(rows, clocks(0, 3600 * S)) == [1, 0]


@pytest.mark.parametrize(("late", "expected"), [(PATH_NS + 40 * MS, [1, 0]), (PATH_NS + 41 * MS, [-1, -1])])
def test_lives_may_miss_each_other_by_what_clocks_and_paths_leave_open(late: int, expected: list[int]) -> None:
    assert join([source(1 * S), target(1 * S + late, 1 * S + late)], clocks(0, 0, error=20 * MS)) == expected


def test_a_pod_that_very_many_services_select_is_taken_for_one_that_none_selects() -> None:
    many = end(pod="busy", services=tuple(f"s{number}" for number in range(1000)))
    assert join([source(2 * S, destination=WEB), target(2 * S, tuple=71, destination=many)]) == [1, 0]


def test_many_connections_through_many_services_are_kept_apart() -> None:
    rows = []
    for number in range(2000):
        service = end(service=f"s{number % 50}")
        pod = end(pod=f"pod-{number % 200}", services=(f"s{number % 50}",))
        at = 1 * S + number * MS
        rows.append(source(at, at, opener=number + 1, tuple=2 * number, destination=service))
        rows.append(target(at + MS, at + MS, opener=number + 1, tuple=2 * number + 1, destination=pod))
    assert join(rows) == [number ^ 1 for number in range(4000)]


def naive(rows: Sequence[Row], slack: int) -> list[int]:  # noqa: C901 - the definition, in one piece
    """The same by the definition, every pair looked at. For beginnings that are known and exact."""
    groups: dict[Group, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault((row.node, row.at_source, row.opener, row.tuple, row.start), []).append(number)
    lives = {group: (group[4], max(rows[number].time for number in numbers)) for group, numbers in groups.items()}

    def overlap(one: Group, other: Group) -> int:
        return min(lives[one][1] - lives[other][0], lives[other][1] - lives[one][0])

    def called(group: Group) -> str:
        service = rows[groups[group][0]].destination.service.name
        return service if group[1] else ""

    def closest(one: Group, others: list[Group]) -> Group | None:
        """Of each Service that was called the neighbours in time, and of those the closest."""
        services = {called(other) for other in others}
        found = [beside(one, [other for other in others if called(other) == service]) for service in services]
        return min(filter(None, found), key=lambda other: abs(other[4] - one[4]), default=None)

    def beside(one: Group, others: list[Group]) -> Group | None:
        before = [max((other for other in others if other[4] <= one[4]), key=lambda other: other[4], default=None)]
        after = [min((other for other in others if other[4] > one[4]), key=lambda other: other[4], default=None)]
        fits = [other for other in before + after if other and overlap(one, other) >= -slack]
        fits = [other for other in fits if abs(other[4] - one[4]) <= HANDSHAKE_NS + slack]
        return min(fits, key=lambda other: abs(other[4] - one[4]), default=None)

    def direct(one: Group) -> list[Group]:
        return [other for other in groups if other[2:4] == one[2:4] and other[1] != one[1]]

    def chosen(candidates: Callable[[Group], list[Group]], *, certain: bool) -> dict[Group, Group]:
        found = {}
        for one in groups:
            best = closest(one, candidates(one))
            if best and (closest(best, candidates(best)) == one or (certain and overlap(one, best) >= slack)):
                found[one] = best
        return found

    joined = chosen(direct, certain=True)

    def selecting(group: Group) -> set[str]:
        return {service.name for service in rows[groups[group][0]].destination.detail.services}

    def translated(one: Group) -> list[Group]:
        if one in joined:
            return []
        if one[1]:
            others = [other for other in groups if other not in joined and other[2] == one[2] and not other[1]]
            return [other for other in others if called(one) and called(one) in selecting(other)]
        others = [other for other in groups if other not in joined and other[2] == one[2] and other[1]]
        return [other for other in others if called(other) and called(other) in selecting(one)]

    joined |= chosen(translated, certain=False)
    result = [-1] * len(rows)
    for one, other in joined.items():
        for number in groups[one]:
            times = [(abs(rows[each].time - rows[number].time), each) for each in groups[other]]
            result[number] = min(times)[1] if times else -1
    return result


BOTH = end(pod="both", services=("web", "database"))
NAMES = {0: WEB, 1: DATABASE}
BACKENDS = {0: SERVER, 1: end(pod="db", services=("database",))}


@st.composite
def traffic(draw: st.DrawFn) -> list[Row]:
    """Connections of a few openers, one after the other on each tuple, seen from both sides, or from one only.

    Each view's beginning is another, so that "closest" is always one. Clocks are off by up to 20 ms.
    """
    rows, skew = [], [draw(st.integers(-20, 20)) * MS for _ in range(4)]
    for opener in range(1, 1 + draw(st.integers(1, 2))):
        for destination in range(draw(st.integers(1, 3))):
            at = draw(st.integers(1, 1000)) * 1_000_003
            for _ in range(draw(st.integers(1, 3))):
                length = draw(st.sampled_from((MS, 30 * MS, 3 * S, 60 * S))) + draw(st.integers(0, 999_999))
                rows += connection(draw, opener, destination, at, length, skew)
                at += length + draw(st.sampled_from((25 * MS, 100 * MS, S, 100 * S))) + draw(st.integers(0, 999_999))
    numbers = {view(row): number for number, row in enumerate(rows)}
    for row in rows:
        row.start += numbers[view(row)]
        row.time = max(row.time, row.start)
    return draw(st.permutations(rows))


def view(row: Row) -> Group:
    return row.node, row.at_source, row.opener, row.tuple, row.start


def connection(draw: st.DrawFn, opener: int, destination: int, start: int, length: int, skew: list[int]) -> list[Row]:
    service = draw(st.booleans())
    tuples = opener * 100 + destination
    events = draw(st.lists(st.integers(0, length), max_size=2))
    other_events = draw(st.lists(st.integers(0, length), max_size=2))
    views = draw(st.sampled_from(("both", "both", "source", "target")))
    which = draw(st.integers(0, 1))
    rows = []
    if views != "target":
        name = NAMES[which] if service else SERVER
        rows += [Row(1, True, start + at + skew[1], start + skew[1], opener, tuples, CLIENT, name) for at in (*events, length)]
    if views != "source":
        backend = draw(st.sampled_from((BACKENDS[which], BOTH)))
        begun = start + draw(st.integers(0, MS)) + skew[2]
        translated = tuples + 50 if service else tuples
        rows += [
            Row(2, False, max(begun, start + at + skew[2]), begun, opener, translated, CLIENT, backend)
            for at in (*other_events, length)
        ]
    return rows


@settings(max_examples=150)
@given(traffic())
def test_it_finds_what_looking_at_every_pair_finds(rows: list[Row]) -> None:
    found = join(rows, clocks(*[0] * 4, error=20 * MS))
    expected = naive(rows, 40 * MS + PATH_NS)
    distances = [(abs(rows[a].time - rows[row].time) if a >= 0 else None) for row, a in enumerate(found)]
    assert distances == [(abs(rows[a].time - rows[row].time) if a >= 0 else None) for row, a in enumerate(expected)]
    assert [identity(rows, one) for one in found] == [identity(rows, one) for one in expected]


def identity(rows: Sequence[Row], number: int) -> Group | None:
    row = rows[number]
    return None if number < 0 else (row.node, row.at_source, row.opener, row.tuple, row.start)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9))), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9))))
def test_neighbours_are_the_next_of_the_same_key(ours: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    keys, values = (np.array([pair[i] for pair in ours], np.int64) for i in (0, 1))
    other_keys, other_values = (np.array([pair[i] for pair in others], np.int64) for i in (0, 1))
    before, after = neighbours(keys, values, other_keys, other_values)
    for (key, value), low, high in zip(ours, before.tolist(), after.tolist(), strict=True):
        same = [pair[1] for pair in others if pair[0] == key]
        assert (others[low][1] if low >= 0 else None) == max((v for v in same if v <= value), default=None)
        assert (others[high][1] if high >= 0 else None) == min((v for v in same if v > value), default=None)
        assert all(at < 0 or others[at][0] == key for at in (low, high))
