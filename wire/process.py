"""The process of a server: how much its threads keep for themselves, and when it is to end."""

from __future__ import annotations

import asyncio
import ctypes
import signal
from typing import Final

M_ARENA_MAX: Final = -8  # malloc.h


def limit_arenas(most: int) -> None:
    """Let so many heaps serve all threads: glibc would give each thread one of its own, and gRPC has many threads."""
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, most)


async def until_signal() -> None:
    """Wait for SIGINT or SIGTERM."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()
