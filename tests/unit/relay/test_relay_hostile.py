"""An agent that is broken or means ill, among good ones: what the others tell still comes, whole and soon."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from flow_agents import FlowAgent, asked, end, relay
from join_samples import CLIENT, Row
from join_samples import batch as join_batch
from relay_agents import FAST, Agent, agents, found, pool, until
from relay_readings import names
from stream_samples import MS, S

from flows.flow.batch import COLUMNS, MOST_ENDS, MOST_NODES, Batch, BatchError, BatchReader, BatchWriter, objects
from flows.flow.ends import EndTable
from flows.proto import flow_pb2, flows_pb2, relay_pb2
from flows.relay.emission import MESSAGE_BYTES, BatchEmitter
from flows.relay.end_columns import EndColumns
from flows.relay.notices import MOST_COUNT, Notices
from flows.relay.parcel import Parcel
from flows.relay.remote_ends import Tables
from flows.relay.routes import Routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from flows.relay.discovery.found import Found

BAD = "bad"


def batch(*flows: bytes, ends: EndTable) -> Batch:
    columns = {name: np.zeros(len(flows), dtype) for name, dtype in COLUMNS.items()}
    columns["time_ns"][:] = time.time_ns() - S
    columns["source"][:] = columns["destination"][:] = ends.number(end("ns", "p").SerializeToString(deterministic=True))
    return Batch(objects(flows), objects([b""] * len(flows)), **columns)


def message(*flows: bytes) -> flows_pb2.FlowBatch:
    ends = EndTable()
    return BatchWriter(ends, [BAD]).write(batch(*flows, ends=ends))


@dataclass
class Hostile(Agent):
    """Its streams are one message. now_ns: what its clock says, if not the time."""

    told: flows_pb2.FlowBatch | None = None
    now_ns: int | None = None

    async def GetClock(self, request: Any, context: Any) -> flows_pb2.ClockResponse:  # noqa: N802
        answer = await super().GetClock(request, context)
        return answer if self.now_ns is None else flows_pb2.ClockResponse(now_ns=self.now_ns)

    async def GetFlows(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        yield self.told


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x0a\x7f"])
async def test_a_flow_that_cannot_be_read_does_not_end_a_client_of_observer(tmp_path: Path, raw: bytes) -> None:
    good, whole = FlowAgent("good"), flow_pb2.Flow(uuid="whole").SerializeToString()
    good.happen(900, 800)
    async with relay(tmp_path, good, Hostile(BAD, told=message(raw, whole, raw))) as served:
        responses = [response async for response in served.flows()]
    assert {response.flow.uuid for response in responses if response.HasField("flow")} == {*good.uuids(), "whole"}
    assert [one.lost_events.num_events_lost for one in responses if one.HasField("lost_events")] == [2]


async def test_thousands_of_names_of_nodes_are_refused_at_once(tmp_path: Path) -> None:
    good = FlowAgent("good")
    good.happen(900, 800)
    bad = Hostile(BAD, told=flows_pb2.FlowBatch(nodes=[str(number) for number in range(200_000)]))
    async with relay(tmp_path, good, bad) as served, asyncio.timeout(5):
        batches = [one async for one in served.batches(asked())]
    assert sorted(names(batches)) == sorted(good.uuids())
    assert not batches[-1].coverage.complete


async def test_flows_that_are_too_many_for_one_message_come_in_several(tmp_path: Path) -> None:
    long = flow_pb2.Flow(uuid="x", Summary="s" * 30_000).SerializeToString()
    bad = Hostile(BAD, told=message(*[long] * 1_000))  # of one nanosecond
    async with relay(tmp_path, bad) as served:
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES + (1 << 20))]
        async with grpc.aio.insecure_channel(f"unix://{tmp_path}/relay.sock", options) as channel:
            served.channel = channel
            batches = [one async for one in served.batches(asked())]
    assert names(batches) == ["x"] * 1_000
    assert [len(one.positions) > 0 for one in batches if one.flows][:-1] == [False] * 3


def test_pieces_of_a_parcel_are_all_of_it_and_what_is_said_comes_with_the_last() -> None:
    ends, position = EndTable(), flows_pb2.Position(node="n", received=3)
    flows = [flow_pb2.Flow(uuid=str(number), Summary="s" * (MESSAGE_BYTES // 2)).SerializeToString() for number in range(4)]
    parcel = Parcel(batch(*flows, ends=ends), ends, ["n"], watermark_ns=5, past=True, positions=[position])
    sent = [flows_pb2.FlowBatch.FromString(raw) for raw in BatchEmitter().messages(parcel)]
    assert names(sent) == ["0", "1", "2", "3"]
    assert [(one.watermark_ns, one.past, len(one.positions)) for one in sent] == [(0, False, 0)] * 3 + [(5, True, 1)]


@pytest.mark.parametrize("offset_years", [-200, 200])
async def test_a_clock_of_another_century_is_none(offset_years: int) -> None:
    bad = Hostile(BAD, now_ns=time.time_ns() + offset_years * 365 * 86_400 * S)
    async with agents(bad), pool() as empty, pool(ListOf(bad)) as pooled:
        assert not empty.peers()
        await until(lambda: any("set the node's clock" in peer.message for peer in pooled.peers()), pooled)
        assert pooled.peers()[0].state == relay_pb2.NODE_UNAVAILABLE


class ListOf:
    status = ""

    def __init__(self, *running: Agent) -> None:
        self._running = running

    async def follow(self, told: Callable[[Sequence[Found]], None]) -> None:
        told([found(one) for one in self._running])
        await asyncio.sleep(10 * FAST.connect)


def test_counts_that_no_number_holds_are_the_greatest() -> None:
    notices = Notices(limited=False)
    notices.loss([flows_pb2.Loss(node="n", reason="r", count=MOST_COUNT)] * 2)
    _, losses = notices.take()
    assert [loss.count for loss in losses] == [MOST_COUNT]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_stream_tells_of_so_many_nodes_at_most(fresh: bool) -> None:
    nodes: list[str] = []
    reader = BatchReader(EndTable(), nodes, most_nodes=3)
    reader.read(flows_pb2.FlowBatch(nodes=["a", "b"]))
    reader.read(flows_pb2.FlowBatch(nodes=["a", "b"], fresh=True))
    with pytest.raises(BatchError, match="more than 3 nodes"):
        reader.read(flows_pb2.FlowBatch(nodes=["c", "d"], fresh=fresh))
    assert nodes == ["a", "b"]


def test_a_stream_tells_of_so_many_ends_at_most() -> None:
    reader, told = BatchReader(EndTable(), []), flows_pb2.FlowBatch(ends=[end("ns", "p")] * (MOST_ENDS // 4))
    for _ in range(4):
        reader.read(told)
    with pytest.raises(BatchError, match="without beginning anew"):
        reader.read(told)
    told.fresh = True
    reader.read(told)


def test_as_many_nodes_as_a_stream_may_tell_of_take_no_time() -> None:
    began = time.process_time()
    BatchReader(EndTable(), []).read(flows_pb2.FlowBatch(nodes=[f"node-{number}" for number in range(MOST_NODES)]))
    assert time.process_time() - began < 0.5


def test_a_row_that_cannot_be_read_does_not_keep_others_from_being_asked_for() -> None:
    ends = EndTable()
    unnamed = Row(0, True, 10 * S, 9 * S + MS, source=CLIENT, destination=end())
    rows = join_batch([unnamed, unnamed], ends)
    rows.flows[0] = b"\xff\xff"
    columns = EndColumns(ends)
    columns.update()
    peer = type("Peer", (), {"name": "node-2", "addresses": frozenset({flow_pb2.Flow.FromString(rows.flows[1]).IP.destination})})
    routes = Routes([peer()], Tables(ends, columns, ["node-1"]), everywhere=False)
    named, _ = routes.of(rows, np.arange(2))
    assert [(peers, its.tolist()) for peers, its in named] == [((0,), [1])]
    assert routes.damaged == 1
