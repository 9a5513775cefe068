"""gRPC between two pods, compared with what the calling program was told."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from l7_followed import Followed, Told, agents
from l7_truth import one

from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from demo_command import Demo

CALLS = ("Get:fig", "Get:missing", "Get:slow-80", "Watch:plum", "Get:broken", "Get:missing", "Get:kiwi")
CODES = {"OK": 0, "NOT_FOUND": 5, "UNAVAILABLE": 14}
METHODS = {"Get", "Watch"}


@pytest.fixture(scope="module")
def called(demo: Demo) -> tuple[list[list[str]], list[Told]]:
    """Method, item, status and microseconds of each call as the program printed them; answers of its connection at both ends."""
    client, server = one(demo, "demo/grpc-client-"), one(demo, "demo/grpc-server-")
    with Followed(agents(demo, client, server), [flow_pb2.FlowFilter(source_pod=["demo/grpc-server-"])]) as followed:
        argv = [sys.executable, "/opt/inventory/client.py", "grpc-server:50051", *CALLS]
        lines = demo.exec(f"demo/{client['name']}", *argv).splitlines()
        followed.settle()
    answers = [one for one in followed.told() if one.connection.event == extension_pb2.RESPONSE and one.request.HasField("grpc")]
    by_connection: dict[tuple[bool, int], list[Told]] = {}
    for answer in answers:
        by_connection.setdefault((answer.by_client, answer.connection.id), []).append(answer)
    # The pod's own program has a connection, too, which is older and never asks for what is broken.
    ours = [told for told in by_connection.values() if any(one.request.grpc.status == CODES["UNAVAILABLE"] for one in told)]
    return [line.split() for line in lines], [one for told in ours for one in told]


@pytest.mark.parametrize("by_client", [True, False])
def test_every_call_has_its_service_method_and_status(called: tuple[list[list[str]], list[Told]], *, by_client: bool) -> None:
    lines, told = called
    ours = sorted((one for one in told if one.by_client == by_client), key=lambda one: one.request.id)
    assert [(one.request.grpc.method, one.request.grpc.status) for one in ours] == [(line[0], CODES[line[2]]) for line in lines]
    assert {one.request.grpc.service for one in ours} == {"demo.Inventory"}
    assert all(one.request.grpc.has_status for one in ours)
    assert {one.request.kind for one in ours} == {extension_pb2.GRPC}


def test_latency_is_the_servers_and_never_more_than_the_program_waited(called: tuple[list[list[str]], list[Told]]) -> None:
    lines, told = called
    ours = sorted((one for one in told if one.by_client), key=lambda one: one.request.id)
    waited = [int(line[3]) / 1e6 for line in lines]
    latencies = [one.flow.l7.latency_ns / 1e9 for one in ours]
    assert all(0 < latency <= seconds for latency, seconds in zip(latencies, waited, strict=True)), (latencies, waited)
    assert latencies[CALLS.index("Get:slow-80")] >= 0.08


def test_a_call_is_also_an_http_request(called: tuple[list[list[str]], list[Told]]) -> None:
    _, told = called
    assert {(one.flow.l7.http.method, one.flow.l7.http.protocol) for one in told} == {("POST", "HTTP/2")}
    assert {one.path for one in told} == {f"/demo.Inventory/{method}" for method in METHODS}
    assert {one.flow.l7.http.code for one in told} == {200}


def test_a_connection_joined_in_the_middle_says_so(demo: Demo) -> None:
    """The pods' own connection, after its server's agent was started again."""
    client, server = one(demo, "demo/grpc-client-"), one(demo, "demo/grpc-server-")
    demo.ok("stop", f"agent/{server['node']}")
    demo.ok("start", f"agent/{server['node']}")
    with Followed(agents(demo, server), [flow_pb2.FlowFilter(source_pod=["demo/grpc-server-"])]) as followed:
        argv = ["sh", "-c", "sleep 6"]  # the everyday calls go on, one each second
        demo.exec(f"demo/{client['name']}", *argv)
        followed.settle()
    told = [one for one in followed.told() if not one.by_client and one.connection.event == extension_pb2.RESPONSE]
    assert told, "no answers of a connection that is older than the agent"
    for answer in told:
        known = answer.request.grpc.method in METHODS
        assert known or "MIDDLE" in answer.marks, answer.flow
