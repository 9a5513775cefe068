"""Answers remembered for a while, each asked for once at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

Answer = TypeVar("Answer")


class BusyError(Exception):
    """Too many answers are being asked for."""


@dataclass(frozen=True, slots=True)
class _Kept(Generic[Answer]):
    answer: Answer
    asked: float
    until: float


class Cache(Generic[Answer]):
    """At most `size` answers by key, and at most `at_once` being asked for. For one event loop. Errors are not kept."""

    def __init__(self, size: int, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds, steady."""
        self._size, self._at_once, self._clock = size, at_once, clock
        self._kept: dict[Hashable, _Kept[Answer]] = {}  # the oldest first
        self._asking: dict[Hashable, asyncio.Task[Answer]] = {}

    async def get(
        self,
        key: Hashable,
        max_age: float,
        ask: Callable[[], Coroutine[Any, Any, tuple[Answer, float]]],
        *,
        urgent: bool = False,
    ) -> Answer:
        """The answer of at most max_age seconds, else what ask() gives, with the seconds for which that is good.

        Callers share one ask(), which goes on when a caller leaves. Raises what ask() raises; BusyError unless urgent.
        """
        now = self._clock()
        kept = self._kept.get(key)
        if kept is not None and now < kept.until and now - kept.asked <= max_age:
            return kept.answer
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= self._at_once and not urgent:
                raise BusyError
            task = self._asking[key] = asyncio.create_task(self._ask(key, now, ask))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    async def _ask(self, key: Hashable, now: float, ask: Callable[[], Coroutine[Any, Any, tuple[Answer, float]]]) -> Answer:
        try:
            answer, seconds = await ask()
        finally:
            del self._asking[key]
        self._kept.pop(key, None)
        self._kept[key] = _Kept(answer, now, now + seconds)
        self._forget()
        return answer

    def _forget(self) -> None:
        now = self._clock()
        while self._kept:
            oldest = next(iter(self._kept))
            if len(self._kept) <= self._size and now < self._kept[oldest].until:
                return
            del self._kept[oldest]


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Everybody who asked may have left: then nobody takes the error, which asyncio would complain about."""
    if not task.cancelled():
        task.exception()
