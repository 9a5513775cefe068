"""flows.v1.Flows of an agent: the same flows as Observer's, in batches; bad requests; limits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from agent_streams import INSTANCE, an_observer, answered, composed, port
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from samples import WALL, packed, record

from flows.agent.observer import answer, ends, limits
from flows.agent.observer.query import parse_request
from flows.agent.probe.record import Initiator
from flows.agent.store.store import FlowStore
from flows.flow.batch import compose
from flows.flow.tuples import opener_keys, tuple_keys
from flows.proto import extension_pb2, flow_pb2, flows_pb2, flows_pb2_grpc, observer_pb2

if TYPE_CHECKING:
    from agent_streams import Filler
    from samples import Names

    from flows.agent.observer.observer import Observer
    from flows.proto.flows_pb2_grpc import FlowsStub
    from flows.proto.observer_pb2_grpc import ObserverStub


def at(second: int) -> dict[str, int]:
    return {"seconds": WALL // 10**9 + second}


def mixed(fill: Filler) -> None:
    """Both sides of a connection, a Service's address, an unknown opener, another protocol; out of order."""
    ends = {"local_addr": "10.0.0.2", "remote_addr": "10.0.0.1", "local_port": 80, "remote_port": 40_000}
    fill(
        (record(time_ns=4 * 10**9, start_ns=0), 1, 3),
        (record(time_ns=2 * 10**9), 1, 4),
        (record(time_ns=2 * 10**9 + 1, initiator=Initiator.REMOTE, conn_id=2, pid=43, comm=b"nginx", **ends), 2, 1),
        (record(time_ns=10**9, initiator=Initiator.UNKNOWN, conn_id=3, local_port=40_001), 1, 0),
        (record(time_ns=3 * 10**9, protocol=17, conn_id=1 << 63 | 4, local_addr="fd00::1", remote_addr="fd00::2"), 1, 2),
    )


def details(flow: flow_pb2.Flow) -> tuple[flow_pb2.Flow, extension_pb2.FlowExtension]:
    """A flow and what is in its Any, whose bytes need not be the same."""
    extension, bare = extension_pb2.FlowExtension(), flow_pb2.Flow()
    flow.extensions.Unpack(extension)
    bare.CopyFrom(flow)
    bare.ClearField("extensions")
    return bare, extension


QUERIES: list[dict[str, Any]] = [
    {},
    {"number": 2},
    {"number": 2, "first": True},
    {"since": at(2)},
    {"until": at(3)},
    {"whitelist": [{"source_pod": ["demo/svc-a"]}]},
    {"blacklist": [{"protocol": ["tcp"]}]},
    {"whitelist": [{"source_ip": ["fd00::/64"]}]},
    {"whitelist": [{"verdict": ["DROPPED"]}]},
]


@pytest.mark.parametrize("query", QUERIES)
async def test_batches_are_what_observer_answers(
    flows: FlowsStub, stub: ObserverStub, fill: Filler, query: dict[str, Any]
) -> None:
    mixed(fill)
    request = observer_pb2.GetFlowsRequest(**query)
    plain = [response.flow async for response in stub.GetFlows(request)]
    whole = composed(await answered(flows, query=request))
    assert list(map(details, whole)) == list(map(details, plain))
    assert len({flow.uuid for flow in whole}) == len(whole)


@pytest.mark.parametrize("paths", [["verdict", "source.pod_name"], ["time", "extensions"], ["l4.TCP.source_port", "uuid"]])
async def test_masked_batches_are_what_observer_answers_once_the_ends_are_masked(
    flows: FlowsStub, stub: ObserverStub, fill: Filler, paths: list[str]
) -> None:
    mixed(fill)
    request = observer_pb2.GetFlowsRequest(field_mask=FieldMask(paths=paths))
    plain = [response.flow async for response in stub.GetFlows(request)]
    messages = await answered(flows, query=request)
    shown = []
    for flow in composed(messages):
        shown.append(flow_pb2.Flow())
        request.field_mask.MergeMessage(flow, shown[-1])
    assert list(map(details, shown)) == list(map(details, plain))
    assert [bool(message.connections) for message in messages] == ["extensions" in paths]


async def test_columns_say_what_flows_do(flows: FlowsStub, fill: Filler) -> None:
    mixed(fill)
    [message] = await answered(flows)
    columns = {name: np.frombuffer(getattr(message, name), dtype) for name, dtype in (("opener", "<u8"), ("tuple", "<u8"))}
    tcp = np.array([6], np.uint8)
    client, server = ((packed(address)[None], np.array([number])) for address, number in (("10.0.0.1", 40_000), ("10.0.0.2", 80)))
    opener, both = opener_keys(tcp, client)[0], tuple_keys(tcp, client, server)[0]
    assert columns["opener"][[0, 1, 2, 4]].tolist() == [0, opener, opener, opener]  # of the first nobody knows who opened
    assert columns["tuple"][[1, 2, 4]].tolist() == [both] * 3
    assert list(message.at_source) == [1, 1, 0, 1, 1]
    assert np.frombuffer(message.time_ns, "<i8").tolist() == [WALL + 10**9 * second + more for second, more in SECONDS]
    assert np.frombuffer(message.start_ns, "<i8")[-1] == 0
    assert list(message.nodes) == ["demo/node-1"]


SECONDS = [(1, 0), (2, 0), (2, 1), (3, 0), (4, 0)]


async def test_an_end_is_sent_once(flows: FlowsStub, fill: Filler) -> None:
    fill.count(10)
    [message] = await answered(flows)
    assert (len(message.flows), len(message.ends)) == (10, 2)


async def test_large_answers_come_in_several_batches(fill: Filler, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    observer = an_observer(FlowStore(4_096), names)
    fill.store = observer.store
    fill(*[(record(time_ns=index, local_port=index), 1, 3) for index in range(2_500)])
    selected = observer.past(parse_request(observer_pb2.GetFlowsRequest()))
    parts = [selected.part(start, start + answer.PART) for start in range(0, 2_500, answer.PART)]
    batches = [observer.batch(part, observer.ends) for part in parts]
    whole = [flow_pb2.Flow.FromString(raw) for batch in batches for raw in compose(batch, observer.ends.table)]
    assert [flow.l4.TCP.source_port for flow in whole] == list(range(2_500))


async def test_ends_begin_anew_when_there_are_too_many(
    flows: FlowsStub, fill: Filler, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "PART", 2)
    monkeypatch.setattr(ends, "MAX_ENDS", 3)
    fill(*[(record(time_ns=index, pid=100 + index, local_port=40_000 + index), 1, 3) for index in range(10)])
    messages = await answered(flows)
    assert sum(message.fresh for message in messages) > 1
    assert list(map(port, composed(messages))) == list(range(10))
    assert len(observer.ends.table) <= 5


@pytest.mark.parametrize(("names_", "shown"), [(["demo"], [0, 1, 2]), (["other"], []), ([], []), (["other", "demo"], [0, 1, 2])])
async def test_only_flows_with_an_end_in_the_namespaces(
    flows: FlowsStub, fill: Filler, names_: list[str], shown: list[int]
) -> None:
    fill(*[(record(local_port=40_000 + i, time_ns=i), *both) for i, both in enumerate([(1, 4), (4, 3), (4, 2), (4, 4), (0, 0)])])
    messages = await answered(flows, namespaces=flows_pb2.NamespaceLimit(names=names_))
    assert list(map(port, composed(messages))) == shown
    newest = await answered(flows, namespaces=flows_pb2.NamespaceLimit(names=names_), query={"number": 2})
    assert list(map(port, composed(newest))) == shown[-2:]


def position(**fields: Any) -> dict[str, Any]:
    return {"node": "demo/node-1", "instance": INSTANCE, **fields}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"query": {"first": True, "follow": True}}, "first cannot be specified with follow"),
        ({"query": {"whitelist": [{"source_ip": ["nonsense/99"]}]}}, "nonsense/99"),
        ({"query": {"since": {"seconds": 1 << 62}}}, "since: 4611686018427387904 s and 0 ns is no time"),
        ({"query": {"until": {"nanos": -1}}}, "until: 0 s and -1 ns is no time"),
        ({"max_delay": {"nanos": 9_999_999}}, "expected 10 ms to 5 s"),
        ({"max_delay": {"seconds": 5, "nanos": 1}}, "expected 10 ms to 5 s"),
        ({"resume": [position(node="demo/node-2")]}, "positions of demo/node-2, expected one of demo/node-1"),
        ({"resume": [position(), position()]}, "expected one of demo/node-1"),
        ({"resume": [position(**{"from": 3, "received": 2})]}, "from 3, received 2 is no position"),
        ({"resume": [position(received=1 << 63)]}, "is no position"),
        ({"resume": [position(received=9)]}, "this agent has seen 2 flows only"),
    ],
)
async def test_a_bad_request_is_an_invalid_argument(flows: FlowsStub, fill: Filler, request_: dict[str, Any], words: str) -> None:
    fill.count(2)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answered(flows, **request_)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in (caught.value.details() or "")


async def test_too_many_streams_are_refused_with_the_cure(
    channel: grpc.aio.Channel, fill: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    flows = flows_pb2_grpc.FlowsStub(channel)  # type: ignore[no-untyped-call] # generated
    following = flows_pb2.FlowsRequest(query={"follow": True})
    calls = [flows.GetFlows(following) for _ in range(limits.STREAMS)]
    for call in calls:
        await call.initial_metadata()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answered(flows)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "128 streams already; close some" in (caught.value.details() or "")
    for call in calls:
        call.cancel()


async def test_a_request_that_is_too_large_is_refused(flows: FlowsStub) -> None:
    query = observer_pb2.GetFlowsRequest(whitelist=[flow_pb2.FlowFilter(source_pod=["x" * (2 << 20)])])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answered(flows, query=query)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_clock_is_the_wall_clock(flows: FlowsStub) -> None:
    before = time.time_ns()
    told = (await flows.GetClock(flows_pb2.ClockRequest())).now_ns
    assert before <= told <= time.time_ns()


async def test_health_and_reflection_know_all_services(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    for service in ("", "observer.Observer", "flows.v1.Flows", "peer.Peer"):
        answer_ = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer_.status == health_pb2.HealthCheckResponse.SERVING
    untyped: Any = channel  # the types know synchronous channels only
    ask: Any = reflection_pb2_grpc.ServerReflectionStub(untyped).ServerReflectionInfo
    listed = [one async for one in ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))]
    served = {service.name for service in listed[0].list_services_response.service}
    assert served >= {"observer.Observer", "flows.v1.Flows", "peer.Peer"}


async def test_a_follower_gets_the_rest_and_its_coverage_when_the_agent_ends(
    flows: FlowsStub, fill: Filler, observer: Observer
) -> None:
    request = flows_pb2.FlowsRequest(query=observer_pb2.GetFlowsRequest(follow=True))
    request.max_delay.seconds = 5
    stream = aiter(flows.GetFlows(request))
    assert (await anext(stream)).past
    fill.count(3)
    began = time.monotonic()
    observer.ended.set()
    rest = [batch async for batch in stream]
    assert sum(len(batch.flows) for batch in rest) == 3
    assert rest[-1].positions[0].received == observer.store.written
    assert rest[-1].coverage.nodes[0].node == observer.node
    assert time.monotonic() - began < 5
