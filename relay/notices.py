"""Notices: what a stream says besides flows, gathered for a moment: states of nodes, and losses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from flows.proto import flows_pb2, relay_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

GATHER_SECONDS: Final = 1.0
"""Nodes that change their state for the same reason are told together: many at once when a network or the relay's own host
fails. Hubble's relay gathers errors for 10 s."""
MOST_KINDS: Final = 1_024  # of losses, by node and reason, that wait; beyond, they are told without either
SEVERAL: Final = "several reasons"
MOST_COUNT: Final = (1 << 64) - 1  # what a uint64 holds; an agent that counts wrong must not break the sum


class Notices:
    """Of one answer. limited: its reader may not see everything: he gets no counts and no texts that name addresses."""

    def __init__(self, *, limited: bool) -> None:
        self._limited = limited
        self._states: list[dict[tuple[int, str], list[str]]] = []  # in the order to be said; the last one is still open
        self._open: dict[str, tuple[int, str]] = {}  # by node, what the last one says
        self._losses: dict[tuple[str, str, int], flows_pb2.Loss] = {}
        self._gathered_at = 0.0

    def state(self, state: int, names: Iterable[str], message: str = "") -> None:
        """Nodes are now in this state."""
        kind = (state, "" if self._limited else message)
        if not self._states:
            self._gathered_at = time.monotonic()
        for name in names:
            if not self._states or self._open.get(name, kind) != kind:  # a second change of one node comes after the first
                self._states.append({})
                self._open = {}
            if name not in self._open:
                self._open[name] = kind
                self._states[-1].setdefault(kind, []).append(name)

    def loss(self, losses: Iterable[flows_pb2.Loss]) -> None:
        """Flows were lost."""
        for loss in losses:
            key = (loss.node, loss.reason, loss.source)
            if key not in self._losses and len(self._losses) >= MOST_KINDS:
                key = ("", SEVERAL, loss.source)
            known = self._losses.get(key)
            if known is None:
                known = self._losses[key] = flows_pb2.Loss(node=key[0], reason=key[1], source=loss.source, first=loss.first)
            known.last.CopyFrom(loss.last)
            if not self._limited:
                known.count = min(known.count + loss.count, MOST_COUNT)

    def take(self, *, all_of_it: bool = False) -> tuple[list[relay_pb2.NodeStatusEvent], list[flows_pb2.Loss]]:
        """What is to be said now. all_of_it: also what is still being gathered."""
        losses, self._losses = list(self._losses.values()), {}
        if not self._states or not (all_of_it or time.monotonic() - self._gathered_at >= GATHER_SECONDS):
            return [], losses
        states, self._states, self._open = self._states, [], {}
        return [
            relay_pb2.NodeStatusEvent(state_change=state, node_names=names, message=message)  # type: ignore[arg-type]
            for group in states
            for (state, message), names in group.items()
        ], losses
