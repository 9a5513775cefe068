"""Random agents, random breaks of their streams and of the client's: everything is delivered once, and in order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from stream_samples import AgentStream, Node, uuids

from flows.proto.flows_pb2 import Position
from flows.relay.merge import Lane, Merge


class World:
    """Agents, one relay's answer, and its client, who keeps the last position of each node."""

    def __init__(self, offsets: list[int]) -> None:
        self.nodes = [Node(f"node-{index}", offset=offset) for index, offset in enumerate(offsets)]
        self.now = 1_000
        self.got: list[str] = []
        self.times: list[int] = []
        self.positions: dict[str, Position] = {}
        self.connect()

    def connect(self) -> None:
        """The client, anew: to a relay that knows nothing."""
        self.merge = Merge()
        self.streams, self.received = [], []
        for node in self.nodes:
            position = self.positions.get(node.name)
            self.merge.lanes.append(Lane(position))
            self.streams.append(AgentStream(node, position))
            self.received.append(position)

    def record(self, index: int, times: list[int]) -> None:
        """Flows of one node; a true time becomes one by its clock. Numbers are not quite in the order of times."""
        node = self.nodes[index]
        node.store(*(node.promised + time for time in times))

    def tick(self) -> None:
        """Time goes on; each agent has all flows before now in its store."""
        self.now += 10
        for node in self.nodes:
            node.promised = self.now + node.offset

    def send(self, index: int) -> None:
        """An agent's next batch."""
        rows, watermark, position = self.streams[index].next()
        lane = self.merge.lanes[index]
        lane.add(rows, self.nodes[index].offset, position)
        if not watermark and len(rows):  # a part of what was there when the stream began
            watermark = min(int(rows.time_ns.max()), self.streams[index].ordered)
        if watermark:
            lane.advance(watermark - self.nodes[index].offset, 0.0)
        self.received[index] = position

    def round(self, most: int | None) -> None:
        """What happens all the time: each agent sends a batch, the relay gives out what is in order, or a part of that."""
        self.tick()
        for index in range(len(self.nodes)):
            self.send(index)
        self.emit(most)

    def cut(self, index: int) -> None:
        """An agent's stream breaks, and goes on."""
        self.streams[index] = AgentStream(self.nodes[index], self.received[index])

    def emit(self, most: int | None) -> None:
        rows = self.merge.take(most)
        if rows is not None:
            self.got += uuids(rows.batch)
            self.times += rows.at_ns.tolist()
        for position in self.merge.positions():  # as they travel
            self.positions[position.node] = Position.FromString(position.SerializeToString())

    def finish(self) -> None:
        self.tick()
        for index, node in enumerate(self.nodes):
            while self.streams[index].waiting or self.streams[index].reach.received < len(node.times):
                self.send(index)
            self.send(index)
        for lane in self.merge.lanes:
            lane.live = False
        self.emit(None)

    def recorded(self) -> list[str]:
        return sorted(node.uuid(number) for node in self.nodes for number in range(len(node.times)))


TIMES = st.lists(st.integers(0, 25), min_size=1, max_size=7)
NODE = st.integers(0, 2)
RECORD = st.tuples(st.just("record"), NODE, TIMES)
EMIT = st.sampled_from([1, 2, 3, None])
STEP = st.one_of(
    RECORD,
    RECORD,
    RECORD,
    st.tuples(st.just("round"), EMIT),
    st.tuples(st.just("round"), EMIT),
    st.tuples(st.just("tick")),
    st.tuples(st.just("send"), NODE),
    st.tuples(st.just("emit"), EMIT),
)
CUT = st.one_of(STEP, STEP, st.tuples(st.just("cut"), NODE), st.tuples(st.just("connect")))
OFFSETS = st.lists(st.integers(-500, 500), min_size=3, max_size=3)


@settings(max_examples=400)
@given(offsets=OFFSETS, steps=st.lists(CUT, min_size=15, max_size=60))
def test_with_breaks_everything_is_delivered_exactly_once(offsets: list[int], steps: list[tuple[Any, ...]]) -> None:
    world = World(offsets)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    world.finish()
    assert sorted(world.got) == world.recorded()


@settings(max_examples=300)
@given(offsets=OFFSETS, steps=st.lists(st.one_of(STEP, st.tuples(st.just("cut"), NODE)), max_size=60))
def test_without_breaks_of_the_client_the_order_is_exact(offsets: list[int], steps: list[tuple[Any, ...]]) -> None:
    world = World(offsets)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    world.finish()
    assert sorted(world.got) == world.recorded()
    assert world.times == sorted(world.times)


@settings(max_examples=200)
@given(offsets=OFFSETS, steps=st.lists(CUT, min_size=15, max_size=60), away=NODE, since=st.integers(0, 30))
def test_what_comes_late_is_delivered_once_and_the_others_stay_in_order(
    offsets: list[int], steps: list[tuple[Any, ...]], away: int, since: int
) -> None:
    world = World(offsets)
    connected = 0
    for number, (name, *arguments) in enumerate(steps):
        world.merge.lanes[away].live = number < since
        getattr(world, name)(*arguments)
        connected += name == "connect"
    world.finish()
    assert sorted(world.got) == world.recorded()
    if not connected:
        others = [time for uuid, time in zip(world.got, world.times, strict=True) if uuid.split("/")[0] != f"node-{away}"]
        assert others == sorted(others)
