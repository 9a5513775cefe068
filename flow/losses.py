"""Losses: what a batch says was lost, as Observer says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.proto.observer_pb2 import GetFlowsResponse

if TYPE_CHECKING:
    from flows.proto.flows_pb2 import Loss


# What an agent left out on purpose: first bytes, for there were too many; plaintext between two slices, nobody knows how much.
SAMPLED = "sampled"
PAUSED = "TLS plaintext is read in slices, to stay within its budget"
ON_PURPOSE = frozenset({SAMPLED, PAUSED})


def lost_response(loss: Loss, teller: str = "") -> GetFlowsResponse:
    """A response with lost_events; of now if the loss does not say when it was. teller: who says it of no node."""
    response = GetFlowsResponse(node_name=loss.node or teller)
    response.lost_events.source, response.lost_events.num_events_lost = loss.source, loss.count
    for name in ("first", "last"):
        if loss.HasField(name):
            getattr(response.lost_events, name).CopyFrom(getattr(loss, name))
    if loss.HasField("last"):
        response.time.CopyFrom(loss.last)
    else:
        response.time.GetCurrentTime()
    return response
