"""An observer over a store that was filled by hand, and the service on a real socket."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

import numpy as np
from samples import WALL, Names, record

from flows.agent.observer.query import Node, Observer
from flows.agent.observer.service import serve
from flows.agent.store.store import FlowStore
from flows.proto import observer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Filler:
    """Puts flows into a store."""

    def __init__(self, store: FlowStore) -> None:
        self.store = store

    def __call__(self, *flows: tuple[np.ndarray, int, int]) -> None:
        """Store one batch of (record, local endpoint number, remote endpoint number)."""
        records = np.concatenate([flow[0] for flow in flows])
        local, remote = (np.array([flow[side] for flow in flows], np.uint32) for side in (1, 2))
        self.store.append(records, local, remote, WALL)

    def count(self, number: int, first: int = 0) -> None:
        """Store so many flows, a second apart, with ports from 40000 + first on."""
        for index in range(first, first + number):
            self((record(time_ns=index * 10**9, local_port=40_000 + index), 1, 3))


@pytest.fixture
def store() -> FlowStore:
    return FlowStore(16)


@pytest.fixture
def fill(store: FlowStore) -> Filler:
    return Filler(store)


@pytest.fixture
def observer(store: FlowStore) -> Observer:
    names: object = Names()
    return Observer(store, names, Node("demo/node-1", ("zone=a",)), "0.1.0")  # type: ignore[arg-type]


@pytest.fixture
async def stub(observer: Observer, tmp_path: Path) -> AsyncIterator[observer_pb2_grpc.ObserverStub]:
    address = f"unix://{tmp_path}/flows.sock"
    server = await serve(observer, "0.1.0", [address], None)
    async with grpc.aio.insecure_channel(address) as channel:
        yield observer_pb2_grpc.ObserverStub(channel)
    await server.stop(None)
