"""Waiting after failures: spread out, bounded, and as long as the server asks."""

from __future__ import annotations

import pytest

from flows.kube import backoff
from flows.kube.backoff import Backoff, spread


def test_pauses_are_drawn_from_all_of_a_range_that_doubles_up_to_a_limit() -> None:
    first, longest = backoff.SECONDS
    for failures, limit in ((0, first), (1, 2 * first), (3, 8 * first), (5, longest), (10_000, longest)):
        drawn = [Backoff(failures).pause() for _ in range(300)]
        assert 0 <= min(drawn) < 0.1 * limit
        assert 0.9 * limit < max(drawn) <= limit


def test_success_begins_again() -> None:
    waits = Backoff()
    for _ in range(9):
        waits.pause()
    waits.succeeded()
    assert max(waits.pause() for _ in range(1)) <= backoff.SECONDS[0]


@pytest.mark.parametrize(("asked", "least", "most"), [(0, 0, 0), (5, 5, 10), (86_400, 120, 240), (-3, 0, 0)])
def test_what_a_server_asks_for_is_honoured_within_bounds(asked: float, least: float, most: float) -> None:
    drawn = [spread(asked) for _ in range(200)]
    assert least <= min(drawn) <= max(drawn) <= most
    assert most == least or len(set(drawn)) > 100


def test_a_server_that_asks_for_less_than_the_back_off_does_not_shorten_it() -> None:
    assert max(Backoff(10).pause(retry_after=1) for _ in range(300)) > 10
