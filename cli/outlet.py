"""Outlet: standard output while following: written in batches, and left at once when its reader has gone."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

# How long a line may wait for company: one write per batch keeps up with thousands of flows a second.
FLUSH_INTERVAL_S = 0.02


async def flush_regularly(stream: TextIO) -> None:
    """Flushes until cancelled. Raises OSError when the stream cannot be written."""
    while True:
        await asyncio.sleep(FLUSH_INTERVAL_S)
        stream.flush()


async def until_reader_gone(stream: TextIO, work: asyncio.Task[None], *others: asyncio.Task[None]) -> None:
    """Waits until the work, one of the others, or the stream's reader ends or fails; ends all. Raises what they raise."""
    tasks = [work, *others, asyncio.create_task(reader_gone(stream))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def reader_gone(stream: TextIO) -> None:
    """Raises BrokenPipeError once nobody can read the pipe any more; waits forever for other streams.

    Without it `flows observe -f | head -1` would stay until the next flow, which may never come.
    """
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    try:
        descriptor = stream.fileno()
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            # The writing end of a pipe never becomes readable; epoll reports its error as if it were.
            loop.add_reader(descriptor, gone.set)
    except (OSError, ValueError):  # no file behind the stream, or one that cannot be polled
        pass
    await gone.wait()
    loop.remove_reader(descriptor)
    raise BrokenPipeError
