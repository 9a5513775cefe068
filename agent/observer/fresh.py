"""Fresh: has the store catch up with the kernel, and says as of when it has."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

# Takes what is to be called, from any thread, once the store holds all that the kernel had.
Freshen = Callable[[Callable[[], None]], None]

FRESH_SECONDS = 0.5  # a busy reader must not hold an answer up; what is stored by then is shown
# A record is stamped some microseconds before it is in the ring, for longer when its CPU is interrupted or a hypervisor takes
# it away just then; and the wall clock of flows is read anew for each batch, which may be wrong by as much.
SLACK_NS = 20_000_000


class Fresh:
    """Within a running event loop."""

    def __init__(self, freshen: Freshen | None = None) -> None:
        """freshen: has what the kernel still holds moved into the store; None: there is no kernel, the store has it all."""
        self._freshen = freshen
        self._loop = asyncio.get_running_loop()
        self._stored_ns = 0

    async def __call__(self) -> int:
        """Flows before this time (ns since 1970) are all in the store. An earlier call's if the reader is not done in time."""
        now_ns = time.time_ns()
        if self._freshen is None or await self._stored(self._freshen):
            self._stored_ns = max(self._stored_ns, now_ns - SLACK_NS)
        return self._stored_ns

    async def _stored(self, freshen: Freshen) -> bool:
        done = asyncio.Event()

        def stored() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(done.set)

        freshen(stored)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FRESH_SECONDS):
                await done.wait()
        return done.is_set()
