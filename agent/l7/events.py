"""Events: what became of requests, as the flows that show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Events(NamedTuple):
    """n events of requests, in no order. Each becomes a flow.

    request: number in the RequestStore (n,), i8; event: flows.v1.Event (n,), u1: REQUEST, RESPONSE, NO_RESPONSE or HELLO;
    time_ns: CLOCK_MONOTONIC (n,), u8.
    """

    request: NDArray[np.int64]
    event: NDArray[np.uint8]
    time_ns: NDArray[np.uint64]


def nothing() -> Events:
    """No events."""
    return Events(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint64))


def together(*parts: Events) -> Events:
    """The events of all parts."""
    filled = [part for part in parts if part.request.size]
    if len(filled) < 2:
        return filled[0] if filled else nothing()
    request, event, time_ns = (np.concatenate(columns) for columns in zip(*filled, strict=True))
    return Events(request, event, time_ns)


class Handler(Protocol):
    """One protocol. It stores what it finds in the RequestStore it was made with, and counts what it cannot read."""

    def take(self, payloads: NDArray[np.void], to_wall_ns: int) -> Events:
        """Payloads (n,) of its kinds, dtype SHORT_PAYLOAD or LONG_PAYLOAD, in no strict order; to_wall_ns: added to their times.

        Never raises for what the bytes are.
        """

    def expire(self, now_ns: int, to_wall_ns: int) -> Events:
        """What has waited too long for its answer by now (CLOCK_MONOTONIC)."""

    def ended(self, connections: NDArray[np.uint64], time_ns: NDArray[np.uint64], to_wall_ns: int) -> Events:
        """Connections (k,) by conn_id that were closed, reset or timed out at time_ns (k,): what waits on them gets no answer.

        Told after the payloads of the same batch were taken.
        """

    def counts(self) -> dict[str, int]:
        """Since the start, by reason: what could not be read, paired or kept."""
