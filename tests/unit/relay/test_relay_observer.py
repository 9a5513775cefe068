"""In which form the relay's services answer: whole flows, masks, extensions, losses and states, and all calls beside flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from flow_agents import relay
from google.protobuf.empty_pb2 import Empty
from grpc_reflection.v1alpha import reflection_pb2
from service_samples import answered, refused, shop

from flows.proto import extension_pb2, flows_pb2, observer_pb2, relay_pb2
from flows.relay.discovery.found import Found
from flows.relay.service import NAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

GO = ("user-agent", "hubble/v1.19.3 grpc-go/1.72.0")


async def test_observer_gives_whole_flows_with_node_and_time(tmp_path: Path) -> None:
    agent = shop()
    async with relay(tmp_path, agent) as served:
        call = served.flows()
        responses = await answered(call)
        assert ("hubble-relay-version", "1") in tuple(await call.initial_metadata())
    assert responses[0].node_status.state_change == relay_pb2.NODE_CONNECTED
    assert list(responses[0].node_status.node_names) == ["node-1"]
    flows = responses[1:]
    assert [one.flow.uuid for one in flows] == agent.uuids()
    assert (flows[1].flow.source.pod_name, flows[1].flow.destination.namespace) == ("shop-pod", "bank")
    assert {one.node_name for one in flows} == {"node-1"}
    assert [one.time for one in flows] == [one.flow.time for one in flows]


@pytest.mark.parametrize(
    ("metadata", "mask", "extended"),
    [((), (), True), ((GO,), (), False), ((GO,), ("uuid", "extensions"), True), ((), ("uuid",), False)],
    ids=["ours", "Hubble's client", "asked for by mask", "left out by mask"],
)
async def test_extensions_go_to_who_can_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: tuple[tuple[str, str], ...], mask: tuple[str, ...], extended: bool
) -> None:
    agent = shop()
    connection = extension_pb2.Connection(id=5).SerializeToString()
    batches = agent._batches

    async def with_connections(request: flows_pb2.FlowsRequest) -> AsyncIterator[flows_pb2.FlowBatch]:
        async for message in batches(request):
            message.connections.extend([connection] * len(message.flows))
            yield message

    monkeypatch.setattr(agent, "_batches", with_connections)
    request = observer_pb2.GetFlowsRequest()
    request.field_mask.paths.extend(mask)
    async with relay(tmp_path, agent) as served:
        options = [("grpc.primary_user_agent", metadata[0][1])] if metadata else []
        async with grpc.aio.insecure_channel(f"unix://{tmp_path}/relay.sock", options) as channel:
            served.channel = channel
            responses = await answered(served.flows(request))
    flows = [one.flow for one in responses if one.HasField("flow")]
    assert {one.HasField("extensions") for one in flows} == {extended}
    if mask:
        assert {tuple(field.name for field, _ in one.ListFields() if field.name != "extensions") for one in flows} == {("uuid",)}


async def test_a_field_mask_reaches_into_ends(tmp_path: Path) -> None:
    request = observer_pb2.GetFlowsRequest()
    request.field_mask.paths.extend(["source.pod_name", "destination.namespace", "time"])
    async with relay(tmp_path, shop()) as served:
        responses = await answered(served.flows(request))
    flow = responses[2].flow
    assert (flow.source.pod_name, flow.source.namespace) == ("shop-pod", "")
    assert (flow.destination.pod_name, flow.destination.namespace) == ("", "bank")
    assert flow.HasField("time")
    assert not flow.uuid


async def test_losses_and_states_are_responses_of_observer_too(tmp_path: Path) -> None:
    agent = shop(loses=4)
    async with relay(tmp_path, agent, away=[Found("node-9", ("127.0.0.1:1",))]) as served:
        responses = await answered(served.flows())
    lost = next(one for one in responses if one.HasField("lost_events"))
    assert (lost.node_name, lost.lost_events.num_events_lost) == ("node-1", 4)
    assert lost.lost_events.HasField("first")
    states = [
        (one.node_status.state_change, list(one.node_status.node_names)) for one in responses if one.HasField("node_status")
    ]
    assert states == [(relay_pb2.NODE_CONNECTED, ["node-1"]), (relay_pb2.NODE_UNAVAILABLE, ["node-9"])]
    assert {one.node_name for one in responses if one.HasField("node_status")} == {NAME}


async def test_status_calls_and_clock_answer(tmp_path: Path) -> None:
    async with relay(tmp_path, shop(), away=[Found("node-9", ("127.0.0.1:1",))]) as served:

        async def answer(path: str, kind: Any) -> Any:
            method: grpc.aio.UnaryUnaryMultiCallable[Empty, Any]
            method = served.channel.unary_unary(path, Empty.SerializeToString, kind.FromString)
            return await method(Empty())

        status = await answer("/observer.Observer/ServerStatus", observer_pb2.ServerStatusResponse)
        assert (status.num_connected_nodes.value, list(status.unavailable_nodes)) == (1, ["node-9"])
        nodes = await answer("/observer.Observer/GetNodes", observer_pb2.GetNodesResponse)
        assert [node.name for node in nodes.nodes] == ["node-1", "node-9"]
        namespaces = await answer("/observer.Observer/GetNamespaces", observer_pb2.GetNamespacesResponse)
        assert [one.namespace for one in namespaces.namespaces] == ["shop"]
        assert (await answer("/flows.v1.Flows/GetClock", flows_pb2.ClockResponse)).now_ns > 1_700_000_000 * 10**9


@pytest.mark.parametrize("method", ["GetAgentEvents", "GetDebugEvents"])
async def test_events_of_cilium_are_not_served(tmp_path: Path, method: str) -> None:
    async with relay(tmp_path, shop()) as served:
        ask: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = served.channel.unary_stream(f"/observer.Observer/{method}")
        error = await refused(ask(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_both_services_are_listed_by_reflection(tmp_path: Path) -> None:
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    async with relay(tmp_path, shop()) as served:
        call = served.channel.stream_stream(
            path, reflection_pb2.ServerReflectionRequest.SerializeToString, reflection_pb2.ServerReflectionResponse.FromString
        )()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        assert isinstance(answer, reflection_pb2.ServerReflectionResponse)
        listed = {service.name for service in answer.list_services_response.service}
        call.cancel()
    assert {"observer.Observer", "flows.v1.Flows", "grpc.health.v1.Health"} <= listed
