"""Requests that may be part of a body: the request it belongs to may come through the other ring, which is read later."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flows.agent.l7.http1_requests import Heads
from flows.agent.l7.http1_rows import join, pick

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Asked(NamedTuple):
    """n requests that were read. payloads: PAYLOAD, they came with; headers: those that are kept, None: none are."""

    payloads: NDArray[np.void]
    requests: NDArray[np.void]
    read: Heads
    headers: NDArray[np.uint8] | None

    def pick(self, which: NDArray[np.bool_]) -> Asked:
        """Some of them."""
        headers = None if self.headers is None else self.headers[which]
        read = Heads._make(column[which] for column in self.read)
        return Asked(pick(self.payloads, which), pick(self.requests, which), read, headers)


class Deferred:
    """They wait for one more call: no longer, as records of a batch are brought in two."""

    def __init__(self) -> None:
        self.due: list[Asked] = []
        self._new: list[Asked] = []

    def with_due(self, asked: Asked, *, long: bool) -> Asked | None:
        """Those whose time has come, then new ones; but not those new ones that are to wait. long: they came in long records."""
        if long:
            odd = _are_odd(asked)
            if odd.any():
                self._new.append(asked.pick(odd))
                asked = asked.pick(~odd)
        self.due.append(asked)
        return self.take()

    def take(self) -> Asked | None:
        """Those whose time has come, if any has."""
        due, self.due = self.due, []
        if len(due) < 2:
            return due[0] if due else None
        read = Heads._make(np.concatenate(columns) for columns in zip(*(each.read for each in due), strict=True))
        headers = [each.headers for each in due if each.headers is not None]
        kept = np.concatenate(headers) if headers else None
        return Asked(join(*(each.payloads for each in due)), join(*(each.requests for each in due)), read, kept)

    def end_call(self) -> None:
        """The time of those that were new has come."""
        self.due, self._new = self.due + self._new, []


def _are_odd(asked: Asked) -> NDArray[np.bool_]:
    """Which are followed, in their packet, by what they do not announce; bool (n,)."""
    requests = asked.requests
    odd: NDArray[np.bool_] = (requests["size"] != 0) & (requests["size"] < asked.payloads["length"])
    odd |= requests["begun"] != 1
    return odd
