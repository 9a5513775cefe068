"""Connections by who opened them: what another node's view is joined with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from agent_streams import composed
from samples import WALL, packed, record

from flows.agent.observer import observer as observer_module
from flows.agent.observer.flows_service import MAX_OPENERS
from flows.agent.observer.openers import Openers
from flows.agent.probe.record import Initiator
from flows.flow.tuples import opener_keys
from flows.proto import flows_pb2

if TYPE_CHECKING:
    from agent_streams import Filler

    from flows.proto.flows_pb2_grpc import FlowsStub

S = 10**9


def opener(address: str, port: int, protocol: int = 6) -> bytes:
    keys = opener_keys(np.array([protocol], np.uint8), (packed(address)[None], np.array([port])))
    return keys.astype("<u8").tobytes()


def at(second: float) -> dict[str, int]:
    return {"seconds": int(WALL // S + second), "nanos": int(second % 1 * S)}


async def connections(flows: FlowsStub, **request: Any) -> flows_pb2.FlowBatch:
    batch: flows_pb2.FlowBatch = await flows.GetConnections(flows_pb2.ConnectionsRequest(**request))
    return batch


ACCEPTED = {"local_addr": "10.0.0.2", "remote_addr": "10.0.0.1", "local_port": 80, "remote_port": 40_000}


@pytest.fixture
def filled(fill: Filler) -> Filler:
    """The server's side of a connection from 10.0.0.1:40000, another connection, and one whose opener is not known."""
    fill(
        (record(initiator=Initiator.REMOTE, time_ns=10 * S, start_ns=8 * S, conn_id=1, **ACCEPTED), 2, 1),
        (record(time_ns=10 * S, start_ns=8 * S, conn_id=2, local_port=40_001), 1, 3),
        (record(initiator=Initiator.UNKNOWN, time_ns=11 * S, start_ns=0, conn_id=3, **{**ACCEPTED, "remote_port": 50_000}), 2, 1),
    )
    return fill


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ([("10.0.0.1", 40_000)], [1]),
        ([("10.0.0.1", 40_001)], [2]),
        ([("10.0.0.1", 40_000), ("10.0.0.1", 40_001)], [1, 2]),
        ([("10.0.0.2", 80)], [3]),
        ([("10.0.0.1", 50_000)], [3]),
        ([("10.0.0.1", 40_000, 17)], []),
        ([("127.0.0.1", 40_000)], []),
        ([], []),
    ],
)
async def test_flows_of_openers(flows: FlowsStub, asked: list[Any], ids: list[int]) -> None:
    message = await connections(flows, openers=b"".join(opener(*each) for each in asked))
    assert [flow.socket_cookie for flow in composed([message])] == ids
    assert message.coverage.flows == len(ids)
    assert message.watermark_ns > WALL


@pytest.mark.usefixtures("filled")
async def test_who_asks_knows_the_opener_that_this_node_did_not_see(flows: FlowsStub) -> None:
    key = opener("10.0.0.1", 50_000)
    message = await connections(flows, openers=key)
    [flow] = composed([message])
    assert (flow.IP.source, flow.l4.TCP.source_port, flow.source.pod_name) == ("10.0.0.1", 50_000, "svc-a-1")
    assert (message.opener, list(message.at_source)) == (key, [0])


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("since", "until", "found"),
    [(None, None, 1), (9, None, 1), (10, None, 1), (10.5, None, 0), (None, 8, 1), (None, 7.5, 0), (8.5, 9, 1), (11, 12, 0)],
)
async def test_only_connections_that_were_open_then(
    flows: FlowsStub, since: float | None, until: float | None, found: int
) -> None:
    request: dict[str, Any] = {"openers": opener("10.0.0.1", 40_000)}
    request |= {} if since is None else {"since": at(since)}
    request |= {} if until is None else {"until": at(until)}
    assert len((await connections(flows, **request)).flows) == found


async def test_the_newest_are_told_and_how_many_are_not(flows: FlowsStub, fill: Filler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer_module, "MAX_CONNECTIONS", 3)
    fill(*[(record(time_ns=second * S, conn_id=second), 1, 3) for second in range(1, 6)])
    message = await connections(flows, openers=opener("10.0.0.1", 40_000))
    assert [flow.socket_cookie for flow in composed([message])] == [3, 4, 5]
    assert [(loss.node, loss.count) for loss in message.losses] == [("demo/node-1", 2)]


async def test_both_ends_on_this_node_are_named(flows: FlowsStub, fill: Filler) -> None:
    fill((record(), 1, 4), (record(initiator=Initiator.REMOTE, conn_id=2, pid=43, comm=b"nginx", **ACCEPTED), 2, 1))
    message = await connections(flows, openers=opener("10.0.0.1", 40_000))
    assert [flow.destination.pod_name for flow in composed([message])] == ["svc-b-1", "svc-b-1"]
    assert {end.detail.process.name for end in message.ends} == {"curl", "nginx"}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"openers": b"1234567"}, "7 bytes, expected 8 for each"),
        ({"openers": bytes(8 * (MAX_OPENERS + 1))}, "65537, expected 65536 at most"),
        ({"since": {"nanos": -5}}, "since: 0 s and -5 ns is no time"),
    ],
)
async def test_a_bad_request_is_an_invalid_argument(flows: FlowsStub, request_: dict[str, Any], words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await connections(flows, **request_)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in (caught.value.details() or "")


async def test_as_many_openers_as_may_be(flows: FlowsStub, filled: Filler) -> None:
    many = np.arange(1, MAX_OPENERS, dtype="<u8").tobytes() + opener("10.0.0.1", 40_000)
    assert len((await connections(flows, openers=many)).flows) == 1


def test_what_no_opener_can_be_is_never_found() -> None:
    icmp = {name: record(protocol=1)[name] for name in ("protocol", "initiator", "local_addr", "remote_addr")}
    columns = {**icmp, "time": np.array([1]), "local_port": np.array([0]), "remote_port": np.array([0])}
    assert not len(Openers(np.zeros(1, np.uint64)).among(columns))
