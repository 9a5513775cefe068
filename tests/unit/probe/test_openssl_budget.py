"""The budget of plaintext: when it is read, and when not, by how many calls there are."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from flows.agent.probe.openssl_budget import CALL_SECONDS, MOST_PAUSED, Budget, allowed

if TYPE_CHECKING:
    from collections.abc import Callable

ALLOWED = 4_000  # calls per second
LOOK = 0.05


def played(load: Callable[[float], float], seconds: float) -> tuple[list[tuple[float, bool]], int]:
    """What the budget says at each look to a load of so many calls per second at each time, and the calls that were stopped."""
    budget, now, calls, said = Budget(ALLOWED, 0.0), 0.0, 0.0, []
    for step in range(1, round(seconds / LOOK) + 1):
        now = step * LOOK
        calls += load(now) * LOOK * budget.reading
        said.append((now, budget.look(now, round(calls))))
    return said, round(calls)


@pytest.mark.parametrize(
    "load",
    [
        lambda _: 0,
        lambda _: ALLOWED,
        lambda now: 30 * ALLOWED * (10 <= now < 10 + LOOK),  # a burst
        lambda now: 20 * ALLOWED * (round(now / LOOK) % 20 == 0),  # one second's calls all at once
    ],
)
def test_what_is_within_the_budget_is_always_read(load: Callable[[float], float]) -> None:
    said, _ = played(load, 120)
    assert all(reading for _, reading in said)


@pytest.mark.parametrize("times", [1.5, 5, 25, 40])
def test_in_the_long_run_no_more_is_read_than_the_budget_allows(times: float) -> None:
    said, calls = played(lambda _: times * ALLOWED, 600)
    assert calls <= 1.05 * ALLOWED * 600
    assert calls >= 0.45 * ALLOWED * 600  # a pause is for what comes after it, so a slice of a steady load costs what it may
    assert sum(reading for _, reading in said) * LOOK >= 5


def test_a_heavy_load_is_noticed_at_once_and_slices_last_a_second() -> None:
    said, _ = played(lambda now: 25 * ALLOWED * (now > 30), 120)
    first = next(now for now, reading in said if not reading)
    assert 30 < first <= 30 + 3 * LOOK
    changes = [now for (_, before), (now, after) in pairwise(said) if before != after]
    lengths = [after - before for before, after in pairwise(changes)]
    assert lengths[1::2] == pytest.approx([1.0] * len(lengths[1::2]), abs=2 * LOOK)  # reading
    assert lengths[2::2] == pytest.approx([25.0] * len(lengths[2::2]), abs=2 * LOOK)


def test_however_heavy_a_load_is_a_slice_comes_each_minute() -> None:
    said, _ = played(lambda _: 10_000 * ALLOWED, 300)
    assert sum(reading for _, reading in said) * LOOK >= 300 / (MOST_PAUSED + 1) - 1


def test_after_a_heavy_load_all_is_read_again() -> None:
    said, _ = played(lambda now: 25 * ALLOWED if now < 60 else ALLOWED / 2, 180)
    assert all(reading for now, reading in said if now > 60 + 25 + 1)


def test_a_percentage_is_of_all_cpus_and_100_is_no_bound() -> None:
    assert allowed(1, 2) == pytest.approx(0.02 / CALL_SECONDS)
    budget = Budget(allowed(100, 1), 0.0)
    assert all(budget.look(step * LOOK, 10**9 * step) for step in range(1, 100))


def test_who_calls_is_looked_at_more_often() -> None:
    budget = Budget(ALLOWED, 0.0)
    assert not budget.busy
    assert [(budget.look(now, calls), budget.busy)[1] for now, calls in ((0.1, 0), (0.2, 7), (0.3, 7))] == [False, True, False]
