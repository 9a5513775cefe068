"""Health: the relay serves if it knows who the agents are and reaches at least one."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from grpc_health.v1 import health_pb2

from flows.proto import relay_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grpc_health.v1 import health

    from flows.relay.pool import Pool

log = logging.getLogger("flows.relay")

NAMES: Final = ("", "hubble.server.Observer")  # the second is what the hubble CLI asks for
SECONDS: Final = 5.0  # as Hubble's relay; for what changes without a change of the pool


def trouble(pool: Pool) -> str:
    """Why the relay cannot answer; "" if it can."""
    peers = pool.peers()
    if any(peer.state == relay_pb2.NODE_CONNECTED for peer in peers):
        return pool.discovery_status
    reasons = [f"{peer.name}: {peer.message}" for peer in peers[:3] if peer.message]
    none = f"none of {len(peers)} agents is connected" if peers else "no agents are known"
    return "; ".join(part for part in (pool.discovery_status, none, *reasons) if part)


async def keep(servicers: Sequence[health.aio.HealthServicer], pool: Pool, seconds: float = SECONDS) -> None:
    """Keep all health services up to date with the pool, until cancelled."""
    diary = Diary(seconds)
    changes = pool.changes()
    said: bool | None = None
    while True:
        now = trouble(pool)
        if said != (not now):
            said = not now
            await _set(servicers, healthy=said)
        diary.note(now)
        try:
            async with asyncio.timeout(seconds):
                await anext(changes)
        except TimeoutError:
            changes = pool.changes()  # a timeout ends the iterator


class Diary:
    """Logs trouble that lasts, and its end: what is over sooner, as at every start, is no news."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since = time.monotonic()
        self._logged: bool | None = None  # whether the last line told of trouble

    def note(self, now: str) -> None:
        """Take what is wrong now; "": nothing."""
        if not now:
            self._since = time.monotonic()
            if self._logged is not False:
                log.info("serving")
                self._logged = False
        elif not self._logged and time.monotonic() - self._since >= self._seconds:
            log.warning("not serving: %s", now)
            self._logged = True


async def _set(servicers: Sequence[health.aio.HealthServicer], *, healthy: bool) -> None:
    status = health_pb2.HealthCheckResponse.SERVING if healthy else health_pb2.HealthCheckResponse.NOT_SERVING
    for servicer in servicers:
        for name in NAMES:
            await servicer.set(name, status)
