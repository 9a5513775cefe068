"""Backends: told by requests and by answers alike; Summaries of requests stay as Hubble has them."""

from __future__ import annotations

import pytest

from flows.flow.ends import EndTable
from flows.proto import flow_pb2, flows_pb2
from flows.proto.extension_pb2 import Connection
from flows.relay.backends import Backends, summarized

CLIENT, SERVER = ("10.244.1.7", 51_482), ("10.244.2.2", 53)


def flow(*, reply: bool) -> bytes:
    source, destination = (SERVER, CLIENT) if reply else (CLIENT, SERVER)
    message = flow_pb2.Flow(IP=flow_pb2.IP(source=source[0], destination=destination[0]))
    message.l4.UDP.source_port, message.l4.UDP.destination_port = source[1], destination[1]
    return message.SerializeToString()


@pytest.mark.parametrize("reply", [False, True])
def test_the_backend_is_who_answers_in_both_directions(reply: bool) -> None:
    ends = EndTable()
    end = flows_pb2.End(endpoint=flow_pb2.Endpoint(namespace="kube-system", pod_name="dns-0"))
    backends = Backends(ends, ["demo/node-2"])
    told, name = backends.of(flow(reply=reply), ends.number(end.SerializeToString()), 0, reply=reply)
    backend = Connection.FromString(told).backend
    assert (backend.address, backend.port, name) == (*SERVER, "kube-system/dns-0:53")


@pytest.mark.parametrize(
    ("type_", "summary", "shown"),
    [
        (flow_pb2.L3_L4, "UDP", "UDP; backend a/b:1"),
        (flow_pb2.L7, "HTTP/1.1 200 1ms (GET http://svc-b/)", "HTTP/1.1 200 1ms (GET http://svc-b/)"),
        (flow_pb2.L3_L4, "", ""),
    ],
)
def test_only_summaries_of_connections_name_the_backend(type_: int, summary: str, shown: str) -> None:
    message = flow_pb2.Flow(Type=type_, Summary=summary)  # type: ignore[arg-type]
    assert flow_pb2.Flow.FromString(summarized(message.SerializeToString(), "a/b:1")).Summary == shown
