"""Flows that the printing tests share."""

from __future__ import annotations

from google.protobuf import json_format

from flows.proto.observer_pb2 import GetFlowsResponse

SYN = {
    "time": "1970-01-01T00:20:34.567800Z",
    "verdict": "DROPPED",
    "IP": {"source": "1.1.1.1", "destination": "2.2.2.2"},
    "l4": {"TCP": {"source_port": 31793, "destination_port": 8080}},
    "source": {"identity": 4},
    "destination": {"identity": 12345},
    "Type": "L3_L4",
    "node_name": "k8s1",
    "event_type": {"type": 1, "sub_type": 133},
    "is_reply": False,
    "Summary": "TCP Flags: SYN",
}


def response(**changes: object) -> GetFlowsResponse:
    """Hubble's own sample flow, with fields replaced, or left out where the new value is None."""
    flow = {key: value for key, value in (SYN | changes).items() if value is not None}
    return json_format.ParseDict({"flow": flow}, GetFlowsResponse())


def lost(**changes: object) -> GetFlowsResponse:
    """Hubble's own sample of lost events."""
    event = {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "1", "cpu": 5} | changes
    return json_format.ParseDict({"lost_events": event, "time": SYN["time"]}, GetFlowsResponse())
