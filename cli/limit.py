"""Limit: the newest or oldest N flows of a stream. What is not a flow comes along and does not count."""

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
    """The first number flows."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.done = number == 0

    def push(self, response: GetFlowsResponse) -> Iterable[GetFlowsResponse]:
        if self.done:
            return ()
        self._left -= response.HasField("flow")
        self.done = self._left == 0
        return (response,)

    def end(self) -> Iterable[GetFlowsResponse]:
        return ()


class Newest:
    """The last number flows, and what came after the first of them."""

    done = False

    def __init__(self, number: int) -> None:
        self._number = number
        self._kept: deque[GetFlowsResponse] = deque()
        self._flows = 0

    def push(self, response: GetFlowsResponse) -> Iterable[GetFlowsResponse]:
        self._kept.append(response)
        self._flows += response.HasField("flow")
        if self._flows > self._number:
            self._drop_oldest()
        return ()

    def end(self) -> Iterable[GetFlowsResponse]:
        kept, self._kept, self._flows = self._kept, deque(), 0
        return kept

    def _drop_oldest(self) -> None:
        while self._flows > self._number or not self._kept[0].HasField("flow"):
            self._flows -= self._kept.popleft().HasField("flow")


# Hubble's --all is a number that no ring holds; keeping everything until the end would only cost memory.
_UNLIMITED = 1 << 63


def limit(selection: Selection) -> Limit:
    """The limit that a selection states."""
    if not 0 < selection.number < _UNLIMITED:
        return Everything()
    return Oldest(selection.number) if selection.first else Newest(selection.number)
