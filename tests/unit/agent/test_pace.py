"""Pace: what is offered is known from what left, and a share is chosen that the agent can look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from flows.agent.pace import SECOND, Pace
from flows.agent.probe.lanes import left_out, pairing_hash
from flows.agent.probe.payload import SHORT_PAYLOAD, Origin, PayloadKind
from flows.agent.probe.settings import ProbeSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALLOWED, SAMPLED = 1_000, 400
START = 50 * SECOND


@pytest.fixture
def pace() -> Pace:
    return Pace(ProbeSettings(payloads_per_second=ALLOWED, sampled_per_second=SAMPLED), START, 0)


def payloads(count: int, kind: PayloadKind = PayloadKind.HTTP_REQUEST, time_ns: int = START) -> NDArray[Any]:
    made = np.zeros(count, SHORT_PAYLOAD)
    made["kind"], made["time_ns"] = kind, time_ns
    return made


class Clock:
    """A second at a time."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self.now = pace, START

    def second(self, *arrays: NDArray[Any], lost: int = 0) -> float:
        """The share after a second in which these left the kernel."""
        for each in arrays:
            each["time_ns"] = self.now + SECOND // 2
        self.pace.take(arrays)
        self.now += SECOND
        return self.pace.next(lost, self.now)


def test_what_may_be_looked_at_is(pace: Pace) -> None:
    clock = Clock(pace)
    assert [clock.second(payloads(count)) for count in (0, ALLOWED // 2, ALLOWED)] == [1.0] * 3


def test_of_more_a_share_is_taken_that_stays_while_the_load_does_and_recovers_by_doubling(pace: Pace) -> None:
    clock = Clock(pace)
    assert clock.second(payloads(4_000)) == pytest.approx(0.1)
    assert [clock.second(payloads(400)) for _ in range(3)] == pytest.approx([0.1] * 3)
    assert [clock.second(payloads(10)) for _ in range(5)] == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0])


@pytest.mark.parametrize("kind", [PayloadKind.HTTP2, PayloadKind.DNS, PayloadKind.TLS_HELLO, PayloadKind.HTTP2_MORE])
def test_what_is_not_sampled_stands_for_itself(pace: Pace, kind: PayloadKind) -> None:
    clock = Clock(pace)
    clock.second(payloads(4_000))
    assert clock.second(payloads(400, kind)) == pytest.approx(0.2)


def test_what_waited_from_before_the_share_fell_stands_for_itself(pace: Pace) -> None:
    clock = Clock(pace)
    clock.second(payloads(4_000))
    pace.take((payloads(500, time_ns=clock.now - 1),))
    assert clock.second() == pytest.approx(0.2)


def test_what_found_no_room_counts_as_offered(pace: Pace) -> None:
    assert Clock(pace).second(payloads(1_000), lost=3_000) == pytest.approx(0.1)


def test_a_flood_is_noticed_at_the_first_look_and_its_rate_known(pace: Pace) -> None:
    now = START + SECOND // 10
    assert pace.overrun(2_000, now)
    assert pace.next(0, now) == pytest.approx(SAMPLED / 20_000)
    assert not pace.overrun(2_010, now + SECOND // 10)


@pytest.mark.parametrize("a_second", [ALLOWED // 2, ALLOWED])
def test_a_load_that_may_be_looked_at_is_none_though_it_was_held_up(pace: Pace, a_second: int) -> None:
    """Every other second it stands still for 0.2 s, and then makes up for it at once."""
    handed_over = 0
    for tenth in range(1, 101):
        still = tenth % 20 in (18, 19)
        handed_over += 0 if still else a_second // 10 * (3 if tenth % 20 == 0 else 1)
        assert not pace.overrun(handed_over, START + tenth * SECOND // 10)
    assert handed_over == 10 * a_second


def test_what_left_before_a_flood_was_noticed_is_thinned_once_as_the_kernel_would(pace: Pace) -> None:
    clock, count = Clock(pace), 4_000
    numbers = np.random.default_rng(1).integers(0, 1 << 32, count, np.uint32)
    asked, answered = payloads(count), payloads(count, PayloadKind.HTTP_RESPONSE)
    asked["acknowledged"] = answered["sequence"] = numbers
    others = [payloads(count, kind) for kind in PayloadKind if kind > PayloadKind.HTTP_RESPONSE]
    plain = payloads(count)
    plain["origin"] = Origin.TLS_LIBRARY
    both = np.concatenate((asked, answered))
    waiting = (both, plain, *others)
    assert [each is same for each, same in zip(pace.thin(waiting), waiting, strict=True)] == [True] * len(waiting)
    clock.second(payloads(8_000))
    some, *untouched = pace.thin(waiting)
    assert [len(each) for each in untouched] == [count] * len(untouched)
    left = [sorted(some[name][some["kind"] == kind].tolist()) for name, kind in (("acknowledged", 1), ("sequence", 2))]
    assert left[0] == left[1] == sorted(numbers[pairing_hash(numbers) >= left_out(0.05)].tolist())
    assert len(pace.thin(waiting)[0]) == 2 * count


def test_what_was_handed_over_before_the_agent_began_is_no_flood() -> None:
    pace = Pace(ProbeSettings(), START, handed_over=10_000_000)
    assert not pace.overrun(10_000_100, START + SECOND // 10)


def test_looks_right_after_each_other_tell_no_rate_that_is_not(pace: Pace) -> None:
    assert pace.overrun(300, START + 1_000)
    assert pace.next(0, START + 1_000) >= SAMPLED / (300 * 50)
