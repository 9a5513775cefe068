from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_samples import MS, flow, uuids

from flows.proto import flow_pb2, observer_pb2
from flows.relay.link import PeerError
from flows.relay.plain import REORDER_NS, PlainReader, gathered
from flows.relay.tables import Tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = 10**15


def response(time_ns: int, uuid: str | None = None, node: str = "node-1") -> observer_pb2.GetFlowsResponse:
    made = observer_pb2.GetFlowsResponse(flow=flow(uuid or str(time_ns), time_ns), node_name=node)
    made.time.FromNanoseconds(time_ns)
    return made


def reader(*, follow: bool = True, since_ns: int | None = None) -> PlainReader:
    return PlainReader("node-1", Tables(), follow=follow, since_ns=since_ns)


def test_ends_are_taken_out_and_the_rest_stays() -> None:
    whole = response(NOW)
    whole.flow.source.pod_name, whole.flow.destination_service.name = "cart-1", "till"
    whole.flow.l4.TCP.destination_port = 80
    tables = Tables()
    batch, _ = PlainReader("node-1", tables, follow=False, since_ns=None).read([whole], NOW, last=True)
    rest = flow_pb2.Flow.FromString(batch.flows[0])
    assert not rest.HasField("source")
    assert not rest.HasField("destination_service")
    assert rest.l4.TCP.destination_port == 80
    source, destination = (tables.ends[int(column[0])].end for column in (batch.source, batch.destination))
    assert (source.endpoint.pod_name, destination.service.name) == ("cart-1", "till")
    assert not source.HasField("service")
    assert (tables.nodes[int(batch.node[0])], batch.time_ns[0], batch.opener[0], batch.connections[0]) == ("node-1", NOW, 0, b"")


def test_followed_flows_wait_until_they_are_in_order() -> None:
    plain = reader()
    batch, message = plain.read([response(NOW), response(NOW - 20 * MS)], NOW)
    assert len(batch) == 0
    assert message.watermark_ns == NOW - REORDER_NS + 1
    batch, message = plain.read([response(NOW - 5 * MS)], NOW + REORDER_NS)
    assert batch.time_ns.tolist() == [NOW - 20 * MS, NOW - 5 * MS, NOW]
    assert message.positions[0].watermark_ns == NOW


def test_what_comes_later_than_that_is_given_at_once() -> None:
    plain = reader()
    plain.read([], NOW)
    batch, _ = plain.read([response(NOW - 2 * REORDER_NS)], NOW)
    assert len(batch) == 1


def test_an_answer_that_ends_has_everything_at_its_end() -> None:
    plain = reader(follow=False)
    batch, _ = plain.read([response(NOW), response(NOW + MS)], 0)
    assert len(batch) == 0
    batch, message = plain.read([], 0, last=True)
    assert batch.time_ns.tolist() == [NOW, NOW + MS]
    assert message.watermark_ns == NOW + MS + 1


def test_losses_and_states_pass() -> None:
    lost = observer_pb2.GetFlowsResponse(node_name="node-2")
    lost.lost_events.num_events_lost, lost.lost_events.source = 3, flow_pb2.HUBBLE_RING_BUFFER
    odd = observer_pb2.GetFlowsResponse(node_name="node-2")
    unknown: Any = 99
    odd.lost_events.num_events_lost, odd.lost_events.source = 1, unknown
    odd.time.FromSeconds(7)
    state = observer_pb2.GetFlowsResponse()
    state.node_status.node_names.append("node-3")
    _, message = reader().read([lost, odd, state, observer_pb2.GetFlowsResponse()], NOW)
    assert [(loss.node, loss.reason, loss.count) for loss in message.losses] == [
        ("node-2", "HUBBLE_RING_BUFFER", 3),
        ("node-2", "", 1),
    ]
    assert [loss.last.ToNanoseconds() for loss in message.losses] == [NOW, 7 * 10**9]
    assert [list(status.node_names) for status in message.node_status] == [["node-3"]]


@given(ages=st.lists(st.integers(0, 2 * REORDER_NS), max_size=30), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_everything_is_given_once_and_in_order_if_it_is_not_too_late(ages: list[int], cuts: list[int]) -> None:
    plain, got, now = reader(), [], NOW
    flows = [response(NOW - age, f"{number}") for number, age in enumerate(ages)]
    edges = [0, *sorted(min(cut, len(flows)) for cut in cuts), len(flows)]
    watermark = 0
    for first, last in itertools.pairwise(edges):
        now += REORDER_NS // 3
        batch, message = plain.read(flows[first:last], now)
        assert message.watermark_ns > watermark
        watermark = message.watermark_ns
        assert batch.time_ns.tolist() == sorted(batch.time_ns.tolist())
        got += uuids(batch)
    batch, _ = plain.read([], now + REORDER_NS, last=True)
    assert sorted(got + uuids(batch)) == sorted(str(number) for number in range(len(ages)))


async def test_responses_are_taken_together_also_none_and_an_error_comes_after_them() -> None:
    async def stream() -> AsyncIterator[observer_pb2.GetFlowsResponse]:
        yield response(1)
        yield response(2)
        await asyncio.sleep(0.2)
        yield response(3)
        raise PeerError(grpc.StatusCode.UNAVAILABLE, "gone")

    got: list[list[str]] = []
    gatherings = gathered(stream(), follow=True)
    while len([each for each in got if each]) < 2:
        got.append([one.flow.uuid for one in await anext(gatherings)])
    assert [each for each in got if each] == [["1", "2"], ["3"]]
    assert [] in got
    with pytest.raises(PeerError, match="gone"):
        await anext(gatherings)
