"""What an agent may say beside flows: nothing of it ends an answer, holds it up for good, or is taken for another node's word."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from flow_agents import FlowAgent, Served, asked, end, relay
from relay_agents import Agent
from relay_readings import Reading, names
from stream_samples import S

from flows.flow.batch import COLUMNS, Batch, BatchWriter, empty, objects
from flows.flow.ends import EndTable
from flows.proto import flow_pb2, flows_pb2, relay_pb2
from flows.relay import fanout, stream
from flows.relay.follower import Outbox
from flows.relay.merge import Lane
from flows.relay.parcel import Parcel
from flows.relay.query import Start, parse_batched
from flows.relay.tables import Tables

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.timestamp_pb2 import Timestamp

BAD = "bad"
MOST, FIRST, LAST = (1 << 64) - 1, -(1 << 63), (1 << 63) - 1  # what uint64 and int64 hold
PAUSE = 0.05
Say = Callable[[], flows_pb2.FlowBatch]


@dataclass
class Talker(Agent):
    """Its streams are what `say` makes, again and again for those that are `endless`."""

    node: str = BAD
    say: Say = flows_pb2.FlowBatch
    endless: bool = False

    async def GetFlows(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        yield self.say()
        while self.endless or request.query.follow:
            await asyncio.sleep(PAUSE)
            yield self.say()


def flowing(count: int, **more: Any) -> flows_pb2.FlowBatch:
    """A message of so many flows."""
    ends = EndTable()
    columns = {name: np.zeros(count, dtype) for name, dtype in COLUMNS.items()}
    columns["time_ns"][:] = time.time_ns()
    columns["source"][:] = columns["destination"][:] = ends.number(end("ns", "p").SerializeToString(deterministic=True))
    raw = flow_pb2.Flow(uuid=BAD).SerializeToString()
    said = BatchWriter(ends, [BAD]).write(Batch(objects([raw] * count), objects([b""] * count), **columns))
    said.MergeFrom(flows_pb2.FlowBatch(**more))
    return said


def for_ever(first: Timestamp, last: Timestamp) -> None:
    """From before all time to after it."""
    first.seconds, first.nanos, last.seconds, last.nanos = FIRST, -(1 << 31), LAST, (1 << 31) - 1


def gap() -> flows_pb2.Gap:
    unknown: Any = 99
    told = flows_pb2.Gap(count=MOST, reason=unknown)
    for_ever(getattr(told, "from"), told.to)
    return told


def loss(node: str = "") -> flows_pb2.Loss:
    told = flows_pb2.Loss(count=MOST, node=node, reason="r")
    for_ever(told.first, told.last)
    return told


def losing() -> flows_pb2.FlowBatch:
    return flows_pb2.FlowBatch(losses=[loss()] * 2)


def covering() -> flows_pb2.FlowBatch:
    told = flows_pb2.FlowBatch()
    node = told.coverage.nodes.add(node=BAD)
    node.gaps.extend([gap()] * 100)  # more than are told, so that some are added up
    getattr(node, "from").seconds, node.to.seconds = FIRST, LAST
    return told


@asynccontextmanager
async def answering(tmp_path: Path, bad: Talker, *, clock_ahead_ns: int = 0) -> AsyncIterator[tuple[FlowAgent, Served]]:
    good = FlowAgent("good")
    good.happen(900, 800)
    bad.clock_ahead_ns = clock_ahead_ns
    async with relay(tmp_path, good, bad) as served:
        yield good, served


async def history(served: Served, seconds: float = 10) -> list[flows_pb2.FlowBatch]:
    async with asyncio.timeout(seconds):
        return [message async for message in served.batches(asked())]


def by_name(coverage: flows_pb2.Coverage) -> dict[str, flows_pb2.NodeCoverage]:
    return {node.node: node for node in coverage.nodes}


@pytest.mark.parametrize("clock_ahead_ns", [0, 5 * S, -5 * S])
@pytest.mark.parametrize("say", [losing, covering])
async def test_counts_and_times_that_no_number_holds_do_not_end_an_answer(tmp_path: Path, say: Say, clock_ahead_ns: int) -> None:
    async with answering(tmp_path, Talker(say=say), clock_ahead_ns=clock_ahead_ns) as (good, served):
        batches = await history(served)
    assert sorted(name for name in names(batches) if name != BAD) == sorted(good.uuids())
    coverage = batches[-1].coverage
    assert not coverage.complete
    assert max(one.count for one in by_name(coverage)[BAD].gaps) == MOST


async def test_counts_that_wait_for_a_client_add_up_to_what_a_number_holds() -> None:
    outbox = Outbox("relay")
    for _ in range(3):
        outbox.put(Parcel(empty(), EndTable(), [], losses=[loss(BAD)]))
    parcel = await outbox.get()
    assert parcel is not None
    assert [loss.count for loss in parcel.losses] == [MOST]


def nothing() -> flows_pb2.FlowBatch:
    return flows_pb2.FlowBatch()


def standing() -> flows_pb2.FlowBatch:
    return flowing(1, watermark_ns=1)


async def given_up(tmp_path: Path, say: Say, why: str, seconds: float) -> None:
    async with answering(tmp_path, Talker(say=say, endless=True)) as (good, served):
        batches = await history(served, seconds)
    assert [name for name in names(batches) if name != BAD] == good.uuids()
    node = by_name(batches[-1].coverage)[BAD]
    assert (node.state, node.message) == (relay_pb2.NODE_ERROR, why)
    assert flows_pb2.DOWN in {one.reason for one in node.gaps}


@pytest.mark.parametrize("say", [nothing, standing])
async def test_a_history_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say) -> None:
    monkeypatch.setattr(fanout, "ANSWER_SECONDS", 0.5)
    await given_up(tmp_path, say, "no answer within 0.5 s", 5)


def crawling(past: bool) -> Say:
    """A watermark that moves by a nanosecond, and begins long ago."""
    count = iter(range(1, 1 << 40))
    return lambda: flows_pb2.FlowBatch(watermark_ns=next(count), past=past)


async def test_a_history_that_crawls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "MOST_WAITED", 0.5)
    await given_up(tmp_path, crawling(past=False), stream.UNENDING, 5)


@pytest.mark.parametrize(("past", "why"), [(True, stream.TRAILING), (False, stream.UNENDING)])
async def test_an_agent_whose_watermark_crawls_holds_no_follower_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, past: bool, why: str
) -> None:
    monkeypatch.setattr(stream, "MOST_WAITED", 0.5)
    async with answering(tmp_path, Talker(say=crawling(past))) as (good, served):
        reading = Reading(served.batches(asked(follow=True, since=time.time_ns() - 10 * S)))
        await reading.until(lambda one: set(one.names()) == set(good.uuids()), 5)
        good.happen()
        await reading.until(lambda one: set(one.names()) == set(good.uuids()), 5)
        await reading.until(lambda one: why in told_states(one), 5)
        await reading.stop()


def told_states(reading: Reading) -> set[str]:
    return {status.message for message in reading.messages for status in message.node_status}


async def test_an_agent_that_begins_to_crawl_holds_no_follower_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TRAILING_NS", S)
    began = iter(range(time.time_ns(), 1 << 63))
    async with answering(tmp_path, Talker(say=lambda: flows_pb2.FlowBatch(watermark_ns=next(began), past=True))) as (
        good,
        served,
    ):
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(lambda one: any(message.past for message in one.messages))
        good.happen()
        await reading.until(lambda one: good.uuids()[-1] in one.names(), 5)
        await reading.until(lambda one: stream.TRAILING in told_states(one), 5)
        await reading.stop()


def follower(*, named: bool = True) -> stream.Stream:
    """One agent's stream, which nobody waits for yet."""
    listener = SimpleNamespace(heard=lambda _: None, changed=lambda *_: None)
    peer = SimpleNamespace(name=BAD, named=named, clock=None)
    one = stream.Stream(peer, parse_batched(asked(follow=True)), Tables(), listener, Start(late=True))
    one.lane.live = False
    return one


@pytest.mark.parametrize(("named", "expected"), [(True, [BAD]), (False, [])])
def test_who_has_no_name_claims_no_position(named: bool, expected: list[str]) -> None:
    """It might claim another node's; and its address is not for everybody."""
    one = follower(named=named)
    one._take(empty(), flows_pb2.FlowBatch(positions=[flows_pb2.Position(node="good", instance=9)]))
    said = one.lane.position()
    assert [said.node for said in [said] if said is not None] == expected


def test_who_comes_back_far_behind_is_not_waited_for() -> None:
    one = follower()
    one._take(empty(), flows_pb2.FlowBatch(watermark_ns=time.time_ns() - 2 * stream.TRAILING_NS, past=True))
    assert not one.lane.live
    one._take(empty(), flows_pb2.FlowBatch(watermark_ns=time.time_ns()))
    assert one.lane.live


async def test_the_lane_that_all_wait_for_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "HELD_ROWS", 500)
    monkeypatch.setattr(fanout, "LANE_ROWS", 100)
    monkeypatch.setattr(fanout, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(sys.modules[__name__], "PAUSE", 0.005)
    most, add = [0], Lane.add

    def adding(lane: Lane, *arguments: Any) -> None:
        add(lane, *arguments)
        most.append(max(most[-1], lane.rows))

    monkeypatch.setattr(Lane, "add", adding)
    flood = flowing(100, watermark_ns=1)
    await given_up(tmp_path, lambda: flood, "no answer within 1 s", 10)
    assert 500 < most[-1] <= 600


def gaps(count: int) -> flows_pb2.Coverage:
    return flows_pb2.Coverage(nodes=[flows_pb2.NodeCoverage(gaps=[flows_pb2.Gap()] * count)])


@pytest.mark.parametrize(
    "told",
    [
        lambda count: flows_pb2.FlowBatch(losses=[flows_pb2.Loss()] * count),
        lambda count: flows_pb2.FlowBatch(node_status=[relay_pb2.NodeStatusEvent()] * count),
        lambda count: flows_pb2.FlowBatch(positions=[flows_pb2.Position()] * count),
        lambda count: flows_pb2.FlowBatch(coverage=flows_pb2.Coverage(nodes=[flows_pb2.NodeCoverage()] * count)),
        lambda count: flows_pb2.FlowBatch(coverage=gaps(count)),
    ],
    ids=["losses", "states", "positions", "nodes", "gaps"],
)
@pytest.mark.parametrize(("more", "state"), [(0, relay_pb2.NODE_CONNECTED), (1, relay_pb2.NODE_ERROR)])
async def test_more_words_than_an_agent_has_use_for_are_refused(
    tmp_path: Path, told: Callable[[int], flows_pb2.FlowBatch], more: int, state: relay_pb2.NodeState
) -> None:
    said = told(stream.MOST_TOLD + more)
    async with answering(tmp_path, Talker(say=lambda: said)) as (good, served):
        batches = await history(served)
    assert sorted(names(batches)) == sorted(good.uuids())
    node = by_name(batches[-1].coverage)[BAD]
    assert node.state == state
    assert (f"more than {stream.MOST_TOLD}" in node.message) == bool(more)


def of_good() -> flows_pb2.FlowBatch:
    said = flows_pb2.FlowBatch(losses=[flows_pb2.Loss(node="good", reason="r", count=7)])
    said.node_status.add(state_change=relay_pb2.NODE_GONE, node_names=["good"], message="invented")
    said.coverage.nodes.add(node="good", state=relay_pb2.NODE_ERROR, message="invented").gaps.add(reason=flows_pb2.DOWN)
    said.positions.add(node="good", instance=9, received=9, watermark_ns=LAST)
    return said


async def test_an_agent_speaks_of_its_own_node_only(tmp_path: Path) -> None:
    async with answering(tmp_path, Talker(say=of_good)) as (_, served):
        batches = await history(served)
    assert [(loss.node, loss.count) for one in batches for loss in one.losses] == [(BAD, 7)]
    states = {name: status.state_change for one in batches for status in one.node_status for name in status.node_names}
    assert states == {"good": relay_pb2.NODE_CONNECTED, BAD: relay_pb2.NODE_CONNECTED}
    nodes = by_name(batches[-1].coverage)
    assert (nodes["good"].state, len(nodes["good"].gaps)) == (relay_pb2.NODE_CONNECTED, 0)
    assert [one.reason for one in nodes[BAD].gaps] == [flows_pb2.DOWN]
