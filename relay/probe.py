"""Probe: the short questions to an agent by which it shows that it is well, what time it has, and what it serves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import grpc

from flows.proto import flows_pb2, observer_pb2
from flows.relay import link
from flows.relay.clock import BURST, Clock, ClockFilter, take_sample
from flows.relay.identification import identify
from flows.relay.link import Link, PeerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MOST_OFFSET_NS: Final = 100 * 365 * 86_400 * 10**9
"""Clocks that were never set begin in 1970. One that is further off than this is none: int64 could not hold corrected times."""


class Probe:
    """What the answers of one agent told. node: what it calls its node; "" if it was not asked or did not tell."""

    def __init__(self, seconds: float) -> None:
        """seconds: for each answer."""
        self.batched: bool | None = None
        self.clock: Clock | None = None
        self.node = ""
        self._seconds = seconds
        self._filter = ClockFilter()

    async def greet(self, agent: Link, *, named: bool) -> None:
        """Begin anew with an agent that was just connected. named: do not ask it for its name. Raises PeerError."""
        self.batched, self.clock, self._filter = None, None, ClockFilter()
        for _ in range(BURST):
            await self.once(agent)
            if not self.batched:
                break
        if not named:
            await self.identify(agent)

    async def once(self, agent: Link) -> None:
        """One round trip: of the clock, else of any call that every Observer has. Raises PeerError."""
        if self.batched is not False and await self._measured(self._clock_of(agent)):
            return
        await agent.ask(link.SERVER_STATUS, observer_pb2.ServerStatusRequest(), self._seconds)

    async def identify(self, agent: Link) -> bool:
        """Ask for the node's name; tells whether it was told."""
        self.node = await identify(agent, self._seconds) or self.node
        return bool(self.node)

    async def _measured(self, ask: Callable[[], Awaitable[int]]) -> bool:
        """False if the agent has no such call."""
        try:
            self.clock, self.batched = self._filter.add(await take_sample(ask)), True
        except PeerError as error:
            if error.code is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            self.batched, self.clock = False, None
        return bool(self.batched)

    def _clock_of(self, agent: Link) -> Callable[[], Awaitable[int]]:
        async def ask() -> int:
            now_ns = (await agent.ask(link.GET_CLOCK, flows_pb2.ClockRequest(), self._seconds)).now_ns
            if abs(now_ns - time.time_ns()) > MOST_OFFSET_NS:
                why = "its clock is more than 100 years off: set the node's clock"
                raise PeerError(grpc.StatusCode.INTERNAL, f"asking {agent.name} for GetClock: {why}")
            return now_ns

        return ask
