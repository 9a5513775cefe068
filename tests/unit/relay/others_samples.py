"""Ends, and flows of both of them, for what a relay asks of other agents."""

from __future__ import annotations

from typing import Any

from join_peers import NOW
from join_samples import MS, SERVER, Row, S, end

from flows.proto import extension_pb2, flows_pb2

SEEN, UNKNOWN = extension_pb2.SEEN, extension_pb2.OTHER_VIEW_UNKNOWN
NODE_1, NODE_2 = end(node="node-1", identity=6), end(node="node-2", identity=6)
POD = end(pod="server", node="node-2", services=("web",))
HOST_CLIENT = end(pod="hostnet", namespace="ops", node="node-1", evidence=extension_pb2.CGROUP, process="curl")
HOST_SERVER = end(pod="exporter", namespace="ops", node="node-2", evidence=extension_pb2.CGROUP, process="exporter")
AT = NOW - 10 * S
FROM_HOSTNET: dict[str, Any] = {"whitelist": [{"source_pod": ["ops/hostnet"]}]}


def source(destination: flows_pb2.End = NODE_2, client: flows_pb2.End = HOST_CLIENT, time: int = AT, **more: Any) -> Row:
    return Row(0, True, time, AT, source=client, destination=destination, uuid=f"s{time}", **more)


def target(
    client: flows_pb2.End = NODE_1, server: flows_pb2.End = SERVER, time: int = AT + MS, node: int = 1, **more: Any
) -> Row:
    return Row(node, False, time, AT, source=client, destination=server, uuid=f"t{time}", **more)
