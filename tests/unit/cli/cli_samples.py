"""Flows that the command tests share."""

from __future__ import annotations

from flows.proto import flow_pb2
from flows.proto.observer_pb2 import GetFlowsResponse


def at(second: int, name: str = "n") -> GetFlowsResponse:
    """A flow of that second; its summary names it."""
    response = GetFlowsResponse(flow=flow_pb2.Flow(Summary=f"{name}{second}", verdict="FORWARDED"), node_name=name)
    response.time.seconds = response.flow.time.seconds = second
    return response


def loss(second: int) -> GetFlowsResponse:
    """Lost events, reported at that second."""
    response = GetFlowsResponse(lost_events=flow_pb2.LostEvent(source="HUBBLE_RING_BUFFER", num_events_lost=second))
    response.time.seconds = second
    return response


def shown(text: str) -> list[str]:
    """What compact lines are about: the flows' summaries, and how many events were lost."""
    return [line.rsplit(" ", 1)[1].strip("()") for line in text.splitlines()]
