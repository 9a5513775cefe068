"""Throttling on demand: every user gets so many requests a second, more are answered 429.

It is what API Priority and Fairness looks like to one client: users do not take from each other, and administrators
(`system:masters`, the level `exempt`) are never refused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.demo.api.access import MASTERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.demo.api.access import User

RETRY_AFTER_SECONDS = 1  # what the real server says


@dataclass(slots=True)
class Fairness:
    """Counts requests per user and second while a limit is set."""

    clock: Callable[[], float] = time.monotonic
    rate: int = 0
    until: float = 0.0
    refused: int = 0
    _second: int = 0
    _spent: dict[str, int] = field(default_factory=dict)

    def limit(self, rate: int, seconds: float) -> None:
        """Let each user make `rate` requests a second, for so long; 0 seconds ends it."""
        self.rate, self.until = rate, self.clock() + seconds

    def admits(self, user: User) -> bool:
        """Count a request; False if it is one too many."""
        now = self.clock()
        if now >= self.until or MASTERS in user.groups:
            return True
        if int(now) != self._second:
            self._second, self._spent = int(now), {}
        self._spent[user.name] = self._spent.get(user.name, 0) + 1
        if self._spent[user.name] <= self.rate:
            return True
        self.refused += 1
        return False
