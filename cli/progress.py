"""Progress: how far a followed stream has been shown, and the request that goes on from there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.proto import flows_pb2, observer_pb2

if TYPE_CHECKING:
    from flows.proto.observer_pb2 import GetFlowsResponse

# A server that made up nodes would fill our memory; clusters have 5,000 nodes at most.
MAX_NODES = 50_000
# The year 9999: what a Timestamp can hold.
MAX_NS = 253_402_300_799 * 1_000_000_000


@dataclass(slots=True)
class Progress:
    """query: what was asked first. began_ns: when; wall clock."""

    query: observer_pb2.GetFlowsRequest
    began_ns: int
    _positions: dict[str, flows_pb2.Position] = field(default_factory=dict)
    _watermark_ns: int = 0
    _past: bool = False  # what the query asked of the past has been shown
    _last_ns: int = 0  # time of the last flow

    def note(self, message: flows_pb2.FlowBatch) -> None:
        """All of a batch has been shown."""
        for position in message.positions:
            if position.node in self._positions or len(self._positions) < MAX_NODES:
                self._positions[position.node] = position
        if message.watermark_ns < MAX_NS:
            self._watermark_ns = max(self._watermark_ns, message.watermark_ns)
        self._past |= message.past

    def note_flow(self, response: GetFlowsResponse, now_ns: int) -> None:
        """A flow has been shown. Where its time was masked out, that it has come tells when about it was."""
        told = response.time if response.HasField("time") else response.flow.time
        time_ns = told.seconds * 1_000_000_000 + told.nanos
        self._last_ns = max(self._last_ns, time_ns if 0 < time_ns < MAX_NS else now_ns)

    def batched(self) -> flows_pb2.FlowsRequest:
        """Goes on exactly. Nodes that have no position yet answer from where the others are."""
        request = flows_pb2.FlowsRequest(query=self.query, resume=self._positions.values())
        if self._past:
            self._restart(request.query, self._watermark_ns or self.began_ns)
        return request

    def plain(self) -> observer_pb2.GetFlowsRequest:
        """Goes on by time alone: what comes late is missed, and what several nodes have at one time may repeat."""
        request = observer_pb2.GetFlowsRequest()
        request.CopyFrom(self.query)
        if self._last_ns:
            self._restart(request, self._last_ns + 1)
        elif self._past or not (request.number or request.HasField("since")):
            self._restart(request, self.began_ns)
        return request

    def _restart(self, request: observer_pb2.GetFlowsRequest, since_ns: int) -> None:
        request.number = 0
        request.since.FromNanoseconds(max(since_ns, self.query.since.ToNanoseconds()))
