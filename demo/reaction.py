"""Work that follows changes in the API: done once after many changes, never by polling."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.demo.errors import DemoError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flows.demo.api.storage import Storage

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.05  # changes come in bursts: a Deployment makes a dozen within milliseconds


@dataclass(slots=True)
class Reaction:
    """Calls `act` soon after something in `resources` changed, and once at the start."""

    name: str
    storage: Storage
    resources: frozenset[str]
    act: Callable[[], Awaitable[None]]
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def trigger(self) -> None:
        """Ask for `act`, as a change of the API does."""
        self._wanted.set()

    def _on_change(self, resource: str, _kind: str, _obj: dict[str, Any]) -> None:
        if resource in self.resources:
            self._wanted.set()

    async def run(self) -> None:
        """React until cancelled; a failed act is logged and done again at the next change."""
        unsubscribe = self.storage.subscribe(self._on_change)
        try:
            self._wanted.set()
            while True:
                await self._wanted.wait()
                await asyncio.sleep(SETTLE_SECONDS)
                self._wanted.clear()
                try:
                    await self.act()
                except (DemoError, OSError) as error:
                    log.warning("%s: %s", self.name, error)
                except Exception:  # an object nobody thought of must not end the whole cluster
                    log.exception("%s", self.name)
        finally:
            unsubscribe()
