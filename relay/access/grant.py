"""The right of one open stream, checked again and again while it is open."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import grpc

from flows.relay.access import refusals
from flows.relay.access.scope import Denied, Scope
from flows.relay.access.times import DEFAULT, Times

if TYPE_CHECKING:
    from flows.relay.access.decisions import Claim, Decisions

EXPIRED_SECONDS = 0.1  # after a token's end it is checked: by then nothing remembers it as valid


class CheckedGrant:
    """A Grant that Kubernetes is asked about. Holds the token for as long as it lives: it has to show it again."""

    def __init__(self, claim: Claim, scope: Scope, decisions: Decisions, times: Times = DEFAULT) -> None:
        """scope: as just decided for claim."""
        self._claim, self._scope, self._decisions, self._times = claim, scope, decisions, times
        self._checked = time.monotonic()

    @property
    def scope(self) -> Scope:
        """As of the last check."""
        return self._scope

    async def revoked(self) -> Denied:
        """Check until the grant ends: the token is not valid any more, nothing is left to see, or no check works for long."""
        while True:
            await asyncio.sleep(self._pause())
            refusal = await self._check()
            if refusal is not None:
                return refusal

    async def _check(self) -> Denied | None:
        started = time.monotonic()
        try:
            scope = await self._decisions.check(self._claim, self._scope)
        except Denied as refusal:
            if refusal.code != grpc.StatusCode.UNAVAILABLE:
                return refusal
            over = time.monotonic() - self._checked >= self._times.outage
            return refusals.unchecked_for(self._times.outage, refusal) if over else None
        if scope != self._scope:
            self._scope = scope
        self._checked = started
        return None

    def _pause(self) -> float:
        """Until the next check: at random, but not after the token expires or the time without a check is over."""
        pause = random.uniform(*self._times.recheck)  # noqa: S311 - spreads load, hides nothing
        left = self._claim.expires - time.time()
        if left > 0:
            pause = min(pause, left + EXPIRED_SECONDS)
        return max(min(pause, self._checked + self._times.outage - time.monotonic()), 0.0)


class FreeGrant:
    """A Grant that does not end."""

    def __init__(self, scope: Scope) -> None:
        """scope: for good."""
        self.scope = scope

    async def revoked(self) -> Denied:
        """Wait for ever."""
        ended: asyncio.Future[Denied] = asyncio.get_running_loop().create_future()
        return await ended
