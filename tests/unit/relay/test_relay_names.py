"""Agents that call their node otherwise than discovery does: positions go by the relay's name, and nobody speaks for another."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flow_agents import FlowAgent, Served, asked, relay
from relay_agents import Agent, agents, connected
from relay_readings import Reading
from stream_samples import MS, S

from flows.proto import flows_pb2
from flows.relay.discovery.found import Found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

LAST = (1 << 63) - 1


@asynccontextmanager
async def renamed(tmp_path: Path, *running: FlowAgent, named: bool = True) -> AsyncIterator[Served]:
    """A relay that knows them as west/NAME, or by address only."""
    async with agents(*running):
        away = [Found(f"west/{one.node}" if named else "", (one.address,)) for one in running]
        async with relay(tmp_path, away=away) as served:
            await connected(served.pool, len(running))
            yield served


async def happening(running: Sequence[FlowAgent], seconds: float = 0.3) -> list[str]:
    uuids = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for one in running:
            one.happen()
            uuids.append(one.uuids()[-1])
        await asyncio.sleep(0.01)
    return uuids


def ready(reading: Reading) -> bool:
    return any(message.past for message in reading.messages)


async def interrupted(served: Served, running: Sequence[FlowAgent]) -> tuple[Reading, Reading, list[str]]:
    """Two streams, the second of which goes on after the first; and all uuids."""
    first = Reading(served.batches(asked(follow=True)))
    await first.until(ready)
    expected = await happening(running)
    await first.until(lambda reading: len(reading.names()) > len(expected) // 3)
    await first.stop()
    expected += await happening(running)
    request = asked(follow=True)
    request.resume.extend(first.positions().values())
    again = Reading(served.batches(request))
    await again.until(lambda reading: len(first.names() + reading.names()) >= len(expected))
    await asyncio.sleep(0.2)  # duplicates would come now
    await again.stop()
    return first, again, expected


async def test_a_client_comes_back_to_nodes_with_other_names_without_hole_or_duplicate(tmp_path: Path) -> None:
    running = FlowAgent("a"), FlowAgent("b")
    async with renamed(tmp_path, *running) as served:
        first, again, expected = await interrupted(served, running)
    assert set(first.positions()) == set(again.positions()) == {"west/a", "west/b"}
    assert sorted(first.names() + again.names()) == sorted(expected)
    assert [one.requests[-1].resume[0].instance for one in running] == [one.stored.instance for one in running]


async def test_the_relay_goes_on_after_a_broken_stream_of_a_node_with_another_name(tmp_path: Path) -> None:
    agent = FlowAgent("a")
    async with renamed(tmp_path, agent) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(ready)
        expected = await happening([agent])
        agent.break_off()
        expected += await happening([agent])
        await reading.until(lambda one: len(one.names()) >= len(expected))
        await reading.stop()
    assert reading.names() == expected


async def test_agents_that_tell_their_name_themselves_have_positions_by_it(tmp_path: Path) -> None:
    running = FlowAgent("a"), FlowAgent("b")
    async with renamed(tmp_path, *running, named=False) as served:
        first, again, expected = await interrupted(served, running)
    assert set(first.positions()) == {"a", "b"}
    assert sorted(first.names() + again.names()) == sorted(expected)


@dataclass
class Claiming(Agent):
    """Says up to where another node's flows were delivered: to the end of time."""

    async def GetFlows(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        while True:
            said = flows_pb2.FlowBatch(watermark_ns=time.time_ns(), past=True)
            said.positions.add(node="good", instance=9, received=9, watermark_ns=LAST)
            yield said
            if not request.query.follow:
                return
            await asyncio.sleep(0.02)


async def test_nobody_says_what_was_delivered_of_another_node(tmp_path: Path) -> None:
    good = FlowAgent("good")
    async with relay(tmp_path, good, Claiming("bad")) as served:
        reading = Reading(served.batches(asked(follow=True)))
        good.happen(500 * MS / S)
        await reading.until(lambda one: {"good", "bad"} <= set(one.positions()))
        await reading.stop()
    said = [(one.node, one.instance) for message in reading.messages for one in message.positions]
    assert set(said) == {("good", good.stored.instance), ("bad", 9)}
