"""Answers are remembered for a while and asked for once at a time."""

from __future__ import annotations

import asyncio
import gc

import pytest

from flows.relay.access.cache import BusyError, Cache


class Question:
    """Gives 1, 2, 3... each good for `seconds`; waits for `go` if held; raises `error`."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds, self.asked = seconds, 0
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None

    async def __call__(self) -> tuple[int, float]:
        self.asked += 1
        number = self.asked
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return number, self.seconds


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache[int]:
    return Cache(3, 2, clock)


async def test_an_answer_is_good_for_its_time_and_no_longer(cache: Cache[int], clock: Clock) -> None:
    question = Question()
    assert await cache.get("a", 60, question) == 1
    clock.now += 9.9
    assert await cache.get("a", 60, question) == 1
    clock.now += 0.1
    assert await cache.get("a", 60, question) == 2


async def test_who_wants_a_younger_answer_gets_one_and_leaves_it_to_others(cache: Cache[int], clock: Clock) -> None:
    question = Question()
    await cache.get("a", 60, question)
    clock.now += 5
    assert await cache.get("a", 4, question) == 2
    assert await cache.get("a", 60, question) == 2


async def test_age_counts_from_the_question(cache: Cache[int], clock: Clock) -> None:
    question = Question()
    question.go.clear()
    first = asyncio.create_task(cache.get("a", 60, question))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.now += 6
    question.go.set()
    assert await first == 1
    clock.now += 4
    assert await cache.get("a", 60, question) == 2


async def test_many_who_ask_at_once_share_one_question(cache: Cache[int]) -> None:
    question = Question()
    assert await asyncio.gather(*(cache.get("a", 60, question) for _ in range(50))) == [1] * 50
    assert question.asked == 1


async def test_question_goes_on_when_the_one_who_asked_leaves(cache: Cache[int]) -> None:
    question = Question()
    question.go.clear()
    first = asyncio.create_task(cache.get("a", 60, question))
    second = asyncio.create_task(cache.get("a", 60, question))
    await asyncio.sleep(0.01)
    first.cancel()
    question.go.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_errors_reach_all_who_wait_and_are_not_kept(cache: Cache[int]) -> None:
    question = Question()
    question.error = OSError("down")
    assert [type(e) for e in await asyncio.gather(*(cache.get("a", 60, question) for _ in range(3)), return_exceptions=True)] == [
        OSError
    ] * 3
    question.error = None
    assert await cache.get("a", 60, question) == 2


async def test_error_that_nobody_waits_for_is_no_complaint(cache: Cache[int], caplog: pytest.LogCaptureFixture) -> None:
    question = Question()
    question.error = OSError("down")
    question.go.clear()
    lonely = asyncio.create_task(cache.get("a", 60, question))
    await asyncio.sleep(0.01)
    lonely.cancel()
    question.go.set()
    await asyncio.sleep(0.01)
    gc.collect()
    assert caplog.records == []


async def test_oldest_answers_make_room(cache: Cache[int]) -> None:
    question = Question()
    for key in "abcd":
        await cache.get(key, 60, question)
    assert [await cache.get(key, 60, question) for key in "dcb"] == [4, 3, 2]
    assert await cache.get("a", 60, question) == 5


async def test_what_is_over_does_not_stay_in_memory(cache: Cache[int], clock: Clock) -> None:
    question = Question()
    for key in "abc":
        await cache.get(key, 60, question)
    clock.now += 11
    await cache.get("d", 60, question)
    assert len(cache._kept) == 1


async def test_too_many_questions_at_once_are_refused_unless_urgent(cache: Cache[int]) -> None:
    question = Question()
    question.go.clear()
    waiting = [asyncio.create_task(cache.get(key, 60, question)) for key in "ab"]
    await asyncio.sleep(0.01)
    with pytest.raises(BusyError):
        await cache.get("c", 60, question)
    urgent = asyncio.create_task(cache.get("c", 60, question, urgent=True))
    await asyncio.sleep(0.01)
    question.go.set()
    assert sorted(await asyncio.gather(*waiting, urgent)) == [1, 2, 3]
    assert await cache.get("d", 60, question) == 4
