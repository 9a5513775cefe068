"""Limit: the newest or oldest N responses of a file, of whatever kind, as Hubble counts them there."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flows.flow.filter.selection import Selection
    from flows.proto.observer_pb2 import GetFlowsResponse


class Limit(Protocol):
    """Takes responses in order; done tells that no later one can matter."""

    done: bool

    def push(self, response: GetFlowsResponse) -> Iterable[GetFlowsResponse]:
        """The responses that can be shown now that this one came."""

    def end(self) -> Iterable[GetFlowsResponse]:
        """The responses that could only be shown once the stream has ended."""


class Everything:
    """No limit."""

    done = False

    def push(self, response: GetFlowsResponse) -> Iterable[GetFlowsResponse]:
        return (response,)

    def end(self) -> Iterable[GetFlowsResponse]:
        return ()


class Oldest:
    """The first ones."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.done = number == 0

    def push(self, response: GetFlowsResponse) -> Iterable[GetFlowsResponse]:
        if self.done:
            return ()
        self._left -= 1
        self.done = self._left == 0
        return (response,)

    def end(self) -> Iterable[GetFlowsResponse]:
        return ()


class Newest:
    """The last ones."""

    done = False

    def __init__(self, number: int) -> None:
        self._kept: deque[GetFlowsResponse] = deque(maxlen=number)

    def push(self, response: GetFlowsResponse) -> Iterable[GetFlowsResponse]:
        self._kept.append(response)
        return ()

    def end(self) -> Iterable[GetFlowsResponse]:
        kept, self._kept = self._kept, deque(maxlen=self._kept.maxlen)
        return kept


# Hubble's --all is a number that no ring holds; keeping everything until the end would only cost memory.
_UNLIMITED = 1 << 31


def limit(selection: Selection) -> Limit:
    """The limit that a selection states."""
    if not 0 < selection.number < _UNLIMITED:
        return Everything()
    return Oldest(selection.number) if selection.first else Newest(selection.number)
