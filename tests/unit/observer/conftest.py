"""An observer over a store that was filled by hand, and its services on a real socket."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

from agent_streams import Filler, an_observer
from request_samples import Requested
from samples import Names

from flows.agent.observer.peers import Addressing
from flows.agent.observer.server import serve
from flows.agent.store.store import FlowStore
from flows.proto import flows_pb2_grpc, observer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flows.agent.observer.observer import Observer


@pytest.fixture
def store() -> FlowStore:
    return FlowStore(16)


@pytest.fixture
def fill(store: FlowStore) -> Filler:
    return Filler(store)


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def observer(store: FlowStore, names: Names) -> Observer:
    return an_observer(store, names)


@pytest.fixture
def requested(names: Names) -> Requested:
    return Requested(names)


@pytest.fixture
async def channel(observer: Observer, names: Names, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    address = f"unix://{tmp_path}/flows.sock"
    server = await serve(observer, Addressing("node-1", "demo", (address,)), names.nodes)
    async with grpc.aio.insecure_channel(address) as opened:
        yield opened
    await server.stop(None)


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> observer_pb2_grpc.ObserverStub:
    return observer_pb2_grpc.ObserverStub(channel)  # type: ignore[no-untyped-call] # generated


@pytest.fixture
def flows(channel: grpc.aio.Channel) -> flows_pb2_grpc.FlowsStub:
    return flows_pb2_grpc.FlowsStub(channel)  # type: ignore[no-untyped-call] # generated
