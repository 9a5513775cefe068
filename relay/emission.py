"""Emission: parcels as serialized messages of the two services."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from google.protobuf.message import DecodeError

from flows.flow.batch import Batch, BatchWriter, compose
from flows.flow.ends import field, varint
from flows.flow.losses import lost_response
from flows.proto import flow_pb2, flows_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flows.flow.ends import EndTable
    from flows.proto.flows_pb2 import Position
    from flows.relay.parcel import Parcel

_FLOW, _NODE_NAME, _TIME = 1, 1000, 1001  # fields of observer.GetFlowsResponse
_SECONDS, _NANOS = b"\x08", b"\x10"  # of a Timestamp, varints
MESSAGE_BYTES: Final = 8 << 20
"""Of flows in one message. A window of usual flows has half of it; clients take no more than wire.limits.BATCH_BYTES, and what
one agent sends of great length, or of one nanosecond, must not end their streams."""
_ROW_BYTES = 64  # of a flow beside its messages: columns, and what protobuf adds


class Emitter(Protocol):
    """Of one stream."""

    def messages(self, parcel: Parcel) -> Iterator[bytes]:
        """What to send for a parcel."""


class BatchEmitter:
    """Messages of flows.v1.Flows: one for each parcel, or several if its flows are very long or many."""

    def __init__(self, closed: Callable[[Position], Position] | None = None) -> None:
        """closed: a position as the client is to get it, if not as it is."""
        self._closed = closed
        self._writer: BatchWriter | None = None
        self._table: EndTable | None = None

    def messages(self, parcel: Parcel) -> Iterator[bytes]:
        """FlowBatches. The last one says what is said with the flows: only then have they all been sent."""
        if self._writer is None:
            self._writer = BatchWriter(parcel.ends, parcel.nodes)
        elif self._table is not parcel.ends:
            self._writer.change_tables(parcel.ends, parcel.nodes)
        self._table = parcel.ends
        *before, last = _pieces(parcel.batch)
        for piece in before:
            yield self._writer.write(piece).SerializeToString()
        message = self._writer.write(last)
        message.losses.extend(parcel.losses)
        message.node_status.extend(parcel.states)
        message.watermark_ns, message.past = parcel.watermark_ns, parcel.past
        message.positions.extend(parcel.positions if self._closed is None else map(self._closed, parcel.positions))
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
        batch, losses, names = parcel.batch, list(parcel.losses), [field(_NODE_NAME, name.encode()) for name in parcel.nodes]
        flows, damaged = compose(batch, parcel.ends), 0
        for raw, flow, node, time_ns in zip(batch.flows, flows, batch.node.tolist(), batch.time_ns.tolist(), strict=True):
            if _readable(raw):
                yield field(_FLOW, flow) + names[node] + field(_TIME, _timestamp(time_ns))
            else:
                damaged += 1
        if damaged:
            losses.insert(0, flows_pb2.Loss(count=damaged, source=flow_pb2.OBSERVER_EVENTS_QUEUE))
        for loss in losses:
            yield lost_response(loss, self._relay).SerializeToString()


def _pieces(batch: Batch) -> Iterator[Batch]:
    """A batch in pieces of MESSAGE_BYTES or, of one flow, more; at least one piece."""
    if sum(map(len, batch.flows)) + sum(map(len, batch.connections)) + _ROW_BYTES * len(batch) <= MESSAGE_BYTES:
        yield batch
        return
    sizes = [len(flow) + len(connection) + _ROW_BYTES for flow, connection in zip(batch.flows, batch.connections, strict=True)]
    total = np.cumsum(np.array(sizes, np.int64))
    first = sent = 0
    while first < len(batch):
        last = max(first + 1, int(total.searchsorted(sent + MESSAGE_BYTES, "right")))
        yield Batch(*(getattr(batch, each.name)[first:last] for each in fields(Batch)))
        first, sent = last, int(total[last - 1])


def _readable(flow: bytes) -> bool:
    """Whether a flow can be parsed: a client's gRPC ends the whole stream at one that cannot."""
    try:
        flow_pb2.Flow.FromString(flow)
    except DecodeError:
        return False
    return True


def _timestamp(ns: int) -> bytes:
    """A serialized google.protobuf.Timestamp. Negative seconds take ten bytes (protobuf's int64)."""
    seconds, nanos = divmod(ns, 1_000_000_000)
    raw = _SECONDS + varint(seconds & 0xFFFF_FFFF_FFFF_FFFF) if seconds else b""
    return raw + _NANOS + varint(nanos) if nanos else raw
