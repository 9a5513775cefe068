"""Following, over real agents: the past and what comes, in order and once, through breaks of streams and clients."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from flow_agents import FlowAgent, asked, relay
from relay_agents import found
from relay_readings import Reading, names
from stream_samples import MS, S

from flows.proto import flows_pb2, relay_pb2
from flows.relay.discovery.found import Found

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def trio(**more: Any) -> list[FlowAgent]:
    return [FlowAgent(f"node-{number}", **more) for number in range(3)]


async def happening(agents: Sequence[FlowAgent], seconds: float = 0.5, apart: float = 0.001) -> list[str]:
    """Flows on all nodes for a while; their uuids in the order of true time."""
    flows = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for agent in agents:
            agent.happen()
            number = len(agent.stored.times) - 1
            flows.append((agent.stored.times[number] - agent.clock_ahead_ns, agent.stored.uuid(number)))
            await asyncio.sleep(apart)
    return [uuid for _, uuid in sorted(flows)]


def states(reading: Reading) -> list[tuple[str, ...]]:
    return [
        (relay_pb2.NodeState.Name(status.state_change), *status.node_names)
        for message in reading.messages
        for status in message.node_status
    ]


async def started(reading: Reading) -> None:
    await reading.until(lambda reading: any(message.past for message in reading.messages))


async def test_what_comes_is_in_order_and_told_soon(tmp_path: Path) -> None:
    agents = trio()
    agents[1].clock_ahead_ns = 3 * S
    for agent in agents:
        agent.happen(2000)  # before: not asked for
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await started(reading)
        expected = await happening(agents, apart=0.005)  # a clock over there is known to a part of a round trip
        began = time.monotonic()
        await reading.until(lambda reading: len(reading.names()) == len(expected))
        assert time.monotonic() - began < 1
        await reading.stop()
    assert reading.names() == expected
    assert states(reading) == [("NODE_CONNECTED", "node-0", "node-1", "node-2")]


async def test_the_newest_of_the_past_are_counted_over_all_nodes(tmp_path: Path) -> None:
    agents = trio()
    for number, agent in enumerate(agents):
        agent.happen(*range(9000 + number, 1500, -1000))
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True, number=4)))
        await started(reading)
        past = reading.names()
        expected = await happening(agents, 0.2)
        await reading.until(lambda reading: len(reading.names()) == len(expected) + 4)
        await reading.stop()
    assert past == sorted_past(agents)[-4:]
    assert reading.names()[4:] == expected


def sorted_past(agents: list[FlowAgent]) -> list[str]:
    flows = [(at, agent.stored.uuid(number)) for agent in agents for number, at in enumerate(agent.stored.times[:8])]
    return [uuid for _, uuid in sorted(flows)]


async def test_since_brings_the_past_whole(tmp_path: Path) -> None:
    agents = trio()
    for agent in agents:
        agent.happen(8000, 3000, 2000)
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True, since=time.time_ns() - 5 * S)))
        await started(reading)
        await reading.stop()
    assert sorted(reading.names()) == sorted(f"node-{node}/{number}" for node in range(3) for number in (1, 2))


async def test_a_stream_that_breaks_is_resumed_without_hole_or_duplicate(tmp_path: Path) -> None:
    agents = trio()
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await started(reading)
        expected = await happening(agents, 0.3)
        agents[1].break_off()
        expected += await happening(agents, 0.8)
        await reading.until(lambda reading: len(reading.names()) >= len(expected))
        await reading.until(lambda reading: ("NODE_CONNECTED", "node-1") in states(reading))
        await reading.stop()
    assert sorted(reading.names()) == sorted(expected)
    for agent in agents:  # each node's flows are in order, late or not
        own = [uuid for uuid in reading.names() if uuid.startswith(agent.node)]
        assert own == [uuid for uuid in expected if uuid.startswith(agent.node)]
    assert ("NODE_UNAVAILABLE", "node-1") in states(reading)
    assert agents[1].requests[1].resume[0].instance == agents[1].stored.instance


async def test_an_agent_that_was_restarted_leaves_a_gap_that_is_told(tmp_path: Path) -> None:
    agents = trio()
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await started(reading)
        before = await happening(agents, 0.2)
        await reading.until(lambda reading: len(reading.names()) == len(before))
        agents[2].restart()
        agents[2].break_off()
        agents[2].happen()
        await reading.until(lambda reading: ("NODE_CONNECTED", "node-2") in states(reading))
        await reading.until(lambda reading: any(gap.reason == flows_pb2.DOWN for gap in told(reading, "node-2").gaps))
        await reading.stop()
    assert not last_coverage(reading).complete
    assert "restarted" in told(reading, "node-2").gaps[0].message


def last_coverage(reading: Reading) -> flows_pb2.Coverage:
    return [message.coverage for message in reading.messages if message.HasField("coverage")][-1]


def told(reading: Reading, node: str) -> flows_pb2.NodeCoverage:
    return next(each for each in last_coverage(reading).nodes if each.node == node)


async def test_a_silent_agent_holds_others_up_for_two_seconds_and_its_flows_come_late(tmp_path: Path) -> None:
    agents = trio()
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await started(reading)
        agents[0].hold.clear()
        await asyncio.sleep(0.15)
        seen = len(reading.names())
        expected = await happening(agents, 0.1)
        assert len(reading.names()) == seen
        others = sorted(uuid for uuid in expected if not uuid.startswith("node-0"))
        await reading.until(lambda reading: sorted(reading.names()) == others)
        await reading.until(lambda reading: ("NODE_UNAVAILABLE", "node-0") in states(reading))
        agents[0].hold.set()
        await reading.until(lambda reading: len(reading.names()) == len(expected))
        await reading.until(lambda reading: ("NODE_CONNECTED", "node-0") in states(reading))
        more = await happening(agents, 0.2)
        await reading.until(lambda reading: len(reading.names()) == len(expected) + len(more))
        await reading.stop()
    assert sorted(reading.names()[: len(expected)]) == sorted(expected)
    assert reading.names()[len(expected) :] == more


async def test_an_agent_that_appears_joins_with_flows_since_the_request(tmp_path: Path) -> None:
    agents, late = trio(), FlowAgent("node-9")
    late.happen(60_000)
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await started(reading)
        await late.start()
        late.happen()
        served.discovery.set(*served.discovery.now, found(late))
        await reading.until(lambda reading: "node-9/1" in reading.names())
        expected = await happening([*agents, late], 0.3)
        await reading.until(lambda reading: len(reading.names()) == 1 + len(expected))
        await reading.until(lambda reading: any("node-9" in state for state in states(reading)))
        await reading.stop()
        await late.stop()
    assert reading.names() == ["node-9/1", *expected]


async def test_a_node_that_is_away_at_first_joins_when_it_is_there(tmp_path: Path) -> None:
    agents, away = trio(), FlowAgent("node-9")
    await away.start()
    await away.stop()
    async with relay(tmp_path, *agents, away=[Found("node-9", (away.address,))]) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await started(reading)
        assert ("NODE_UNAVAILABLE", "node-9") in states(reading)
        away.happen()
        await away.start()
        await reading.until(lambda reading: "node-9/0" in reading.names())
        await reading.until(lambda reading: ("NODE_CONNECTED", "node-9") in states(reading))
        await reading.stop()
        await away.stop()


async def test_a_client_that_comes_back_gets_what_it_missed_and_nothing_twice(tmp_path: Path) -> None:
    agents = trio()
    async with relay(tmp_path, *agents) as served:
        first = Reading(served.batches(asked(follow=True)))
        await started(first)
        expected = await happening(agents, 0.3)
        await first.until(lambda reading: len(reading.names()) > len(expected) // 3)
        await first.stop()
        expected += await happening(agents, 0.3)
        request = asked(follow=True)
        request.resume.extend(first.positions().values())
        again = Reading(served.batches(request))
        expected += await happening(agents, 0.3)
        await again.until(lambda reading: len(first.names() + reading.names()) >= len(expected))
        await again.stop()
    assert len(first.positions()) == 3
    assert first.names() + again.names() == expected


async def test_until_ends_what_is_followed(tmp_path: Path) -> None:
    agents = trio()
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True, until=time.time_ns() + 400 * MS)))
        await reading.until(lambda reading: reading.messages and reading.messages[-1].HasField("coverage"))
        await asyncio.wait_for(reading._task, 10)
    assert reading.error is None
    assert last_coverage(reading).complete


async def test_batches_come_while_nothing_happens_and_move_the_watermark(tmp_path: Path) -> None:
    agents = trio()
    async with relay(tmp_path, *agents) as served:
        request = asked(follow=True)
        request.max_delay.FromMilliseconds(50)
        reading = Reading(served.batches(request))
        await started(reading)
        await reading.until(lambda reading: len([message for message in reading.messages if message.watermark_ns]) > 5)
        await reading.stop()
    marks = [message.watermark_ns for message in reading.messages if message.watermark_ns]
    assert marks == sorted(marks)
    assert agents[0].requests[0].max_delay.ToMilliseconds() == 50


async def test_losses_come_when_they_are_told(tmp_path: Path) -> None:
    agents = trio()
    agents[0].loses = 3
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(lambda reading: any(message.losses for message in reading.messages))
        await reading.stop()
    losses = [(loss.node, loss.count, loss.reason) for message in reading.messages for loss in message.losses]
    assert losses == [("node-0", 3, "ring full")]


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_an_agent_whose_streams_fail_is_asked_again(tmp_path: Path, code: grpc.StatusCode) -> None:
    agents = trio()
    agents[0].cut = [code]
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(lambda reading: ("NODE_CONNECTED", "node-0") in states(reading))
        expected = await happening(agents, 0.2)
        await reading.until(lambda reading: len(reading.names()) == len(expected))
        await reading.stop()
    assert reading.names() == expected


async def test_each_message_has_what_was_said_so_far_by_name(tmp_path: Path) -> None:
    agents = trio()
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await started(reading)
        expected = await happening(agents, 0.2)
        await reading.until(lambda reading: len(names(reading.messages)) == len(expected))
        await reading.stop()
    positions = reading.positions()
    assert {name: position.received for name, position in positions.items()} == {
        agent.node: len(agent.stored.times) for agent in agents
    }
