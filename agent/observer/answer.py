"""Answer: one request's flows from the store as a series of parts: the past, then, for followers, what comes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.agent.observer.coverage import Asked, coverage
from flows.agent.observer.limits import LimitError
from flows.agent.observer.positions import Reach, cuts
from flows.agent.reader import RETAIN_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from flows.agent.observer.fresh import Fresh
    from flows.agent.observer.limits import Limit
    from flows.agent.observer.observer import Observer
    from flows.agent.observer.query import Request
    from flows.agent.observer.selected import Selected
    from flows.agent.store.store import Loss
    from flows.proto import flows_pb2

SECOND = 1_000_000_000
PART = 1_000  # flows: 350 kB, far below gRPC's 4 MB with any names, and 6 ms of the loop's time
LARGE = 8 * PART  # more flows than this are a large history
# Endpoint numbers that the store has not used for so long may be given to others: a snapshot must not outlive that.
TOO_SLOW = (
    f"reading stored flows took more than {RETAIN_SECONDS:g} s; ask for less (number, since, a filter), or go on with resume"
)
BEFORE_ALL = -(1 << 63)


@dataclass(slots=True)
class Part:
    """A piece of an answer. reach: what was delivered with it; watermark_ns: flows before were all sent, 0: nothing is said.

    past: it completes what a follower's request asked of the past.
    """

    selected: Selected
    losses: list[Loss]
    reach: Reach
    watermark_ns: int = 0
    past: bool = False
    coverage: flows_pb2.Coverage | None = None


@dataclass
class Answer:
    """One answer to a request."""

    observer: Observer
    request: Request
    fresh: Fresh
    histories: Limit
    _watermark_ns: int = field(default=0, init=False)
    _asked_ns: int = field(default=0, init=False)
    _since_ns: int | None = field(default=None, init=False)
    _flows: int = field(default=0, init=False)
    _reach: Reach = field(default=Reach(0, 0, BEFORE_ALL), init=False)

    async def parts(self) -> AsyncIterator[Part]:
        """All parts, in order. The last one has the coverage, and so has the one that completes a follower's past.

        Raises LimitError.
        """
        await self._advance()
        self._since_ns = self._asked_since()
        follow = self.request.selection.follow
        async for part in self._past():
            if part.watermark_ns:
                part.past, part.coverage = follow, self._coverage()
            yield part
        if follow:
            async for part in self._news():
                yield part

    async def _past(self) -> AsyncIterator[Part]:
        selected = await asyncio.to_thread(self._select)
        with self.histories.one() if len(selected) > LARGE else contextlib.nullcontext():
            async for part in self._in_turns(selected, complete=True):
                yield part

    async def _news(self) -> AsyncIterator[Part]:
        until, over = self.request.selection.until, False
        while not over and (until is None or self._watermark_ns <= until):
            await self._tick()
            over = self.observer.ended.is_set()
            if not over:
                await self._advance()
            end = self.observer.store.written
            while True:
                selected = self.observer.news(self.request, self._reach.received, self._watermark_ns)
                async for part in self._in_turns(selected, complete=selected.end >= end):
                    yield part
                if selected.end >= end:
                    break
        yield Part(self.observer.nothing(self._reach.received), [], self._reach, self._watermark_ns, coverage=self._coverage())

    async def _tick(self) -> None:
        """Sleep until the next multiple of the delay: followers with the same one have the store catch up at the same time.

        Or until no more flows come: the agent ends, and what its store has is still to be sent.
        """
        delay = self.request.delay_ns / SECOND
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay - asyncio.get_running_loop().time() % delay):
                await self.observer.ended.wait()

    async def _advance(self) -> None:
        self._asked_ns = time.time_ns()
        self._watermark_ns = max(self._watermark_ns, await self.fresh(), self.observer.watch.began_ns)

    def _select(self) -> Selected:
        resume = self.request.resume
        if resume is None:
            return self.observer.past(self.request)
        self._reach = resume.within(self.observer.instance)
        return self.observer.rest(self.request, resume)

    async def _in_turns(self, selected: Selected, *, complete: bool) -> AsyncIterator[Part]:
        """Parts, with a turn for everybody else after each. Raises LimitError when the client takes too long to read them."""
        taken = time.monotonic()
        for part in self._cut(selected, complete=complete):
            if time.monotonic() - taken > RETAIN_SECONDS:
                raise LimitError(TOO_SLOW)
            yield part
            await asyncio.sleep(0)

    def _cut(self, selected: Selected, *, complete: bool) -> Iterator[Part]:
        """Parts of selected flows, at least one if with it all is sent that came before the watermark (complete)."""
        start, losses, reach = 0, selected.losses, self._reach
        for end in cuts(selected.times, PART, reach):
            if end < len(selected):
                self._reach = reach.after(int(selected.times[end - 1]), selected.end)
                yield self._part(selected.part(start, end), losses)
                start, losses = end, []
        self._reach = Reach(selected.end, selected.end, self._watermark_ns if complete else max(reach.watermark_ns, 0))
        if complete or start < len(selected) or losses:
            yield self._part(selected.part(start, len(selected)), losses, self._watermark_ns if complete else 0)

    def _part(self, selected: Selected, losses: list[Loss], watermark_ns: int = 0) -> Part:
        self._flows += len(selected)
        return Part(selected, losses, self._reach, watermark_ns)

    def _asked_since(self) -> int | None:
        resume, selection, began = self.request.resume, self.request.selection, self.observer.watch.began_ns
        if resume is not None:
            since = resume.reach.watermark_ns
            return max(since, began) if resume.instance == self.observer.instance else since
        from_now = selection.follow and not selection.number and selection.since is None
        return self._watermark_ns if from_now else selection.since

    def _coverage(self) -> flows_pb2.Coverage:
        resume = self.request.resume
        other = resume if resume is not None and resume.instance != self.observer.instance else None
        asked = Asked(self._since_ns, self.request.selection.until, other)
        return coverage(self.observer.node, asked, self.observer.known(self._watermark_ns, self._asked_ns), self._flows)
