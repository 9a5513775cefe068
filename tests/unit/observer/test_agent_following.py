"""Following an agent in batches: watermarks that keep their promise, how often batches come, when they end."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from agent_streams import INSTANCE, composed, port
from samples import WALL, record

from flows.agent.observer import fresh as fresh_module
from flows.agent.observer import limits
from flows.agent.observer.answer import Answer
from flows.agent.observer.fresh import SLACK_NS, Fresh
from flows.agent.observer.peers import Addressing
from flows.agent.observer.query import parse_request
from flows.agent.observer.server import serve
from flows.proto import flow_pb2, flows_pb2, flows_pb2_grpc, observer_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent_streams import Filler

    from flows.agent.observer.observer import Observer
    from flows.proto.flows_pb2_grpc import FlowsStub
    from flows.proto.observer_pb2_grpc import ObserverStub

FAST = {"nanos": 10_000_000}


@asynccontextmanager
async def following(flows: FlowsStub, **query: Any) -> AsyncIterator[Callable[[], Any]]:
    """Gives what reads the next message."""
    call = flows.GetFlows(flows_pb2.FlowsRequest(query={"follow": True, **query}, max_delay=FAST))
    try:
        yield lambda: asyncio.wait_for(call.read(), 10)
    finally:
        call.cancel()


async def test_the_past_comes_first_and_is_marked(flows: FlowsStub, fill: Filler) -> None:
    fill.count(3)
    async with following(flows, number=2) as read:
        first = await read()
        assert (list(map(port, composed([first]))), first.past, first.coverage.flows) == ([1, 2], True, 2)
        fill.count(1, 3)
        later = [await read()]
        while not later[-1].flows:
            later.append(await read())
    assert not any(message.past for message in later)
    assert list(map(port, composed([first, *later]))) == [1, 2, 3]


async def test_an_idle_agent_moves_its_watermark(flows: FlowsStub) -> None:
    before = time.time_ns() - SLACK_NS
    async with following(flows) as read:
        messages = [await read() for _ in range(5)]
    watermarks = [message.watermark_ns for message in messages]
    assert before <= watermarks[0]
    assert all(early < late for early, late in pairwise(watermarks))
    assert messages[0].past
    assert not any(message.flows for message in messages)
    assert [(one.received, one.instance) for message in messages for one in message.positions] == [(0, INSTANCE)] * 5


class Kernel:
    """A ring that a reader empties when asked, late: what is in it when it is asked is stored before it says so."""

    def __init__(self, fill: Filler) -> None:
        self._fill, self.waiting = fill, list[int]()
        self._loop = asyncio.get_running_loop()
        self.stuck = False

    def happens(self) -> int:
        """A flow of now, as the wall clock of flows has it."""
        now = time.time_ns()
        self.waiting.append(now)
        return now

    def freshen(self, done: Callable[[], None]) -> None:
        if not self.stuck:
            self._loop.call_later(0.02, self._store, done)

    def _store(self, done: Callable[[], None]) -> None:
        for at in self.waiting:
            self._fill((record(time_ns=0, start_ns=0), 1, 3))
            self._fill.store._columns["time"][(self._fill.store.written - 1) % self._fill.store.capacity] = at
        self.waiting.clear()
        done()


@asynccontextmanager
async def served(observer: Observer, kernel: Kernel, path: Path) -> AsyncIterator[FlowsStub]:
    address = f"unix://{path}/kernel.sock"
    server = await serve(observer, Addressing("node-1", "demo", (address,)), dict, freshen=kernel.freshen)
    async with grpc.aio.insecure_channel(address) as channel:
        yield flows_pb2_grpc.FlowsStub(channel)  # type: ignore[no-untyped-call] # generated
    await server.stop(None)


async def test_no_flow_comes_after_a_watermark_that_is_later(observer: Observer, fill: Filler, tmp_path: Path) -> None:
    kernel = Kernel(fill)
    async with served(observer, kernel, tmp_path) as flows, following(flows) as read:
        seen, happened, watermark = 0, 0, 0
        while seen < 12:
            kernel.happens()
            happened += 1
            message = await read()
            times = np.frombuffer(message.time_ns, "<i8")
            assert (times >= watermark).all()
            assert message.watermark_ns >= watermark
            watermark = message.watermark_ns
            seen += len(times)


async def test_a_reader_that_is_stuck_holds_the_watermark_but_not_the_stream(
    observer: Observer, fill: Filler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_module, "FRESH_SECONDS", 0.02)
    kernel = Kernel(fill)
    async with served(observer, kernel, tmp_path) as flows, following(flows) as read:
        watermark = (await read()).watermark_ns
        kernel.stuck = True
        held = [(await read()).watermark_ns for _ in range(6)][-2:]
        kernel.stuck = False
        moved = [(await read()).watermark_ns for _ in range(8)][-1]
    assert held[0] == held[1] >= watermark
    assert moved > held[1]


@pytest.mark.parametrize("served_by", ["flows", "stub"])
async def test_following_ends_when_until_has_passed(flows: FlowsStub, stub: ObserverStub, fill: Filler, served_by: str) -> None:
    query = observer_pb2.GetFlowsRequest(follow=True)
    query.until.FromNanoseconds(time.time_ns() + 50_000_000)
    if served_by == "stub":
        assert [response async for response in stub.GetFlows(query)] == []
        return
    messages = [message async for message in flows.GetFlows(flows_pb2.FlowsRequest(query=query, max_delay=FAST))]
    assert messages[-1].watermark_ns > query.until.ToNanoseconds()
    assert [message.HasField("coverage") for message in messages] == [True, *[False] * (len(messages) - 2), True]
    assert messages[-1].coverage.complete


async def test_flows_after_until_are_not_for_a_follower(flows: FlowsStub, fill: Filler) -> None:
    fill.count(1)
    query = observer_pb2.GetFlowsRequest(follow=True)
    query.until.FromNanoseconds(WALL + 2 * 10**9)
    query.since.FromNanoseconds(WALL)
    fill.count(4, 1)
    messages = [message async for message in flows.GetFlows(flows_pb2.FlowsRequest(query=query, max_delay=FAST))]
    assert list(map(port, composed(messages))) == [0, 1, 2]


async def test_a_slow_follower_is_told_what_was_overwritten(observer: Observer, fill: Filler) -> None:
    request = replace(parse_request(observer_pb2.GetFlowsRequest(follow=True)), delay_ns=1_000_000)
    parts = Answer(observer, request, Fresh(), limits.histories()).parts()
    assert (await anext(parts)).past
    fill.count(50)  # while it does not read
    got, lost = 0, 0
    while got + lost < 50:
        part = await anext(parts)
        got += len(part.selected)
        lost += sum(loss.count for loss in part.losses)
    assert (got, lost) == (16, 34)
    await parts.aclose()  # type: ignore[attr-defined]


async def test_losses_come_with_their_reason(flows: FlowsStub, fill: Filler) -> None:
    fill.count(1)
    fill.store.lose("ring full", 7, WALL, WALL + 1)
    [message] = [message async for message in flows.GetFlows(flows_pb2.FlowsRequest())]
    [loss] = message.losses
    assert (loss.node, loss.reason, loss.count, loss.source) == (
        "demo/node-1", "ring full", 7, flow_pb2.PERF_EVENT_RING_BUFFER
    )  # fmt: skip


async def test_a_client_that_takes_too_long_for_stored_flows_is_sent_away(
    observer: Observer, fill: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot would keep endpoint numbers that by then are somebody else's."""
    monkeypatch.setattr("flows.agent.observer.answer.PART", 2)
    monkeypatch.setattr("flows.agent.observer.answer.RETAIN_SECONDS", 0.05)
    fill.count(5)
    parts = Answer(observer, parse_request(observer_pb2.GetFlowsRequest()), Fresh(), limits.histories()).parts()
    await anext(parts)
    await asyncio.sleep(0.1)
    with pytest.raises(limits.LimitError, match="ask for less"):
        await anext(parts)


async def test_large_histories_of_slow_clients_are_limited(
    observer: Observer, fill: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.agent.observer.answer.LARGE", 4)
    fill.count(5)
    request, one = parse_request(observer_pb2.GetFlowsRequest()), limits.Limit(1, "large histories", "ask for less")
    slow = Answer(observer, request, Fresh(), one).parts()
    await anext(slow)
    with pytest.raises(limits.LimitError, match="1 large histories already; ask for less"):
        await anext(Answer(observer, request, Fresh(), one).parts())
    assert [part async for part in slow] == []
    assert len([part async for part in Answer(observer, request, Fresh(), one).parts()]) == 1
