"""Parcel: what an answer says at once: flows, and everything that is to be said with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.flow.batch import Batch
    from flows.flow.ends import EndTable
    from flows.proto import flows_pb2, relay_pb2

ROW_BYTES = 120  # of a flow beside its messages: columns, and Python's two bytes objects


@dataclass(slots=True)
class Parcel:
    """batch: of the tables ends and nodes. watermark_ns: by the relay's clock, 0: nothing is said; past: as in FlowBatch."""

    batch: Batch
    ends: EndTable
    nodes: list[str]
    watermark_ns: int = 0
    past: bool = False
    positions: list[flows_pb2.Position] = field(default_factory=list)
    states: list[relay_pb2.NodeStatusEvent] = field(default_factory=list)
    losses: list[flows_pb2.Loss] = field(default_factory=list)
    coverage: flows_pb2.Coverage | None = None

    def size(self) -> int:
        """Bytes of memory, about."""
        batch = self.batch
        return sum(map(len, batch.flows)) + sum(map(len, batch.connections)) + ROW_BYTES * len(batch)
