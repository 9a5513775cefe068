from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from stream_samples import batch

from flows.flow.batch import empty
from flows.flow.ends import EndTable
from flows.proto import flow_pb2, flows_pb2, relay_pb2
from flows.relay import follower
from flows.relay.follower import Outbox, buffered
from flows.relay.parcel import Parcel


def parcel(*times: int, **more: Any) -> Parcel:
    return Parcel(batch(times) if times else empty(), EndTable(), [], **more)


async def taken(outbox: Outbox) -> list[Parcel]:
    outbox.end()
    parcels = []
    while (one := await outbox.get()) is not None:
        parcels.append(one)
    return parcels


async def lost(outbox: Outbox) -> list[int]:
    """What the next parcel tells of losses."""
    one = await outbox.get()
    assert one is not None
    return [loss.count for loss in one.losses]


async def test_what_fits_passes_as_it_is() -> None:
    outbox = Outbox("relay")
    for first in range(3):
        outbox.put(parcel(first, first + 1))
    parcels = await taken(outbox)
    assert [len(one.batch) for one in parcels] == [2, 2, 2]
    assert not any(one.losses for one in parcels)


async def test_the_oldest_go_and_are_counted_with_their_times() -> None:
    outbox = Outbox("relay", most_rows=4)
    for first in range(10, 60, 10):
        outbox.put(parcel(first, first + 1))
    parcels = await taken(outbox)
    assert [one.batch.time_ns.tolist() for one in parcels] == [[40, 41], [50, 51]]
    (loss,) = parcels[0].losses
    assert (loss.node, loss.count, loss.source) == ("relay", 6, flow_pb2.OBSERVER_EVENTS_QUEUE)
    assert (loss.first.ToNanoseconds(), loss.last.ToNanoseconds()) == (10, 31)
    assert outbox.dropped == 6


async def test_bytes_are_bounded_too() -> None:
    outbox = Outbox("relay", most_bytes=1)
    outbox.put(parcel(1))
    outbox.put(parcel(2))
    assert [one.batch.time_ns.tolist() for one in await taken(outbox)] == [[2]]


async def test_losses_are_told_once_a_second_and_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, told = Outbox("relay", most_rows=1), []
    for number in range(6):
        outbox.put(parcel(2 * number))
        outbox.put(parcel(2 * number + 1))
        told.append(await lost(outbox))
    assert told == [[1], [], [], [], [], []]
    monkeypatch.setattr(follower, "SAY_SECONDS", 0.0)
    outbox.put(parcel())
    assert await lost(outbox) == [5]


async def test_what_is_said_with_dropped_flows_is_said_all_the_same() -> None:
    outbox = Outbox("relay", most_rows=1)
    state = relay_pb2.NodeStatusEvent(node_names=["a"])
    position = flows_pb2.Position(node="a", received=1)
    newer = flows_pb2.Position(node="b", received=9)
    outbox.put(parcel(1, past=True, states=[state], positions=[position, flows_pb2.Position(node="b", received=1)]))
    outbox.put(parcel(2, positions=[newer], losses=[flows_pb2.Loss(node="a", reason="x", count=2)]))
    outbox.put(parcel(3, losses=[flows_pb2.Loss(node="a", reason="x", count=3)]))
    (one,) = await taken(outbox)
    assert one.past
    assert one.states == [state]
    assert one.positions == [position, newer]
    assert [(loss.reason, loss.count) for loss in one.losses] == [("x", 5), (follower.SLOW, 2)]


async def test_a_client_that_takes_nothing_costs_no_more_than_the_bound() -> None:
    outbox = Outbox("relay", most_rows=10)
    for number in range(1000):
        outbox.put(parcel(number) if number % 3 == 0 else parcel(watermark_ns=number))
    assert len(outbox._parcels) <= 22
    assert sum(len(one.batch) for one in await taken(outbox)) == 10


async def test_the_maker_does_not_wait_and_ends_with_its_reader() -> None:
    made: list[int] = []
    many, closed = asyncio.Event(), asyncio.Event()

    async def parcels() -> AsyncGenerator[Parcel, None]:
        try:
            while True:
                made.append(len(made))
                if len(made) > 10:
                    many.set()
                yield parcel(len(made))
                await asyncio.sleep(0)
        finally:
            closed.set()

    async with asyncio.timeout(5):
        reader = buffered(parcels(), Outbox("relay"))
        assert isinstance(reader, AsyncGenerator)
        await anext(reader)
        await many.wait()  # it goes on though nobody reads
        await reader.aclose()
        await closed.wait()


async def test_an_error_of_the_maker_reaches_its_reader() -> None:
    async def parcels() -> AsyncGenerator[Parcel, None]:
        yield parcel(1)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        assert [len(one.batch) async for one in buffered(parcels(), Outbox("relay"))]
