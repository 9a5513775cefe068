"""Flows, batches and agents for tests of streams: agents say positions as flows.agent.observer does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flows.agent.observer.positions import Reach, Resume, cuts, reach_of
from flows.flow.batch import COLUMNS, Batch, objects
from flows.proto import flow_pb2, flows_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Select = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]

MS = 1_000_000
S = 1_000_000_000
BEFORE_ALL = -(1 << 63)


def flow(uuid: str, time_ns: int = 0, node: str = "", port: int = 0) -> flow_pb2.Flow:
    message = flow_pb2.Flow(uuid=uuid, node_name=node, verdict=flow_pb2.FORWARDED)
    message.time.FromNanoseconds(time_ns)
    if port:
        message.l4.TCP.destination_port = port
    return message


def batch(
    times: Sequence[int],
    uuids: Sequence[str] | None = None,
    *,
    source: ArrayLike = 0,
    destination: ArrayLike = 0,
    node: ArrayLike = 0,
) -> Batch:
    """Flows whose uuids are their times if no others are given."""
    uuids = [str(time) for time in times] if uuids is None else uuids
    columns = {name: np.zeros(len(times), dtype) for name, dtype in COLUMNS.items()}
    columns["time_ns"][:] = times
    columns["source"][:], columns["destination"][:], columns["node"][:] = source, destination, node
    flows = objects(flow(uuid, time).SerializeToString() for uuid, time in zip(uuids, times, strict=True))
    return Batch(flows, objects([b""] * len(times)), **columns)


def uuids(batch: Batch) -> list[str]:
    return [flow_pb2.Flow.FromString(raw).uuid for raw in batch.flows]


@dataclass
class Node:
    """What an agent has stored: flows by number, almost in the order of their time, and what it says of them.

    Everything that is stored later has a time of at least `promised`.
    """

    name: str
    instance: int = 1
    offset: int = 0
    times: list[int] = field(default_factory=list)
    promised: int = 0
    ends: dict[int, tuple[int, int]] = field(default_factory=dict)  # by number: source and destination, if not end 0

    def store(self, *times: int) -> None:
        assert all(time >= self.promised for time in times)
        self.times += times

    def uuid(self, number: int) -> str:
        return f"{self.name}/{number}"

    def rows(self, numbers: Iterable[int]) -> Batch:
        numbers = sorted(numbers, key=lambda number: self.times[number])
        ends = np.array([self.ends.get(number, (0, 0)) for number in numbers], np.uint32).reshape(-1, 2)
        times, uuids = [self.times[number] for number in numbers], [self.uuid(number) for number in numbers]
        return batch(times, uuids, source=ends[:, 0], destination=ends[:, 1])


class AgentStream:
    """One stream of a node's agent, as flows.agent.observer.answer makes it: the past in parts, then what comes."""

    def __init__(
        self, node: Node, position: flows_pb2.Position | None = None, part: int = 3, select: Select | None = None
    ) -> None:
        """select: which of the past, given numbers and times; a mask."""
        self.node, self.part, self.ordered = node, part, node.promised
        self.reach = Reach(0, 0, BEFORE_ALL)
        numbers, times = np.arange(len(node.times)), np.array(node.times, np.int64)
        if position is not None:
            self.reach = Resume(position.instance, reach_of(position)).within(node.instance)
            numbers = numbers[self.reach.missing(numbers, times)]
        elif select is not None:
            numbers = numbers[select(numbers, times)]
        self.waiting: list[tuple[list[int], Reach, int]] = []
        self.past = False
        self._cut(numbers, len(times))

    def _cut(self, numbers: NDArray[np.int64], end: int) -> None:
        """Parts: numbers, reach, watermark (0: nothing is said)."""
        ordered: list[int] = sorted(numbers.tolist(), key=lambda number: self.node.times[number])
        times = np.array([self.node.times[number] for number in ordered], np.int64)
        start, reach = 0, self.reach
        for last in cuts(times, self.part, reach):
            if last < len(ordered):
                self.reach = reach.after(int(times[last - 1]), end)
                self.waiting.append((ordered[start:last], self.reach, 0))
                start = last
        self.reach = Reach(end, end, self.node.promised)
        self.waiting.append((ordered[start:], self.reach, self.node.promised))

    def next(self) -> tuple[Batch, int, flows_pb2.Position]:
        """The next batch: rows, watermark, position; a new look into the store if all was sent."""
        if not self.waiting:
            self._cut(np.arange(self.reach.received, len(self.node.times)), len(self.node.times))
        if self.past:
            self.ordered = 0
        numbers, reach, watermark = self.waiting.pop(0)
        self.past = self.past or bool(watermark)
        return self.node.rows(numbers), watermark, reach.message(self.node.name, self.node.instance)


def position(
    node: str = "node-1", instance: int = 1, first: int = 0, received: int = 0, watermark_ns: int = 0
) -> flows_pb2.Position:
    said = flows_pb2.Position(node=node, instance=instance, received=received, watermark_ns=watermark_ns)
    setattr(said, "from", first)
    return said
