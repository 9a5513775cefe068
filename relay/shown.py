"""Shown: what a caller gets to see of joined flows: those of his namespaces, with the fields that he asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from flows.flow.batch import Batch, objects
from flows.relay.mask import MaskedEnds

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flows.flow.ends import EndTable
    from flows.relay.access.scope import Scope
    from flows.relay.query import Query

    Namespaces = frozenset[str]


class InNamespaces:
    """Whether ends are of one of these namespaces, by number; each end is looked into once."""

    def __init__(self, ends: EndTable, names: Namespaces) -> None:
        self.names = names
        self._ends = ends
        self._known = np.zeros(0, np.int8)  # 0: not looked into, 1: no, 2: yes

    def __call__(self, batch: Batch) -> NDArray[np.bool_]:
        """Where a flow has such an end; bool (n,)."""
        if len(self._known) < len(self._ends):
            self._known = np.concatenate((self._known, np.zeros(len(self._ends) - len(self._known), np.int8)))
        both = np.concatenate((batch.source, batch.destination))
        new = np.unique(both[self._known[both] == 0])
        self._known[new] = [1 if self._ends[number].namespaces.isdisjoint(self.names) else 2 for number in new.tolist()]
        visible: NDArray[np.bool_] = (self._known[batch.source] == 2) | (self._known[batch.destination] == 2)
        return visible


class Shown:
    """Of one answer."""

    def __init__(self, query: Query, scope: Callable[[], Scope], ends: EndTable) -> None:
        """scope: what the caller may see now; it may shrink."""
        self._query, self._scope = query, scope
        self.damaged = 0  # flows that could not be read
        self.change_ends(ends)

    def change_ends(self, ends: EndTable) -> None:
        """Go on with another table."""
        asked, may_see = self._query.namespaces, self._scope().namespaces
        self._ends = ends
        self._asked = InNamespaces(ends, asked) if asked is not None else None
        self._allowed = InNamespaces(ends, may_see) if may_see is not None else None
        self._masked = MaskedEnds(self._query.mask, ends) if self._query.mask is not None else None

    def __call__(self, batch: Batch) -> Batch:
        """The flows to show, as they are to be shown."""
        may_see = self._scope().namespaces
        if may_see is not None and (self._allowed is None or self._allowed.names != may_see):
            self._allowed = InNamespaces(self._ends, may_see)
        for condition in (self._asked, self._allowed):
            if condition is not None:
                visible = condition(batch)
                batch = batch if visible.all() else batch.take(visible)
        if not self._query.extensions:
            batch = replace(batch, connections=objects([b""] * len(batch)))
        return batch if self._masked is None else self._mask(batch, self._masked)

    def _mask(self, batch: Batch, ends: MaskedEnds) -> Batch:
        assert self._query.mask is not None
        flows, good = [], np.ones(len(batch), np.bool_)
        for row, raw in enumerate(batch.flows):
            try:
                flows.append(self._query.mask.flow(raw))
            except DecodeError:
                good[row] = False
                self.damaged += 1
        if not good.all():
            batch = batch.take(good)
        source, destination = ends.numbers(batch.source, "source"), ends.numbers(batch.destination, "destination")
        return replace(batch, flows=objects(flows), source=source, destination=destination)
