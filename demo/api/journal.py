"""The access log: who asked for what, and what the answer was. Tests of clients count in it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

CAPACITY = 10_000
"""Requests kept: some minutes of a small cluster."""


@dataclass(slots=True)
class Entry:
    """One request; `code` is 0 until it is answered. A watch is answered when it begins."""

    time: float  # seconds since 1970
    user: str
    agent: str  # User-Agent
    verb: str
    resource: str  # `pods`, `pods/status`, or the path of what is no resource
    query: str
    code: int = 0
    open: bool = False  # a watch that goes on


class Journal:
    """The last requests, oldest first."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=CAPACITY)

    def begin(self, *, user: str, agent: str, verb: str, resource: str, query: str) -> Entry:
        """Note a request; its answer's code is set by who answers."""
        entry = Entry(time.time(), user, agent, verb, resource, query)
        self._entries.append(entry)
        return entry

    def since(self, moment: float) -> list[dict[str, Any]]:
        """Requests from a time (seconds since 1970) on."""
        return [asdict(entry) for entry in self._entries if entry.time >= moment]
