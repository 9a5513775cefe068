"""Several servers' streams as one, and limits over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from cli_samples import at, loss
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cli import merge as merging
from flows.cli.limit import limit
from flows.cli.merge import merge, time_of
from flows.flow.filter.selection import ALL, Selection
from flows.proto.observer_pb2 import GetFlowsResponse

Responses = Sequence[GetFlowsResponse]


async def stream(responses: Responses, delay: float = 0) -> AsyncGenerator[GetFlowsResponse, None]:
    for response in responses:
        await asyncio.sleep(delay)
        yield response


def names(responses: Responses) -> list[str]:
    return [each.flow.Summary or f"lost{each.lost_events.num_events_lost}" for each in responses]


async def merged(selection: Selection, *streams: Responses) -> list[str]:
    return names([each async for each in merge([stream(each) for each in streams], selection)])


A = [at(1, "a"), at(4, "a"), at(6, "a")]
B = [at(2, "b"), at(3, "b"), at(5, "b")]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["a1", "b2", "b3", "a4", "b5", "a6"]),
        (Selection(number=2), ["b5", "a6"]),
        (Selection(number=3, first=True), ["a1", "b2", "b3"]),
        (Selection(number=ALL), ["a1", "b2", "b3", "a4", "b5", "a6"]),
        (Selection(number=2, follow=True), ["b5", "a6"]),
        (Selection(follow=True), ["a1", "b2", "b3", "a4", "b5", "a6"]),
    ],
)
async def test_order_and_number_are_global(selection: Selection, expected: list[str]) -> None:
    assert await merged(selection, A, B) == expected


async def test_a_single_server_is_passed_through() -> None:
    assert await merged(Selection(number=1), list(reversed(A))) == ["a6", "a4", "a1"]


async def test_a_response_without_a_time_keeps_its_place() -> None:
    untimed = at(0, "x")
    untimed.ClearField("time")
    untimed.flow.ClearField("time")
    assert await merged(Selection(), [at(3, "a"), untimed], [at(1, "b"), at(4, "b")]) == [
        "b1",
        "a3",
        "x0",
        "b4",
    ]


async def test_followed_flows_after_the_past_are_all_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "SETTLE_S", 0.05)
    late = stream([at(10, "a"), at(11, "a")], 0.2)
    both = merge([stream(A), late], Selection(number=1, follow=True))
    assert names([each async for each in both]) == ["a6", "a10", "a11"]


async def test_leaving_a_followed_merge_ends_its_streams() -> None:
    closed = []

    async def endless() -> AsyncGenerator[GetFlowsResponse, None]:
        try:
            while True:
                yield at(1)
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    both = merge([endless(), endless()], Selection(follow=True))
    async for _ in both:
        break
    await both.aclose()
    await asyncio.sleep(0)
    assert len([task for task in asyncio.all_tasks() if not task.done()]) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 50), max_size=8), min_size=2, max_size=4))
def test_merged_is_sorted(seconds: list[list[int]]) -> None:
    async def run() -> list[int]:
        streams = [stream([at(each) for each in sorted(one)]) for one in seconds]
        return [time_of(each) // 10**9 async for each in merge(streams, Selection())]

    assert asyncio.run(run()) == sorted(each for one in seconds for each in one)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["lost0", "n1", "lost2", "n3", "lost4"]),
        (Selection(number=1), ["n3", "lost4"]),
        (Selection(number=2), ["lost0", "n1", "lost2", "n3", "lost4"]),
        (Selection(number=1, first=True), ["lost0", "n1"]),
    ],
)
def test_losses_come_along_and_do_not_count(selection: Selection, expected: list[str]) -> None:
    bound = limit(selection)
    out: list[GetFlowsResponse] = []
    for response in [loss(0), at(1), loss(2), at(3), loss(4)]:
        out.extend(bound.push(response))
    assert names([*out, *bound.end()]) == expected
