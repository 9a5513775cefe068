"""Backoff: how long to wait after a failure: longer each time, and not all in step."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """From first to longest seconds, doubled each time and varied by a quarter."""

    first: float = 1.0
    longest: float = 30.0
    _next: float = field(default=0.0, init=False)

    def pause(self) -> float:
        """Seconds to wait now."""
        base = self._next or self.first
        self._next = min(self.longest, base * 2)
        return base * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing

    def reset(self) -> None:
        """What is up again starts anew."""
        self._next = 0.0
