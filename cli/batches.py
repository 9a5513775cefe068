"""Batches: what a stream of the batched service says, as the responses that an Observer would give."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from flows.flow.batch import BatchReader, compose
from flows.flow.ends import EndTable
from flows.flow.losses import lost_response
from flows.proto import flow_pb2
from flows.proto.observer_pb2 import GetFlowsResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.field_mask_pb2 import FieldMask

    from flows.flow.batch import Batch
    from flows.proto.flows_pb2 import FlowBatch

# The node name of responses that are about several nodes: only a relay knows of them.
RELAY = "relay"


class BatchResponses:
    """Reads the batches of one stream. unreadable: flows that were left out because their bytes are no flow."""

    def __init__(self, mask: FieldMask) -> None:
        """mask: the request's; ends come whole, so it is applied here once more. Without paths all is shown."""
        self._mask = mask
        self._ends = EndTable()
        self._reader = BatchReader(self._ends, [])
        self.unreadable = 0

    def read(self, message: FlowBatch) -> Iterator[GetFlowsResponse]:
        """What it says of nodes, then its flows, then what was lost. Raises flow.batch.BatchError at once."""
        if message.fresh:  # tables are begun anew, or those of a stream that is followed for weeks would only grow
            self._ends = EndTable()
            self._reader = BatchReader(self._ends, [])
        batch = self._reader.read(message)
        return self._responses(message, batch)

    def _responses(self, message: FlowBatch, batch: Batch) -> Iterator[GetFlowsResponse]:
        now = time.time_ns()
        for status in message.node_status:
            response = GetFlowsResponse(node_status=status, node_name=RELAY)
            response.time.FromNanoseconds(now)
            yield response
        for flow in self._flows(batch):
            response = GetFlowsResponse(flow=flow, node_name=flow.node_name)
            if flow.HasField("time"):
                response.time.CopyFrom(flow.time)
            yield response
        for loss in message.losses:
            yield lost_response(loss)

    def _flows(self, batch: Batch) -> Iterator[flow_pb2.Flow]:
        for raw in compose(batch, self._ends):
            try:
                flow = flow_pb2.Flow.FromString(raw)
            except DecodeError:
                self.unreadable += 1
                continue
            if self._mask.paths:
                whole, flow = flow, flow_pb2.Flow()
                self._mask.MergeMessage(whole, flow)
            yield flow
