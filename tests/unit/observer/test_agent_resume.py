"""Streams that break off and go on: every flow once, whatever came meanwhile; what was overwritten is counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from agent_streams import INSTANCE, an_observer, answered, composed, port
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import T0, WALL, Names, record

from flows.agent.observer import answer, limits
from flows.agent.observer import observer as observer_module
from flows.agent.observer.answer import Answer, Part
from flows.agent.observer.coverage import Predecessor, Watch
from flows.agent.observer.fresh import Fresh
from flows.agent.observer.positions import Reach, Resume, cuts, reach_of
from flows.agent.observer.query import parse_request
from flows.agent.store.store import FlowStore
from flows.proto import flow_pb2, flows_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent_streams import Filler

    from flows.agent.observer.observer import Observer
    from flows.agent.observer.query import Request
    from flows.proto.flows_pb2_grpc import FlowsStub

MILLISECOND = 1_000_000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "PART", 3)
    monkeypatch.setattr(observer_module, "NEWS", 5)


def append(observer: Observer, times: Sequence[int]) -> None:
    """Store flows with these times; their conn_ids are their numbers."""
    first = observer.store.written
    rows = [record(time_ns=T0 + time, conn_id=first + index) for index, time in enumerate(times)]
    if rows:
        ends = np.ones(len(rows), np.uint32)
        observer.store.append(np.concatenate(rows), ends, ends, WALL)


async def some(observer: Observer, request: Request, parts: int, waves: Iterator[list[int]]) -> tuple[list[int], Reach | None]:
    """The numbers of flows in so many parts at most, more flows coming after each, and where to go on."""
    got: list[int] = []
    reach = None
    stream = Answer(observer, request, Fresh(), limits.histories()).parts()
    async for part in stream:
        got += part.selected.columns["conn_id"].tolist()
        reach = reach_of(part.reach.message("n", INSTANCE))
        append(observer, next(waves, []))
        parts -= 1
        if not parts:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    return got, reach


times = st.lists(st.integers(0, 12), max_size=14)


@given(st.lists(times, min_size=1, max_size=8), st.lists(st.integers(1, 4), max_size=5), st.booleans(), st.integers(0, 6))
@settings(max_examples=150)
def test_every_flow_once(waves: list[list[int]], breaks: list[int], follow: bool, number: int) -> None:
    observer = an_observer(FlowStore(256), Names())
    query = observer_pb2.GetFlowsRequest(follow=follow, number=number)
    if follow:
        query.since.seconds = 1
    request = replace(parse_request(query), delay_ns=MILLISECOND)
    coming = iter(waves)
    append(observer, next(coming))
    stored = [int(time) for time in observer.store.column("time", 0, observer.store.written)]
    newest = sorted(range(len(stored)), key=lambda flow: (stored[flow], flow))[-number if number else 0 :]

    async def run() -> list[int]:
        got: list[int] = []
        asked = request
        for parts in breaks:
            more, reach = await some(observer, asked, parts, coming)
            got += more
            assert reach is not None
            asked = replace(asked, resume=Resume(INSTANCE, reach))
        if follow:
            asked = replace(asked, selection=replace(asked.selection, follow=False))
        more, reach = await some(observer, asked, -1, iter([]))
        assert reach is not None
        assert (reach.first, reach.received) == (observer.store.written, observer.store.written)
        return got + more

    first_seen = len(stored)
    got = asyncio.run(run())
    later = range(first_seen, observer.store.written)
    assert sorted(got) == sorted([*newest, *(later if breaks else [])])


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 9), st.booleans())
def test_batches_end_between_nanoseconds(times: list[int], watermark: int, resumed: bool) -> None:
    ordered = np.sort(np.array(times, np.int64))
    ends = list(cuts(ordered, 3, Reach(0, 5 if resumed else 0, watermark)))
    assert ends == sorted(set(ends))
    assert (ends[-1] if ends else 0) == len(times)
    for end in ends[:-1]:
        assert ordered[end - 1] < ordered[end]
        assert not resumed or ordered[end] > watermark


def position(reach: Reach, instance: int = INSTANCE) -> flows_pb2.Position:
    return reach.message("demo/node-1", instance)


async def test_filters_and_until_still_hold(flows: FlowsStub, fill: Filler) -> None:
    fill.count(10)
    query = observer_pb2.GetFlowsRequest(
        number=1, whitelist=[flow_pb2.FlowFilter(source_port=["40003", "40004", "40006", "40007", "40009"])]
    )
    query.until.FromNanoseconds(WALL + 7 * 10**9)
    messages = await answered(flows, query=query, resume=[position(Reach(2, 6, WALL + 4 * 10**9))])
    assert list(map(port, composed(messages))) == [6, 7]


async def test_what_was_overwritten_is_a_loss(flows: FlowsStub, fill: Filler) -> None:
    fill.count(20)  # of which 16 fit
    messages = await answered(flows, resume=[position(Reach(1, 1, WALL))])
    assert list(map(port, composed(messages))) == list(range(4, 20))
    [loss] = [loss for message in messages for loss in message.losses]
    assert (loss.node, loss.reason, loss.count, loss.source) == ("demo/node-1", "overwritten", 3, flow_pb2.HUBBLE_RING_BUFFER)
    assert (loss.first.ToNanoseconds(), loss.last.ToNanoseconds()) == (WALL, WALL + 4 * 10**9)
    [gap] = messages[-1].coverage.nodes[0].gaps
    assert (gap.reason, getattr(gap, "from").ToNanoseconds(), gap.to.ToNanoseconds()) == (
        flows_pb2.OVERWRITTEN, WALL, WALL + 4 * 10**9
    )  # fmt: skip


@pytest.mark.parametrize(
    ("predecessor", "received", "gap"),
    [
        (None, 3, (flows_pb2.DOWN, 0)),
        (Predecessor(5, 3), 3, (flows_pb2.DOWN, 0)),
        (Predecessor(6, 3), 3, None),
        (Predecessor(6, 5), 3, (flows_pb2.DOWN, 2)),
    ],
)
async def test_another_process_goes_on_by_time(
    flows: FlowsStub, observer: Observer, fill: Filler, predecessor: Any, received: int, gap: Any
) -> None:
    """Of instance 6 three flows had come, up to second 2; this agent has watched since second 4."""
    observer.watch = Watch(WALL + 4 * 10**9, predecessor)
    fill.count(5, 1)
    messages = await answered(flows, resume=[position(Reach(received, received, WALL + 2 * 10**9), 6)])
    assert list(map(port, composed(messages))) == [3, 4, 5]
    node = messages[-1].coverage.nodes[0]
    told = [(one.reason, one.count, getattr(one, "from").seconds, one.to.seconds) for one in node.gaps]
    second = WALL // 10**9
    assert told == ([] if gap is None else [(*gap, second + 2, second + 4)])
    assert messages[-1].coverage.complete == (gap is None)
    assert messages[-1].positions[0].instance == INSTANCE


async def test_losses_are_told_once_across_a_break(observer: Observer) -> None:
    request = replace(parse_request(observer_pb2.GetFlowsRequest(follow=True)), delay_ns=MILLISECOND)

    async def until_told(asked: Request, count: int) -> list[Part]:
        parts = []
        async for part in Answer(observer, asked, Fresh(), limits.histories()).parts():
            parts.append(part)
            if sum(len(each.losses) for each in parts) >= count or (part.past and not count):
                return parts
        return parts

    append(observer, [1])
    [part] = await until_told(request, 0)
    observer.store.lose("ring full", 7, WALL, WALL + 1)
    append(observer, [2])
    told = await until_told(replace(request, resume=Resume(INSTANCE, part.reach)), 1)
    observer.store.lose("ring full", 8, WALL, WALL + 1)
    append(observer, [3])
    told += await until_told(replace(request, resume=Resume(INSTANCE, told[-1].reach)), 1)
    assert [loss.count for each in told for loss in each.losses] == [7, 8]
