"""State: how up to date what is known of one resource is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class ResourceState:
    """How up to date one resource is. since: wall clock seconds, of in_sync's last change."""

    in_sync: bool = False
    since: float = field(default_factory=time.time)
    error: str = "not listed yet"

    def synced(self) -> None:
        """Note that the list is complete and a watch runs."""
        if not self.in_sync:
            self.in_sync, self.since = True, time.time()
        self.error = ""

    def lost(self, error: str) -> None:
        """Note that changes are missed from now on."""
        if self.in_sync:
            self.in_sync, self.since = False, time.time()
        self.error = error
