"""Streams of a relay, read in the background while a test goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import grpc

from flows.proto import flow_pb2, flows_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

M = TypeVar("M")


def names(batches: Iterable[flows_pb2.FlowBatch]) -> list[str]:
    """The uuids of batches' flows."""
    return [flow_pb2.Flow.FromString(raw).uuid for batch in batches for raw in batch.flows]


class _Reading(Generic[M]):
    """A stream that is read in the background."""

    def __init__(self, call: grpc.aio.UnaryStreamCall[Any, M]) -> None:
        self.call, self.messages = call, list[M]()
        self.error: grpc.aio.AioRpcError | None = None
        self._came = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self.call:
                self.messages.append(message)
                self._came.set()
        except grpc.aio.AioRpcError as error:
            self.error = error
        finally:
            self._came.set()

    async def until(self, condition: Callable[[Self], object], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._came.clear()
                if self._task.done() and not condition(self):
                    raise AssertionError(f"the stream has ended: {self.error}")
                await self._came.wait()

    async def stop(self) -> None:
        self.call.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Reading(_Reading[flows_pb2.FlowBatch]):
    """Of batches."""

    def names(self) -> list[str]:
        return names(self.messages)

    def positions(self) -> dict[str, flows_pb2.Position]:
        return {position.node: position for message in self.messages for position in message.positions}


class PlainReading(_Reading[observer_pb2.GetFlowsResponse]):
    """Of single flows."""
