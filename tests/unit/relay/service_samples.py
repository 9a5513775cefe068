"""An agent with flows that not every caller may see, and what a call of the relay's services comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from flow_agents import FlowAgent, end

if TYPE_CHECKING:
    from collections.abc import AsyncIterable


async def answered(call: AsyncIterable[Any]) -> list[Any]:
    return [message async for message in call]


async def refused(call: AsyncIterable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answered(call)
    return caught.value


def shop(name: str = "node-1", **more: Any) -> FlowAgent:
    """An agent with flows inside two namespaces, between them, and of neither."""
    agent = FlowAgent(name, **more)
    ends = {each: end(each, f"{each}-pod") for each in ("shop", "bank")}
    for source, destination in (("shop", "shop"), ("shop", "bank"), ("bank", "bank"), ("", "")):
        age = 1000 - 10 * len(agent.stored.times)
        agent.happen(age, source=ends.get(source), destination=ends.get(destination))
    return agent
