"""Ends, rows and clocks for tests of the join."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flows.flow.batch import COLUMNS, Batch, objects
from flows.flow.ends import EndTable
from flows.proto import extension_pb2, flow_pb2, flows_pb2
from flows.relay.end_columns import EndColumns
from flows.relay.join import Clocks, partners

if TYPE_CHECKING:
    from collections.abc import Sequence

MS = 1_000_000
S = 1_000_000_000
Address = tuple[str, int]


def end(
    *,
    pod: str = "",
    namespace: str = "shop",
    service: str = "",
    services: Sequence[str] = (),
    node: str = "",
    evidence: extension_pb2.Evidence = extension_pb2.ADDRESS,
    identity: int = 0,
    process: str = "",
) -> flows_pb2.End:
    message = flows_pb2.End()
    message.endpoint.SetInParent()
    if pod:
        message.endpoint.pod_name, message.endpoint.namespace = pod, namespace
    message.endpoint.identity = identity
    if service:
        message.service.name, message.service.namespace = service, namespace
    message.detail.evidence = evidence
    message.detail.node = node
    message.detail.process.name = process
    for name in services:
        message.detail.services.add(name=name, namespace=namespace)
    return message


CLIENT = end(pod="client", node="node-1", evidence=extension_pb2.CGROUP)
SERVER = end(pod="server", node="node-2", services=("web",), evidence=extension_pb2.CGROUP)
UNNAMED = end(node="node-2", identity=1, evidence=extension_pb2.CGROUP)
WEB = end(service="web")
DATABASE = end(service="database")


@dataclass
class Row:
    """One row of a batch: a view of a connection."""

    node: int
    at_source: bool
    time: int
    start: int = 0
    opener: int = 7
    tuple: int = 70
    source: flows_pb2.End = field(default_factory=lambda: CLIENT)
    destination: flows_pb2.End = field(default_factory=lambda: SERVER)
    event: extension_pb2.Event = extension_pb2.ESTABLISHED
    address: Address = ("10.0.2.2", 8080)
    client: str = "10.0.1.1"
    uuid: str = ""

    def flow(self) -> bytes:
        flow = flow_pb2.Flow(uuid=self.uuid, Summary="TCP Flags: SYN, ACK", verdict=flow_pb2.FORWARDED)
        flow.node_name = f"node-{self.node + 1}"
        flow.traffic_direction = flow_pb2.EGRESS if self.at_source else flow_pb2.INGRESS
        flow.time.FromNanoseconds(self.time)
        flow.IP.source, flow.IP.destination = self.client, self.address[0]
        flow.l4.TCP.source_port, flow.l4.TCP.destination_port = 40000, self.address[1]
        return flow.SerializeToString()

    def connection(self) -> bytes:
        return extension_pb2.Connection(id=1, event=self.event, observed_at_source=self.at_source).SerializeToString()


def batch(rows: Sequence[Row], ends: EndTable, *, connections: bool = True) -> Batch:
    columns = {
        "time_ns": [row.time for row in rows],
        "start_ns": [row.start for row in rows],
        "source": [ends.number(row.source.SerializeToString(deterministic=True)) for row in rows],
        "destination": [ends.number(row.destination.SerializeToString(deterministic=True)) for row in rows],
        "opener": [row.opener for row in rows],
        "tuple": [row.tuple for row in rows],
        "at_source": [row.at_source for row in rows],
        "node": [row.node for row in rows],
        "reply": [0] * len(rows),
    }
    arrays = {name: np.array(columns[name], dtype) for name, dtype in COLUMNS.items()}
    extensions = [row.connection() if connections else b"" for row in rows]
    return Batch(objects(row.flow() for row in rows), objects(extensions), **arrays)


def clocks(*offsets: int, error: int = 0) -> Clocks:
    return Clocks(np.array(offsets or [0] * 8, np.int64), np.full(len(offsets) or 8, error, np.int64))


def join(rows: Sequence[Row], times: Clocks | None = None) -> list[int]:
    ends = EndTable()
    joined = batch(rows, ends)
    columns = EndColumns(ends)
    columns.update()
    return [int(partner) for partner in partners(joined, columns, times or clocks())]
