"""Answers that were left out on purpose: while one was on its way, the share of requests that leave may have fallen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.http1_connections import origin_of
from flows.agent.probe.lanes import pairing_hash
from flows.agent.probe.payload import Origin

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT: Final = 2_048  # changes, of at most one a second or two: longer than any request is waited for by default


class Sampling:
    """Which requests' answers the kernel left out, since when."""

    def __init__(self) -> None:
        """Nothing, so far."""
        self._since, self._left_out = np.zeros(1, np.uint64), np.zeros(1, np.uint64)

    def begin(self, left_out: int, now_ns: int) -> None:
        """From now on requests whose hash is below left_out do not leave, nor do their answers."""
        if left_out != self._left_out[-1]:
            self._since = np.append(self._since[-KEPT:], np.uint64(now_ns))
            self._left_out = np.append(self._left_out[-KEPT:], np.uint64(left_out))

    def may_hide(self, requests: NDArray[np.void]) -> NDArray[np.bool_]:
        """Of requests (n,), REQUEST: whether the answer may have been left out since they were sent; bool (n,)."""
        most = np.maximum.accumulate(self._left_out[::-1])[::-1]  # from each change on
        at = np.maximum(np.searchsorted(self._since, requests["time_ns"], side="right") - 1, 0)
        hashes = pairing_hash(requests["acknowledged"])
        hashes[origin_of(requests["link"]) == Origin.TLS_LIBRARY] = 0  # theirs are of the ports, too, and not known here: it may
        mask: NDArray[np.bool_] = hashes < most[at]
        return mask
