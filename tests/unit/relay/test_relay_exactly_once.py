"""Exactly once, over real connections: agents whose streams break and clocks differ, a client that comes back again and again."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from flow_agents import FlowAgent, Served, asked, relay
from relay_readings import Reading, names
from stream_samples import MS

if TYPE_CHECKING:
    from pathlib import Path

    from flows.proto import flows_pb2

ROUNDS = 12


async def happen(agents: list[FlowAgent], chance: random.Random) -> None:
    """Flows of now and of a little before, here and there; now and then a stream breaks."""
    for _ in range(ROUNDS):
        await asyncio.sleep(chance.uniform(0.01, 0.08))
        for agent in agents:
            agent.happen(*sorted((chance.uniform(0, 3) for _ in range(chance.randrange(12))), reverse=True))
        if chance.random() < 0.3:
            chance.choice(agents).break_off()


async def came_and_went(served: Served, agents: list[FlowAgent], chance: random.Random, at_first: dict[str, int]) -> list[str]:
    """All that a client got that cancelled its stream now and then and went on after its positions."""
    got: list[str] = []
    positions: dict[str, flows_pb2.Position] = {}

    def whole(reading: Reading) -> bool:
        return sorted([*got, *reading.names()]) == sorted(uuid for agent in agents for uuid in agent.uuids())

    work = asyncio.create_task(happen(agents, chance))
    while True:
        request = asked(follow=True, **at_first)
        request.resume.extend(positions.values())
        request.max_delay.FromMilliseconds(20)
        reading = Reading(served.batches(request))
        last = work.done()
        if last:
            await reading.until(whole, 15)
        else:
            await reading.until(lambda now: now.messages, 5)
            await asyncio.sleep(chance.uniform(0, 0.3))
        await reading.stop()
        got += reading.names()
        positions |= reading.positions()
        if last:
            await work
            return got


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_breaks_each_flow_comes_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    agents = [FlowAgent(f"node-{number}", clock_ahead_ns=chance.choice((0, 0, 70, -120)) * MS) for number in range(3)]
    for agent in agents:
        agent.happen(*sorted((chance.uniform(50, 900) for _ in range(20)), reverse=True))
    async with relay(tmp_path, *agents) as served:
        got = await came_and_went(served, agents, chance, {"number": 10_000})
    assert sorted(got) == sorted(uuid for agent in agents for uuid in agent.uuids())


@pytest.mark.parametrize("seed", range(3))
async def test_a_client_that_stays_gets_each_once_too(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    agents = [FlowAgent(f"node-{number}", clock_ahead_ns=number * 70 * MS) for number in range(3)]
    async with relay(tmp_path, *agents) as served:
        reading = Reading(served.batches(asked(follow=True, number=100)))
        await reading.until(lambda now: any(one.past for one in now.messages))
        await happen(agents, chance)
        flows = {agent.stored.uuid(n): at - agent.clock_ahead_ns for agent in agents for n, at in enumerate(agent.stored.times)}
        await reading.until(lambda now: len(now.names()) >= len(flows))
        await reading.stop()
    assert sorted(names(reading.messages)) == sorted(flows)
