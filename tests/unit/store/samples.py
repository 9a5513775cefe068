"""Records and names to test stores and observers with, made without a kernel."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np

from flows.agent.probe.record import RECORD, Event, Initiator
from flows.flow.endpoint import Container, Endpoint, Evidence, ServiceName, Workload

T0 = 1_000_000_000  # CLOCK_MONOTONIC of the first record
WALL = 1_700_000_000_000_000_000  # what is added to it
TCP, UDP = 6, 17


def packed(address: str) -> np.ndarray[Any, Any]:
    """16 bytes, IPv4 mapped."""
    parsed = ipaddress.ip_address(address)
    raw = parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed
    return np.frombuffer(raw, "u1")


def record(**fields: Any) -> np.ndarray[Any, Any]:
    """One record (1,): by default the end of a connection that a local curl opened to 10.0.0.2:80."""
    made = np.zeros(1, RECORD)
    values: dict[str, Any] = {
        "time_ns": T0, "start_ns": T0 - 5_000_000, "conn_id": 1, "cgroup_id": 7, "sent_bytes": 100, "received_bytes": 2000,
        "local_addr": "10.0.0.1", "remote_addr": "10.0.0.2", "sent_packets": 5, "received_packets": 6, "pid": 42,
        "rtt_us": 150, "handshake_us": 300, "local_port": 40_000, "remote_port": 80, "event": Event.CLOSED,
        "protocol": TCP, "initiator": Initiator.LOCAL, "flags_sent": 19, "flags_received": 19, "netns": 9, "comm": b"curl",
        **fields,
    }  # fmt: skip
    for name, value in values.items():
        made[name] = packed(value) if isinstance(value, str) else value
    return made


CLIENT = Endpoint(
    identity=4001, namespace="demo", pod="svc-a-1", labels=("k8s:app=svc-a",), workload=Workload("Deployment", "svc-a"),
    node="node-1", container=Container("c" * 64, "containerd", "client"), evidence=Evidence.CGROUP,
)  # fmt: skip
SERVER = Endpoint(
    identity=4002, namespace="demo", pod="svc-b-1", labels=("k8s:app=svc-b",), workload=Workload("Deployment", "svc-b"),
    services=(ServiceName("demo", "svc-b"),), node="node-2", evidence=Evidence.ADDRESS,
)  # fmt: skip
CLUSTER_IP = Endpoint(identity=2, service=ServiceName("demo", "svc-b"), labels=("reserved:world",), evidence=Evidence.ADDRESS)
WORLD = Endpoint(identity=2, labels=("reserved:world",), evidence=Evidence.RANGE)
ENDPOINTS = (Endpoint(), CLIENT, SERVER, CLUSTER_IP, WORLD)
CLIENT_NUMBER, SERVER_NUMBER, CLUSTER_IP_NUMBER, WORLD_NUMBER = 1, 2, 3, 4


class Names:
    """Stands in for an Enricher: fixed endpoints by number."""

    generation = 0
    number_limit = len(ENDPOINTS)

    def __init__(self) -> None:
        """No node is known yet."""
        self.known_nodes: dict[str, Any] = {}

    def endpoint(self, number: int) -> Endpoint:
        """By number; what was freed is empty."""
        return ENDPOINTS[number]

    def source_status(self) -> Any:
        """There is no Kubernetes API."""
        return None

    def node_labels(self) -> tuple[str, ...]:
        """Of this node."""
        return ("zone=a",)

    def nodes(self) -> dict[str, Any]:
        """Those that a test puts in."""
        return self.known_nodes
