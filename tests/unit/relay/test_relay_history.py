"""Answers that end, over real agents: right in order, in number and in what they say of themselves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc
import pytest
from flow_agents import FlowAgent, asked, end, relay
from relay_readings import Reading, names
from service_samples import answered
from stream_samples import MS, S

from flows.proto import flow_pb2, flows_pb2, relay_pb2
from flows.relay.discovery.found import Found

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


async def three(tmp_path: Path) -> list[FlowAgent]:
    agents = [FlowAgent(f"node-{number}") for number in range(3)]
    for number, agent in enumerate(agents):
        agent.happen(*range(9000 + number, 1000, -300))
    return agents


def in_order(agents: Sequence[FlowAgent]) -> list[str]:
    flows = [
        (at - agent.clock_ahead_ns, agent.stored.uuid(number)) for agent in agents for number, at in enumerate(agent.stored.times)
    ]
    return [uuid for _, uuid in sorted(flows)]


async def test_flows_of_all_nodes_come_in_order_with_complete_coverage(tmp_path: Path) -> None:
    agents = await three(tmp_path)
    async with relay(tmp_path, *agents) as served:
        batches = await answered(served.batches(asked()))
    assert names(batches) == in_order(agents)
    coverage = batches[-1].coverage
    assert coverage.complete
    assert coverage.flows == len(names(batches))
    assert [node.node for node in coverage.nodes] == ["node-0", "node-1", "node-2"]
    assert all(node.HasField("clock_error") for node in coverage.nodes)


@pytest.mark.parametrize(("query", "part"), [({"number": 5}, slice(-5, None)), ({"number": 5, "first": True}, slice(None, 5)),
    ({"number": (1 << 64) - 1}, slice(None)), ({"number": 1000}, slice(None))])  # fmt: skip
async def test_numbers_are_of_all_nodes_together(tmp_path: Path, query: dict[str, int], part: slice) -> None:
    agents = await three(tmp_path)
    async with relay(tmp_path, *agents) as served:
        batches = await answered(served.batches(asked(**query)))
    assert names(batches) == in_order(agents)[part]
    assert {request.query.number for agent in agents for request in agent.requests} == {query["number"]}


async def test_since_and_until_are_the_relays(tmp_path: Path) -> None:
    agents = [FlowAgent("node-0"), FlowAgent("node-1", clock_ahead_ns=7 * S)]
    for agent in agents:
        agent.happen(5000, 4000, 3000, 2000)
    now = time.time_ns()
    async with relay(tmp_path, *agents) as served:
        batches = await answered(served.batches(asked(since=now - 4500 * MS, until=now - 2500 * MS)))
    assert sorted(names(batches)) == ["node-0/1", "node-0/2", "node-1/1", "node-1/2"]
    offsets = {node.node: node.clock_offset.ToNanoseconds() for node in batches[-1].coverage.nodes}
    assert offsets["node-1"] == pytest.approx(7 * S, abs=50 * MS)


async def test_order_is_of_corrected_time(tmp_path: Path) -> None:
    agents = [FlowAgent("node-0", clock_ahead_ns=-3 * S), FlowAgent("node-1", clock_ahead_ns=2 * S)]
    for number, agent in enumerate(agents):
        agent.happen(*range(2000 + 50 * number, 1000, -100))
    async with relay(tmp_path, *agents) as served:
        batches = await answered(served.batches(asked()))
    assert names(batches) == in_order(agents)
    assert any(raw == agents[1].stored.times[0] for batch in batches for raw in memoryview(batch.time_ns).cast("q")), (
        "times in batches are the nodes' own"
    )


async def test_a_node_that_is_not_there_is_told_and_makes_the_answer_incomplete(tmp_path: Path) -> None:
    agents = await three(tmp_path)
    away = Found("node-9", ("127.0.0.1:1",))
    async with relay(tmp_path, *agents, away=[away]) as served:
        batches = await answered(served.batches(asked(since=time.time_ns() - 20 * S)))
    states = {tuple(status.node_names): status for batch in batches for status in batch.node_status}
    assert states[("node-0", "node-1", "node-2")].state_change == relay_pb2.NODE_CONNECTED
    assert states[("node-9",)].state_change == relay_pb2.NODE_UNAVAILABLE
    assert "connecting to node-9" in states[("node-9",)].message
    coverage = batches[-1].coverage
    assert not coverage.complete
    missing = coverage.nodes[-1]
    assert (missing.node, missing.state) == ("node-9", relay_pb2.NODE_UNAVAILABLE)
    assert [gap.reason for gap in missing.gaps] == [flows_pb2.DOWN]
    assert getattr(missing.gaps[0], "from") == coverage.since
    assert names(batches) == in_order(agents)


async def test_a_stream_that_breaks_off_is_gone_on_with(tmp_path: Path) -> None:
    agents = await three(tmp_path)
    agents[1].cut = [grpc.StatusCode.INTERNAL]
    async with relay(tmp_path, *agents) as served:
        batches = await answered(served.batches(asked()))
    assert names(batches) == in_order(agents)
    assert batches[-1].coverage.complete


async def test_a_stream_that_breaks_off_in_the_middle_is_resumed(tmp_path: Path) -> None:
    agents = await three(tmp_path)
    agents[1].hold.clear()
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked()))
        await reading.until(lambda reading: len(agents[1].requests) == 1 and reading.messages)
        agents[1].hold.set()
        agents[1].break_off()
        await reading.until(lambda reading: reading.messages[-1].HasField("coverage"))
    assert reading.names() == in_order(agents)
    assert len(agents[1].requests) == 2
    assert agents[1].requests[1].resume[0].received == len(agents[1].stored.times)


async def test_a_node_that_fails_again_and_again_does_not_fail_the_call(tmp_path: Path) -> None:
    agents = await three(tmp_path)
    agents[1].cut = [grpc.StatusCode.INTERNAL, grpc.StatusCode.INTERNAL]
    async with relay(tmp_path, *agents) as served:
        batches = await answered(served.batches(asked()))
    assert names(batches) == in_order([agents[0], agents[2]])
    states = [status for batch in batches for status in batch.node_status if status.state_change == relay_pb2.NODE_ERROR]
    assert [(list(status.node_names), status.message) for status in states] == [(["node-1"], "told to")]
    assert not batches[-1].coverage.complete


async def test_losses_are_told_and_count_against_coverage(tmp_path: Path) -> None:
    agents = await three(tmp_path)
    agents[2].loses = 7
    async with relay(tmp_path, *agents) as served:
        batches = await answered(served.batches(asked()))
    assert [(loss.node, loss.count) for batch in batches for loss in batch.losses] == [("node-2", 7)]
    coverage = batches[-1].coverage
    assert not coverage.complete
    assert [(gap.reason, gap.count, gap.message) for gap in coverage.nodes[2].gaps] == [(flows_pb2.LOST, 7, "ring full")]


async def test_a_loss_older_than_the_newest_flows_does_not_matter(tmp_path: Path) -> None:
    agents = await three(tmp_path)
    agents[2].loses = 7  # a second ago
    async with relay(tmp_path, *agents) as served:
        agents[0].happen(*range(500, 0, -50))
        batches = await answered(served.batches(asked(number=3)))
        more = await answered(served.batches(asked(number=30)))
    assert batches[-1].coverage.complete
    assert not more[-1].coverage.complete


async def test_filters_and_fields_are_asked_of_the_agents(tmp_path: Path) -> None:
    agents = await three(tmp_path)
    request = asked()
    request.query.whitelist.add().verdict.append(flow_pb2.DROPPED)
    request.query.field_mask.paths.append("uuid")
    async with relay(tmp_path, *agents) as served:
        batches = await answered(served.batches(request))
    got = agents[0].requests[0].query
    assert got.whitelist == request.query.whitelist
    assert "uuid" in got.field_mask.paths
    shown = [flow_pb2.Flow.FromString(raw) for batch in batches for raw in batch.flows]
    assert {tuple(field.name for field, _ in flow.ListFields()) for flow in shown} == {("uuid",)}


async def test_masks_cut_ends_too(tmp_path: Path) -> None:
    agent = FlowAgent("node-0")
    agent.happen(100, source=end("shop", "cart-1"), destination=end("bank", "till-1"))
    request = asked()
    request.query.field_mask.paths.extend(["uuid", "source.pod_name"])
    async with relay(tmp_path, agent) as served:
        batches = await answered(served.batches(request))
    ends = [one for batch in batches for one in batch.ends]
    assert {(one.endpoint.namespace, one.endpoint.pod_name) for one in ends} == {("", "cart-1"), ("", "")}
    assert not any(batch.connections for batch in batches)


async def test_a_large_answer_is_streamed_with_positions(tmp_path: Path) -> None:
    agents = [FlowAgent(f"node-{number}", part=500) for number in range(2)]
    for agent in agents:
        agent.happen(*range(30_000, 1_000, -2))
    async with relay(tmp_path, *agents) as served:
        batches = await answered(served.batches(asked()))
    assert names(batches) == in_order(agents)
    assert len([batch for batch in batches if batch.flows]) > 3
    positions = {position.node: position for batch in batches for position in batch.positions}
    assert {name: position.received for name, position in positions.items()} == {"node-0": 14_500, "node-1": 14_500}


async def test_a_client_goes_on_after_its_positions(tmp_path: Path) -> None:
    agents = [FlowAgent(f"node-{number}", part=700) for number in range(2)]
    for number, agent in enumerate(agents):
        agent.happen(*range(20_000 + number, 1_000, -2))
    async with relay(tmp_path, *agents) as served:
        got, positions = [], {}
        call = served.batches(asked())
        async for batch in call:
            got += names([batch])
            positions.update({position.node: position for position in batch.positions})
            if got:
                break
        call.cancel()
        request = asked()
        request.resume.extend(positions.values())
        got += names(await answered(served.batches(request)))
    assert 0 < len(positions) <= 2
    assert got == in_order(agents)


async def test_without_agents_an_answer_is_empty_and_incomplete(tmp_path: Path) -> None:
    async with relay(tmp_path) as served:
        batches = await answered(served.batches(asked()))
    assert names(batches) == []
    assert not batches[-1].coverage.complete
    assert batches[-1].coverage.nodes[0].message == "no agents are known"


async def test_a_list_of_nodes_that_may_be_out_of_date_makes_answers_incomplete(tmp_path: Path) -> None:
    agents = await three(tmp_path)
    async with relay(tmp_path, *agents) as served:
        served.discovery.set(*served.discovery.now, status="the API server does not answer")
        batches = await answered(served.batches(asked()))
    coverage = batches[-1].coverage
    assert not coverage.complete
    assert coverage.nodes[-1].message == "the list of nodes may be out of date: the API server does not answer"
