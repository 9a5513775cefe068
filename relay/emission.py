"""Emission: parcels as serialized messages of the two services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flows.flow.batch import BatchWriter, compose
from flows.flow.ends import field, varint
from flows.proto import observer_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.flow.ends import EndTable
    from flows.proto import flows_pb2
    from flows.relay.parcel import Parcel

_FLOW, _NODE_NAME, _TIME = 1, 1000, 1001  # fields of observer.GetFlowsResponse
_SECONDS, _NANOS = b"\x08", b"\x10"  # of a Timestamp, varints


class Emitter(Protocol):
    """Of one stream."""

    def messages(self, parcel: Parcel) -> Iterator[bytes]:
        """What to send for a parcel."""


class BatchEmitter:
    """Messages of flows.v1.Flows: one for each parcel."""

    def __init__(self) -> None:
        self._writer: BatchWriter | None = None
        self._table: EndTable | None = None

    def messages(self, parcel: Parcel) -> Iterator[bytes]:
        """One FlowBatch."""
        if self._writer is None:
            self._writer = BatchWriter(parcel.ends, parcel.nodes)
        elif self._table is not parcel.ends:
            self._writer.change_tables(parcel.ends, parcel.nodes)
        self._table = parcel.ends
        message = self._writer.write(parcel.batch)
        message.losses.extend(parcel.losses)
        message.node_status.extend(parcel.states)
        message.watermark_ns, message.past = parcel.watermark_ns, parcel.past
        message.positions.extend(parcel.positions)
        if parcel.coverage is not None:
            message.coverage.CopyFrom(parcel.coverage)
        yield message.SerializeToString()


class ObserverEmitter:
    """Messages of observer.Observer: one for each flow, state and loss."""

    def __init__(self, relay: str) -> None:
        """relay: its name, for what no node has said."""
        self._relay = relay

    def messages(self, parcel: Parcel) -> Iterator[bytes]:
        """GetFlowsResponses: states first, then flows, then losses."""
        for state in parcel.states:
            response = observer_pb2.GetFlowsResponse(node_status=state, node_name=self._relay)
            response.time.GetCurrentTime()
            yield response.SerializeToString()
        batch, names = parcel.batch, [field(_NODE_NAME, name.encode()) for name in parcel.nodes]
        flows = compose(batch, parcel.ends)
        for flow, node, time_ns in zip(flows, batch.node.tolist(), batch.time_ns.tolist(), strict=True):
            yield field(_FLOW, flow) + names[node] + field(_TIME, _timestamp(time_ns))
        for loss in parcel.losses:
            yield self._lost(loss).SerializeToString()

    def _lost(self, loss: flows_pb2.Loss) -> observer_pb2.GetFlowsResponse:
        response = observer_pb2.GetFlowsResponse(node_name=loss.node or self._relay)
        response.lost_events.source, response.lost_events.num_events_lost = loss.source, loss.count
        for name in ("first", "last"):
            if loss.HasField(name):
                getattr(response.lost_events, name).CopyFrom(getattr(loss, name))
        if loss.HasField("last"):
            response.time.CopyFrom(loss.last)
        else:
            response.time.GetCurrentTime()
        return response


def _timestamp(ns: int) -> bytes:
    """A serialized google.protobuf.Timestamp. Negative seconds take ten bytes (protobuf's int64)."""
    seconds, nanos = divmod(ns, 1_000_000_000)
    raw = _SECONDS + varint(seconds & 0xFFFF_FFFF_FFFF_FFFF) if seconds else b""
    return raw + _NANOS + varint(nanos) if nanos else raw
