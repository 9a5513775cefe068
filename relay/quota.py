"""Quota: how many streams of flows may be open at once, in all and for each caller."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS: Final = 128
"""Of one relay: each has a stream to every agent, and an agent takes as many."""
STREAMS_OF_ONE: Final = 32  # of one user, or of one address if callers have no names


class QuotaError(Exception):
    """There are too many streams already; the text says whose, and the cure."""


class Quota:
    """Counts open streams."""

    def __init__(self, most: int = STREAMS, most_of_one: int = STREAMS_OF_ONE) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def stream(self, caller: str) -> Iterator[None]:
        """Have one open. caller: who it counts for; "" for nobody in particular. Raises QuotaError."""
        if self._open.total() >= self._most:
            raise QuotaError(f"this relay serves {self._most} streams already; close some, or ask another relay")
        if caller and self._open[caller] >= self._most_of_one:
            raise QuotaError(f"{caller} has {self._most_of_one} streams open already; close some")
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]
