"""Identification: what an agent calls its node, for agents that were named by address only."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from flows.proto import flows_pb2, observer_pb2
from flows.relay import link
from flows.relay.link import Link, PeerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LONG_AGO = Timestamp(seconds=1)  # the flows until then: none, and the coverage of an answer names the node


async def identify(agent: Link, seconds: float) -> str:
    """The node's name as its flows show it; "" if it does not tell (Observer tells it only with a flow)."""
    with contextlib.suppress(TimeoutError, PeerError):
        async with asyncio.timeout(seconds):
            try:
                return await _of_batches(agent)
            except PeerError as error:
                if error.code is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
            return await _of_flows(agent)
    return ""


async def _of_batches(agent: Link) -> str:
    query = observer_pb2.GetFlowsRequest(number=1, until=LONG_AGO)
    batches = agent.stream(link.GET_BATCHES, flows_pb2.FlowsRequest(query=query))
    async with contextlib.aclosing(batches):
        return await _first(name async for batch in batches for name in _names(batch))


def _names(batch: flows_pb2.FlowBatch) -> list[str]:
    told = [*batch.nodes, *(one.node for one in batch.positions), *(one.node for one in batch.coverage.nodes)]
    return [name for name in told if name]


async def _of_flows(agent: Link) -> str:
    responses = agent.stream(link.GET_FLOWS, observer_pb2.GetFlowsRequest(number=1))
    async with contextlib.aclosing(responses):
        return await _first(one.node_name async for one in responses if one.node_name)


async def _first(names: AsyncIterator[str]) -> str:
    async for name in names:
        return name
    return ""
