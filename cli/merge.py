"""Merge: the streams of several servers as one, by time."""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING

from flows.cli.limit import limit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from flows.flow.filter.selection import Selection
    from flows.proto.observer_pb2 import GetFlowsResponse

    Stream = AsyncGenerator[GetFlowsResponse, None]

# How long a followed flow waits for an older one from another server: below what a person notices, above what
# separates two agents' batches.
WINDOW_S = 0.05
# When following, the past is over once no server has sent anything for this long.
SETTLE_S = 0.2
# A bound for servers that are never silent.
SETTLE_LIMIT_S = 2.0
# Responses that may wait between the servers and the printer; then the servers wait.
QUEUE_LENGTH = 4096


def time_of(response: GetFlowsResponse) -> int:
    """When it happened, in ns since 1970; 0 if the response does not tell (its time was masked out)."""
    time = response.time if response.HasField("time") else response.flow.time
    return time.seconds * 1_000_000_000 + time.nanos


def merge(streams: Sequence[Stream], selection: Selection) -> Stream:
    """One stream of all, limited by the selection's number over all; each stream must be in time order.

    Without follow the order is exact. With follow it is exact for the past, then within WINDOW_S.
    """
    if len(streams) == 1:
        return streams[0]
    if selection.follow:
        return follow(streams, selection)
    return limited(in_order(streams), selection)


async def limited(stream: Stream, selection: Selection) -> Stream:
    """The newest or oldest number flows of a stream."""
    bound = limit(selection)
    async for response in stream:
        for shown in bound.push(response):
            yield shown
        if bound.done:
            return
    for shown in bound.end():
        yield shown


async def in_order(streams: Sequence[Stream]) -> Stream:
    """All responses by time; a response without a time keeps its place behind the one before it."""
    heads = await asyncio.gather(*(anext(stream, None) for stream in streams))
    heap = [(time_of(head), index, head) for index, head in enumerate(heads) if head is not None]
    heapq.heapify(heap)
    while heap:
        time, index, response = heap[0]
        yield response
        head = await anext(streams[index], None)
        if head is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (max(time, time_of(head)), index, head))


async def follow(streams: Sequence[Stream], selection: Selection) -> Stream:
    """The past in order and limited to the selection's number, then what comes, sorted within WINDOW_S."""
    queue: asyncio.Queue[GetFlowsResponse | None] = asyncio.Queue(QUEUE_LENGTH)
    pumps = [asyncio.create_task(_pump(stream, queue)) for stream in streams]
    try:
        running = len(pumps)
        if selection.number or selection.since is not None:
            batch, ended = await _gather(queue, running, SETTLE_S, SETTLE_LIMIT_S)
            running -= ended
            bound = limit(selection)
            for response in batch:
                for shown in bound.push(response):
                    yield shown
            for shown in bound.end():
                yield shown
        while running:
            batch, ended = await _gather(queue, running, None, WINDOW_S)
            running -= ended
            for response in batch:
                yield response
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(stream: Stream, queue: asyncio.Queue[GetFlowsResponse | None]) -> None:
    async for response in stream:
        await queue.put(response)
    await queue.put(None)


async def _gather(
    queue: asyncio.Queue[GetFlowsResponse | None], running: int, silence_s: float | None, limit_s: float
) -> tuple[list[GetFlowsResponse], int]:
    """What arrives, sorted, and how many streams ended, until silence_s of silence or for limit_s in all.

    With silence_s None it waits for a first response, however long that takes.
    """
    batch: list[GetFlowsResponse] = []
    ended, deadline = 0, None if silence_s is None else asyncio.get_running_loop().time() + limit_s
    while ended < running:
        try:
            async with asyncio.timeout_at(_next(deadline, silence_s)):
                item = await queue.get()
        except TimeoutError:
            break
        if item is None:
            ended += 1
        else:
            batch.append(item)
        deadline = deadline or asyncio.get_running_loop().time() + limit_s
    batch.sort(key=time_of)
    return batch, ended


def _next(deadline: float | None, silence_s: float | None) -> float | None:
    if deadline is None or silence_s is None:
        return deadline
    return min(deadline, asyncio.get_running_loop().time() + silence_s)
