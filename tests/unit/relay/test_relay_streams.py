"""Streams through the relay go on right when clients go or are slow, and when agents are plain or damaged."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from flow_agents import FlowAgent, asked, end, relay
from relay_readings import Reading, names
from service_samples import answered, shop

from flows.proto import flow_pb2, flows_pb2, observer_pb2, relay_pb2
from flows.relay.follower import Outbox
from flows.relay.service import NAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    import pytest


async def test_a_client_that_goes_ends_what_it_asked_of_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = shop()
    ended = asyncio.Event()
    batches = agent._batches

    async def watched(request: flows_pb2.FlowsRequest) -> AsyncIterator[flows_pb2.FlowBatch]:
        try:
            async for message in batches(request):
                yield message
        finally:
            ended.set()

    monkeypatch.setattr(agent, "_batches", watched)
    async with relay(tmp_path, agent) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(lambda reading: reading.messages)
        await reading.stop()
        async with asyncio.timeout(5):
            await ended.wait()


def count(messages: Iterable[flows_pb2.FlowBatch]) -> int:
    return sum(len(message.flows) for message in messages)


async def test_a_slow_client_loses_flows_and_is_told_and_others_are_not_affected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.relay.service.Outbox", lambda name: Outbox(name, most_rows=2_000))
    agent = FlowAgent("node-1", part=500)
    monkeypatch.setattr(agent.stored, "uuid", lambda number: f"{number}".ljust(1_000))  # gRPC itself keeps some MB for a client
    async with relay(tmp_path, agent) as served:
        slow, quick = served.batches(asked(follow=True)), Reading(served.batches(asked(follow=True)))
        message = await slow.read()
        assert isinstance(message, flows_pb2.FlowBatch)
        assert message.node_status  # and nothing more for now
        await quick.until(lambda reading: any(message.past for message in reading.messages))
        for _ in range(60):
            agent.happen(*[0] * 500)
            await quick.until(lambda reading: count(reading.messages) == len(agent.stored.times), seconds=20)
        total = len(agent.stored.times)
        got, lost = 0, 0
        async with asyncio.timeout(20):
            while got + lost < total:
                message = await slow.read()
                assert isinstance(message, flows_pb2.FlowBatch)
                got += len(message.flows)
                losses = [loss for loss in message.losses if re.search("too slow", loss.reason)]
                lost += sum(loss.count for loss in losses)
                assert all((loss.node, loss.source) == (NAME, flow_pb2.OBSERVER_EVENTS_QUEUE) for loss in losses)
        slow.cancel()
        await quick.stop()
    assert lost > 0
    assert got + lost == total
    assert not [loss for message in quick.messages for loss in message.losses]


async def test_plain_agents_are_asked_by_observer(tmp_path: Path) -> None:
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


async def test_plain_agents_are_followed_and_their_other_messages_pass(tmp_path: Path) -> None:
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
            lambda reading: any("node-7" in status.node_names for each in reading.messages for status in each.node_status)
        )
        agents[0].break_off()
        agents[0].happen()
        await reading.until(lambda reading: len(reading.names()) == 11)
        await reading.stop()
    flows = sorted((at, agent.stored.uuid(number)) for agent in agents for number, at in enumerate(agent.stored.times))
    assert reading.names() == [uuid for _, uuid in flows]
    losses = [(loss.node, loss.reason, loss.count) for message in reading.messages for loss in message.losses]
    assert ("node-1", "PERF_EVENT_RING_BUFFER", 5) in losses


async def test_an_agent_that_is_damaged_does_not_damage_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agents = [shop("node-1"), shop("node-2")]
    batches = agents[0]._batches

    async def damaged(request: flows_pb2.FlowsRequest) -> AsyncIterator[flows_pb2.FlowBatch]:
        async for message in batches(request):
            message.time_ns = b"short"
            yield message

    monkeypatch.setattr(agents[0], "_batches", damaged)
    async with relay(tmp_path, *agents) as served:
        answer = await answered(served.batches(asked()))
    assert names(answer) == agents[1].uuids()
    states = [status.message for batch in answer for status in batch.node_status if status.state_change == relay_pb2.NODE_ERROR]
    assert states == ["its agent sent what cannot be read: column time_ns has 5 bytes for 3 flows of 8 each"]
