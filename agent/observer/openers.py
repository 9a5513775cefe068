"""Openers: flows of connections that somebody else saw, found by the hash of who opened them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows.agent.probe.record import Initiator
from flows.flow.tuples import opener_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]


class Openers:
    """What a ConnectionsRequest asks for. Columns are as in agent/store/columns.py, of n flows."""

    COLUMNS: ClassVar = (
        *("time", "start", "protocol", "initiator"),
        *("local_addr", "local_port", "remote_addr", "remote_port"),
    )

    def __init__(self, keys: NDArray[np.uint64], since: int | None = None, until: int | None = None) -> None:
        """keys (k,): see flows.flow.tuples. since, until: ns since 1970, inclusive; None: no bound."""
        self._keys, self._since, self._until = np.unique(keys[keys != 0]), since, until

    def timely(self, columns: Columns) -> NDArray[np.bool_]:
        """Where the connection was open, as far as the flow tells, at some time between since and until."""
        mask = np.ones(len(columns["time"]), np.bool_)
        if self._since is not None:
            mask &= columns["time"] >= self._since
        if self._until is not None:
            mask &= columns["start"] <= self._until  # an unknown start, 0, was long ago
        return mask

    def among(self, columns: Columns) -> NDArray[np.int64]:
        """Indices of the flows whose opener, or who may be it, is asked for; ascending."""
        return np.flatnonzero(self._by_local(columns) | self._by_remote(columns))

    def oriented(self, columns: Columns) -> NDArray[np.uint8]:
        """The initiators (n,): where this node did not see who opened, who asks did."""
        unknown = columns["initiator"] == Initiator.UNKNOWN
        seen = np.where(self._by_local(columns), np.uint8(Initiator.LOCAL), np.uint8(Initiator.REMOTE))
        result: NDArray[np.uint8] = np.where(unknown, seen, columns["initiator"]).astype(np.uint8)
        return result

    def _by_local(self, columns: Columns) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = self._asked_for(columns, "local") & (columns["initiator"] != Initiator.REMOTE)
        return result

    def _by_remote(self, columns: Columns) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = self._asked_for(columns, "remote") & (columns["initiator"] != Initiator.LOCAL)
        return result

    def _asked_for(self, columns: Columns, side: str) -> NDArray[np.bool_]:
        if not len(self._keys):
            return np.zeros(len(columns["time"]), np.bool_)
        hashes = opener_keys(columns["protocol"], (columns[f"{side}_addr"], columns[f"{side}_port"]))
        at = np.minimum(np.searchsorted(self._keys, hashes), len(self._keys) - 1)
        result: NDArray[np.bool_] = self._keys[at] == hashes
        return result
