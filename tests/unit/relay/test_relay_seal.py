"""Positions of callers who may not see everything: they tell no number of flows, and what is forged is none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from flow_agents import Caller, FlowAgent, Served, asked, end, relay
from relay_readings import Reading
from stream_samples import position

from flows.proto import flows_pb2
from flows.relay.access.scope import Scope
from flows.relay.seal import Seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

SHOP = frozenset({"shop"})
JANE, JOE, ROOT = Scope("jane", SHOP), Scope("joe", SHOP), Scope("root", None)
GIVEN = position("node-1", instance=(1 << 64) - 1, first=3, received=1_234_567, watermark_ns=-5)
BY_TIME = flows_pb2.Position(node="node-1", watermark_ns=-5)


def changed(given: flows_pb2.Position, **more: Any) -> flows_pb2.Position:
    made = flows_pb2.Position()
    made.CopyFrom(given)
    made.MergeFrom(flows_pb2.Position(**more))
    return made


def test_only_who_may_see_everything_gets_numbers() -> None:
    sealed = Seal().close(GIVEN, JANE)
    assert (sealed.instance, getattr(sealed, "from"), sealed.received) == (0, 0, 0)
    assert (sealed.node, sealed.watermark_ns) == ("node-1", -5)
    assert Seal().close(GIVEN, ROOT) == GIVEN


def test_equal_positions_do_not_look_alike() -> None:
    seal = Seal()
    assert seal.close(GIVEN, JANE).sealed != seal.close(GIVEN, JANE).sealed


def test_what_was_sealed_is_opened_for_the_same_caller() -> None:
    seal = Seal()
    assert seal.open(seal.close(GIVEN, JANE), JANE) == GIVEN
    assert seal.open(changed(seal.close(GIVEN, JANE), watermark_ns=99), JANE) == GIVEN, "the time is in it, too"
    assert seal.open(GIVEN, ROOT) == GIVEN


@pytest.mark.parametrize(
    "forged",
    [
        lambda seal: GIVEN,
        lambda seal: changed(BY_TIME, sealed=b"short"),
        lambda seal: changed(BY_TIME, sealed=bytes(60)),
        lambda seal: seal.close(GIVEN, JOE),
        lambda seal: changed(seal.close(position("node-2", received=9, watermark_ns=-5), JANE), node="node-1"),
        lambda seal: Seal().close(GIVEN, JANE),
        lambda seal: changed(GIVEN, sealed=bytes(60)),
    ],
    ids=["plain", "short", "zeros", "another user's", "another node's", "another relay's", "both"],
)
def test_what_was_not_is_a_time_and_no_more(forged: Callable[[Seal], flows_pb2.Position]) -> None:
    seal = Seal()
    assert seal.open(forged(seal), JANE) == BY_TIME


def shop_agent() -> FlowAgent:
    agent = FlowAgent("node-1")
    for age in (900, 800, 700):
        agent.happen(age, source=end("bank", "b"), destination=end("bank", "b"))
    return agent


async def followed(served: Served, agent: FlowAgent, resume: Iterable[flows_pb2.Position] = (), count: int = 3) -> Reading:
    request = asked(follow=True)
    request.resume.extend(resume)
    reading = Reading(served.batches(request))
    await reading.until(lambda one: any(message.past for message in one.messages))
    for _ in range(count):
        agent.happen(source=end("shop", "s"), destination=end("bank", "b"))
        agent.happen(source=end("bank", "s"), destination=end("bank", "b"))
    await reading.until(lambda one: len(one.names()) >= count)
    await asyncio.sleep(0.3)
    await reading.stop()
    return reading


async def test_a_limited_follower_goes_on_exactly_and_learns_no_number(tmp_path: Path) -> None:
    agent = shop_agent()
    async with relay(tmp_path, agent, access=Caller(SHOP)) as served:
        first = await followed(served, agent)
        agent.happen(source=end("shop", "s"), destination=end("bank", "b"))
        again = await followed(served, agent, first.positions().values())
    resumed = agent.requests[-1].resume[0]
    assert (resumed.instance, resumed.sealed) == (agent.stored.instance, b"")
    in_shop = [agent.stored.uuid(number) for number, ends in agent.stored.ends.items() if is_shop(agent, ends)]
    assert first.names() + again.names() == in_shop
    for message in first.messages + again.messages:
        for one in message.positions:
            assert (one.instance, getattr(one, "from"), one.received) == (0, 0, 0)
            assert one.sealed


def is_shop(agent: FlowAgent, ends: Iterable[int]) -> bool:
    return any(agent.table[number].end.endpoint.namespace == "shop" for number in ends)


async def test_a_forged_position_reaches_agents_as_a_time(tmp_path: Path) -> None:
    agent = shop_agent()
    began = agent.now()
    forged = position("node-1", instance=agent.stored.instance, first=1, received=2, watermark_ns=began)
    async with relay(tmp_path, agent, access=Caller(SHOP)) as served:
        reading = await followed(served, agent, [forged])
    asked_of_it = agent.requests[-1]
    assert not asked_of_it.resume
    assert asked_of_it.query.since.ToNanoseconds() == began + 1
    assert len(reading.names()) == 3
