"""The relay's two services over real connections: who may call, what they see, and in which form."""

import asyncio
import re

import grpc
import pytest
from flow_agents import Caller, FlowAgent, Reading, asked, end, names, relay
from google.protobuf.empty_pb2 import Empty
from grpc_reflection.v1alpha import reflection_pb2
from relay_agents import Found

from flows.proto import extension_pb2, flow_pb2, flows_pb2, observer_pb2, relay_pb2
from flows.relay.access.scope import Denied
from flows.relay.follower import Outbox
from flows.relay.quota import Quota
from flows.relay.service import NAME

CODE = grpc.StatusCode
GO = ("user-agent", "hubble/v1.19.3 grpc-go/1.72.0")


async def answered(call):
    return [message async for message in call]


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answered(call)
    return caught.value


def shop(name="node-1", **more):
    """An agent with flows inside two namespaces, between them, and of neither."""
    agent = FlowAgent(name, **more)
    ends = {each: end(each, f"{each}-pod") for each in ("shop", "bank")}
    for source, destination in (("shop", "shop"), ("shop", "bank"), ("bank", "bank"), ("", "")):
        age = 1000 - 10 * len(agent.stored.times)
        agent.happen(age, source=ends.get(source), destination=ends.get(destination))
    return agent


def value(served, name, **labels):
    return served.metrics.registry.get_sample_value(name, labels)


async def test_observer_gives_whole_flows_with_node_and_time(tmp_path):
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
)
async def test_extensions_go_to_who_can_read_them(tmp_path, metadata, mask, extended):
    agent = shop()
    connection = extension_pb2.Connection(id=5).SerializeToString()
    batches = agent._batches

    async def with_connections(request):
        async for message in batches(request):
            message.connections.extend([connection] * len(message.flows))
            yield message

    agent._batches = with_connections
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


async def test_a_field_mask_reaches_into_ends(tmp_path):
    request = observer_pb2.GetFlowsRequest()
    request.field_mask.paths.extend(["source.pod_name", "destination.namespace", "time"])
    async with relay(tmp_path, shop()) as served:
        responses = await answered(served.flows(request))
    flow = responses[2].flow
    assert (flow.source.pod_name, flow.source.namespace) == ("shop-pod", "")
    assert (flow.destination.pod_name, flow.destination.namespace) == ("", "bank")
    assert flow.HasField("time")
    assert not flow.uuid


async def test_losses_and_states_are_responses_of_observer_too(tmp_path):
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


@pytest.mark.parametrize(("namespaces", "expected"), [({"shop"}, [0, 1]), ({"bank"}, [1, 2]), ({"shop", "bank"}, [0, 1, 2])])
async def test_a_caller_sees_flows_of_his_namespaces(tmp_path, namespaces, expected):
    agent = shop(loses=4)
    caller = Caller(frozenset(namespaces))
    async with relay(tmp_path, agent, access=caller, away=[Found("node-9", ("127.0.0.1:1",))]) as served:
        batches = await answered(served.batches(asked()))
        responses = await answered(served.flows())
    assert names(batches) == [agent.stored.uuid(number) for number in expected]
    assert [one.flow.uuid for one in responses if one.HasField("flow")] == names(batches)
    assert list(agent.requests[0].namespaces.names) == sorted(namespaces)
    coverage = batches[-1].coverage
    assert coverage.flows == len(expected)
    assert [(node.node, node.message) for node in coverage.nodes] == [("node-1", ""), ("node-9", "")]
    assert [(gap.reason, gap.count, gap.message) for gap in coverage.nodes[0].gaps] == [(flows_pb2.LOST, 0, "")]
    assert [(loss.count, loss.node) for batch in batches for loss in batch.losses] == [(0, "node-1")]
    assert not any(status.message for batch in batches for status in batch.node_status)
    text = b"".join(batch.SerializeToString() for batch in batches)
    hidden = {"shop", "bank"} - namespaces
    assert all(name.encode() not in text for name in hidden) or expected[-1] != expected[0]


async def test_a_request_may_limit_itself_below_what_the_caller_may_see(tmp_path):
    request = asked()
    request.namespaces.names.append("bank")
    agent = shop()
    async with relay(tmp_path, agent, access=Caller(frozenset({"shop"}))) as served:
        batches = await answered(served.batches(request))
    assert names(batches) == ["node-1/1"]


async def test_a_scope_that_shrinks_counts_at_once(tmp_path):
    agent, caller = shop(), Caller(frozenset({"shop", "bank"}))
    async with relay(tmp_path, agent, access=caller) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(lambda reading: any(message.past for message in reading.messages))
        agent.happen(source=end("shop", "a"))
        await reading.until(lambda reading: reading.names() == ["node-1/4"])
        caller.grant.scope = type(caller.grant.scope)("jane", frozenset({"bank"}))
        agent.happen(source=end("shop", "a"))
        agent.happen(source=end("bank", "b"))
        await reading.until(lambda reading: len(reading.names()) > 1)
        await reading.stop()
    assert reading.names() == ["node-1/4", "node-1/6"]


@pytest.mark.parametrize("code", [CODE.UNAUTHENTICATED, CODE.PERMISSION_DENIED, CODE.UNAVAILABLE])
async def test_who_is_denied_learns_why_and_nothing_else(tmp_path, code):
    agent = shop()
    async with relay(tmp_path, agent, access=Caller(refusal=Denied(code, "grant it"))) as served:
        for call in (served.flows(), served.batches(asked())):
            error = await refused(call)
            assert (error.code(), error.details()) == (code, "grant it")
        status = served.channel.unary_unary("/observer.Observer/ServerStatus")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status(b"")
        assert caught.value.code() is code
        assert value(served, "flows_relay_denials_total", reason=code.name) == 3
        assert value(served, "flows_relay_requests_total", method="get_flows", code=code.name) == 1
    assert agent.requests == []


async def test_a_right_that_is_revoked_ends_an_open_stream(tmp_path):
    agent, caller = shop(), Caller(revocation=asyncio.get_running_loop().create_future())
    async with relay(tmp_path, agent, access=caller) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(lambda reading: any(message.past for message in reading.messages))
        caller.revocation.set_result(Denied(CODE.PERMISSION_DENIED, "the binding is gone"))
        await asyncio.wait_for(reading._task, 5)
    assert (reading.error.code(), reading.error.details()) == (CODE.PERMISSION_DENIED, "the binding is gone")


BAD_FILTER = asked()
BAD_FILTER.query.whitelist.add().source_port.append("no port")
BAD_MASK = asked()
BAD_MASK.query.field_mask.paths.append("no.such")
BAD_DELAY = asked()
BAD_DELAY.max_delay.FromSeconds(60)
BAD_TIME = asked()
BAD_TIME.query.since.seconds = 1 << 60
TWICE = asked()
TWICE.resume.add(node="a")
TWICE.resume.add(node="a")
BACKWARDS = asked()
BACKWARDS.resume.add(node="a", **{"from": 5, "received": 4})


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (asked(first=True, follow=True), "first cannot be specified with follow"),
        (BAD_FILTER, 'source_port "no port"'),
        (BAD_MASK, "field_mask: not all of no.such are paths"),
        (BAD_DELAY, "max_delay: 60 s is out of range, expected 10 ms to 5 s"),
        (BAD_TIME, "is no time of the years 1 to 9999"),
        (TWICE, "expected one position of each node"),
        (BACKWARDS, "the position of a is none"),
    ],
)
async def test_requests_that_make_no_sense_say_what_to_change(tmp_path, request_, text):
    agent = shop()
    async with relay(tmp_path, agent) as served:
        error = await refused(served.batches(request_))
    assert error.code() is CODE.INVALID_ARGUMENT
    assert text in error.details()
    assert agent.requests == []


async def test_streams_are_limited_in_all_and_for_each_user(tmp_path):
    async with relay(tmp_path, shop(), quota=Quota(3, 2)) as served:
        readings = [Reading(served.batches(asked(follow=True))) for _ in range(2)]
        for reading in readings:
            await reading.until(lambda reading: reading.messages)
        error = await refused(served.batches(asked()))
        assert error.code() is CODE.RESOURCE_EXHAUSTED
        assert error.details() == "jane has 2 streams open already; close some"
        assert value(served, "flows_relay_streams_open") == 2
        for reading in readings:
            await reading.stop()
        async with asyncio.timeout(5):
            while value(served, "flows_relay_streams_open"):  # noqa: ASYNC110 - a gauge has no event
                await asyncio.sleep(0.01)
        assert names(await answered(served.batches(asked())))


async def test_a_client_that_goes_ends_what_it_asked_of_agents(tmp_path):
    agent = shop()
    ended = asyncio.Event()
    batches = agent._batches

    async def watched(request):
        try:
            async for message in batches(request):
                yield message
        finally:
            ended.set()

    agent._batches = watched
    async with relay(tmp_path, agent) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(lambda reading: reading.messages)
        await reading.stop()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_status_calls_and_clock_answer(tmp_path):
    async with relay(tmp_path, shop(), away=[Found("node-9", ("127.0.0.1:1",))]) as served:
        ask = served.channel.unary_unary

        async def answer(path, kind):
            return kind.FromString(await ask(path)(Empty().SerializeToString()))

        status = await answer("/observer.Observer/ServerStatus", observer_pb2.ServerStatusResponse)
        assert (status.num_connected_nodes.value, list(status.unavailable_nodes)) == (1, ["node-9"])
        nodes = await answer("/observer.Observer/GetNodes", observer_pb2.GetNodesResponse)
        assert [node.name for node in nodes.nodes] == ["node-1", "node-9"]
        namespaces = await answer("/observer.Observer/GetNamespaces", observer_pb2.GetNamespacesResponse)
        assert [one.namespace for one in namespaces.namespaces] == ["shop"]
        assert (await answer("/flows.v1.Flows/GetClock", flows_pb2.ClockResponse)).now_ns > 1_700_000_000 * 10**9


@pytest.mark.parametrize("method", ["GetAgentEvents", "GetDebugEvents"])
async def test_events_of_cilium_are_not_served(tmp_path, method):
    async with relay(tmp_path, shop()) as served:
        error = await refused(served.channel.unary_stream(f"/observer.Observer/{method}")(b""))
    assert error.code() is CODE.UNIMPLEMENTED


async def test_both_services_are_listed_by_reflection(tmp_path):
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    async with relay(tmp_path, shop()) as served:
        call = served.channel.stream_stream(
            path, reflection_pb2.ServerReflectionRequest.SerializeToString, reflection_pb2.ServerReflectionResponse.FromString
        )()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = {service.name for service in (await call.read()).list_services_response.service}
        call.cancel()
    assert {"observer.Observer", "flows.v1.Flows", "grpc.health.v1.Health"} <= listed


def count(messages):
    return sum(len(message.flows) for message in messages)


async def test_a_slow_client_loses_flows_and_is_told_and_others_are_not_affected(tmp_path, monkeypatch):
    monkeypatch.setattr("flows.relay.service.Outbox", lambda name: Outbox(name, most_rows=2_000))
    agent = FlowAgent("node-1", part=500)
    agent.stored.uuid = lambda number: f"{number}".ljust(1_000)  # gRPC itself keeps some MB for a client
    async with relay(tmp_path, agent) as served:
        slow, quick = served.batches(asked(follow=True)), Reading(served.batches(asked(follow=True)))
        assert (await slow.read()).node_status  # and nothing more for now
        await quick.until(lambda reading: any(message.past for message in reading.messages))
        async with asyncio.timeout(30):
            for _ in range(60):
                agent.happen(*[0] * 500)
                await asyncio.sleep(0.02)
        total = len(agent.stored.times)
        await quick.until(lambda reading: count(reading.messages) == total, seconds=20)
        got, lost = 0, 0
        async with asyncio.timeout(20):
            while got + lost < total:
                message = await slow.read()
                got += len(message.flows)
                losses = [loss for loss in message.losses if re.search("too slow", loss.reason)]
                lost += sum(loss.count for loss in losses)
                assert all((loss.node, loss.source) == (NAME, flow_pb2.OBSERVER_EVENTS_QUEUE) for loss in losses)
        slow.cancel()
        await quick.stop()
    assert lost > 0
    assert got + lost == total
    assert not [loss for message in quick.messages for loss in message.losses]


async def test_plain_agents_are_asked_by_observer(tmp_path):
    agents = [FlowAgent("node-1"), FlowAgent("node-2")]
    for number, agent in enumerate(agents):
        agent.happen(
            *range(4000 + number, 2000, -200), source=end("shop", "cart-1"), destination=end("bank", "till-1", service="till")
        )
    async with relay(tmp_path, *agents, foreign=True) as served:
        batches = await answered(served.batches(asked(number=7)))
        responses = await answered(served.flows(observer_pb2.GetFlowsRequest(number=3)))
    flows = sorted((at, agent.stored.uuid(number)) for agent in agents for number, at in enumerate(agent.stored.times))
    assert names(batches) == [uuid for _, uuid in flows[-7:]]
    assert isinstance(agents[0].requests[0], observer_pb2.GetFlowsRequest)
    shown = [one.flow for one in responses if one.HasField("flow")]
    assert [one.uuid for one in shown] == names(batches)[-3:]
    assert (shown[0].source.pod_name, shown[0].destination.namespace) == ("cart-1", "bank")
    assert not batches[-1].coverage.complete
    assert "does not say what it covers" in batches[-1].coverage.nodes[0].gaps[0].message


async def test_plain_agents_are_followed_and_their_other_messages_pass(tmp_path):
    lost = observer_pb2.GetFlowsResponse(node_name="node-1")
    lost.lost_events.num_events_lost, lost.lost_events.source = 5, flow_pb2.PERF_EVENT_RING_BUFFER
    state = observer_pb2.GetFlowsResponse(node_name="node-1")
    state.node_status.state_change = relay_pb2.NODE_GONE
    state.node_status.node_names.append("node-7")
    agents = [FlowAgent("node-1", foreign_answers=[lost, state]), FlowAgent("node-2")]
    async with relay(tmp_path, *agents, foreign=True) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(lambda reading: any(message.past for message in reading.messages))
        for _ in range(5):
            for agent in agents:
                agent.happen()
                await asyncio.sleep(0.02)
        await reading.until(lambda reading: len(reading.names()) == 10)
        await reading.until(
            lambda reading: any(7 for each in reading.messages for s in each.node_status if "node-7" in s.node_names)
        )
        agents[0].break_off()
        agents[0].happen()
        await reading.until(lambda reading: len(reading.names()) == 11)
        await reading.stop()
    flows = sorted((at, agent.stored.uuid(number)) for agent in agents for number, at in enumerate(agent.stored.times))
    assert reading.names() == [uuid for _, uuid in flows]
    losses = [(loss.node, loss.reason, loss.count) for message in reading.messages for loss in message.losses]
    assert ("node-1", "PERF_EVENT_RING_BUFFER", 5) in losses


async def test_an_agent_that_is_damaged_does_not_damage_others(tmp_path):
    agents = [shop("node-1"), shop("node-2")]
    batches = agents[0]._batches

    async def damaged(request):
        async for message in batches(request):
            message.time_ns = b"short"
            yield message

    agents[0]._batches = damaged
    async with relay(tmp_path, *agents) as served:
        answer = await answered(served.batches(asked()))
    assert names(answer) == agents[1].uuids()
    states = [status.message for batch in answer for status in batch.node_status if status.state_change == relay_pb2.NODE_ERROR]
    assert states == ["its agent sent what cannot be read: column time_ns has 5 bytes for 3 flows of 8 each"]
