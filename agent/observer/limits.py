"""Limits: how much of one thing clients may have at once, and what is said to the next one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS = 128  # a relay needs one per follower; each costs some 100 kB and ten wake-ups a second
HISTORIES = 16  # large snapshots that slow clients keep here: 10 MB each with the default store


class LimitError(Exception):
    """There are too many already; the text says of what, and the cure."""


class Limit:
    """Counts what is in use."""

    def __init__(self, most: int, what: str, cure: str) -> None:
        """what: in plural."""
        self._most, self._used = most, 0
        self._refusal = f"this agent serves {most} {what} already; {cure}"

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Use one of them. Raises LimitError."""
        if self._used >= self._most:
            raise LimitError(self._refusal)
        self._used += 1
        try:
            yield
        finally:
            self._used -= 1


def streams() -> Limit:
    """Of one server."""
    return Limit(STREAMS, "streams", "close some, or follow through a relay, which needs one stream for each query")


def histories() -> Limit:
    """Of one server."""
    return Limit(HISTORIES, "large histories", "try again, or ask for less (number, since, a filter)")
