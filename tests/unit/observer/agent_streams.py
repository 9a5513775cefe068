"""A store that is filled by hand, an observer over it, and what its streams give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from samples import WALL, record

from flows.agent.observer.coverage import Watch
from flows.agent.observer.observer import Observer
from flows.flow.batch import BatchReader, compose
from flows.flow.ends import EndTable
from flows.proto import flow_pb2, flows_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.agent.store.store import FlowStore
    from flows.proto.flows_pb2_grpc import FlowsStub

INSTANCE = 77


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


def an_observer(store: FlowStore, names: object, instance: int = INSTANCE, watch: Watch | None = None) -> Observer:
    return Observer(store, names, "demo/node-1", "0.1.0", watch or Watch(0), instance)  # type: ignore[arg-type]


def composed(messages: Sequence[flows_pb2.FlowBatch]) -> list[flow_pb2.Flow]:
    """The flows of a stream, whole."""
    ends, nodes = EndTable(), list[str]()
    reader = BatchReader(ends, nodes)
    batches = [reader.read(message) for message in messages]
    assert all(sorted(batch.time_ns.tolist()) == batch.time_ns.tolist() for batch in batches)
    return [flow_pb2.Flow.FromString(raw) for batch in batches for raw in compose(batch, ends)]


def port(flow: flow_pb2.Flow) -> int:
    """Which of Filler.count()'s flows it is."""
    return flow.l4.TCP.source_port - 40_000


async def answered(flows: FlowsStub, **request: Any) -> list[flows_pb2.FlowBatch]:
    """All messages of a stream that ends."""
    return [message async for message in flows.GetFlows(flows_pb2.FlowsRequest(**request))]
