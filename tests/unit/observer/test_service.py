"""The Observer service over a real socket: selection, following, losses, errors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from samples import WALL, record

from flows.agent.observer.coverage import source_of
from flows.agent.observer.peers import Addressing
from flows.agent.observer.query import parse_request
from flows.agent.observer.server import serve
from flows.proto import flow_pb2, observer_pb2, observer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent_streams import Filler
    from google.protobuf.message import Message

    from flows.agent.observer.observer import Observer
    from flows.proto.observer_pb2_grpc import ObserverStub


async def ports(stub: ObserverStub, **request: Any) -> list[int]:
    call = stub.GetFlows(observer_pb2.GetFlowsRequest(**request))
    return [response.flow.l4.TCP.source_port - 40_000 async for response in call if response.HasField("flow")]


def at(second: int) -> dict[str, int]:
    return {"seconds": WALL // 10**9 + second}


@pytest.mark.parametrize(
    ("request_", "flows"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"number": 2}, [4, 5]),
        ({"number": 2, "first": True}, [0, 1]),
        ({"since": at(3)}, [3, 4, 5]),
        ({"until": at(3)}, [0, 1, 2, 3]),
        ({"since": at(1), "until": at(3)}, [1, 2, 3]),
        ({"whitelist": [{"source_port": ["40002"]}]}, [2]),
        ({"blacklist": [{"source_port": ["40002"]}]}, [0, 1, 3, 4, 5]),
        ({"whitelist": [{"source_pod": ["demo/svc-a"]}], "number": 1}, [5]),
        ({"whitelist": [{"destination_service": ["demo/svc-b"]}], "number": 1}, [5]),
        ({"whitelist": [{"source_ip": ["10.0.0.0/24"]}], "number": 1}, [5]),
        ({"whitelist": [{"source_label": ["app=svc-b"]}]}, []),
        ({"whitelist": [{"tcp_flags": [{"FIN": True}]}], "number": 1}, [5]),
        ({"whitelist": [{"node_name": ["demo/node-1"]}], "number": 1}, [5]),
        ({"whitelist": [{"verdict": ["DROPPED"]}]}, []),
    ],
)
async def test_what_is_selected(stub: ObserverStub, fill: Filler, request_: dict[str, Any], flows: list[int]) -> None:
    fill.count(6)
    assert await ports(stub, **request_) == flows


async def test_flows_come_in_time_order_across_batches(stub: ObserverStub, fill: Filler) -> None:
    for second in (3, 1, 2):
        fill.count(1, second)
    assert await ports(stub) == [1, 2, 3]


async def test_a_uuid_finds_its_flow(stub: ObserverStub, fill: Filler) -> None:
    fill.count(20)
    flows = [r.flow async for r in stub.GetFlows(observer_pb2.GetFlowsRequest())]
    wanted = flows[5]
    assert await ports(stub, whitelist=[{"uuid": [wanted.uuid]}]) == [wanted.l4.TCP.source_port - 40_000]
    assert await ports(stub, whitelist=[{"uuid": ["nonsense", wanted.uuid[:-1] + "x"]}]) == []
    assert len({flow.uuid for flow in flows}) == len(flows)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"first": True, "follow": True}, "first cannot be specified with follow"),
        ({"whitelist": [{"source_ip": ["10.0.0.0/99"]}]}, "10.0.0.0/99"),
        ({"whitelist": [{"source_port": ["http"]}]}, "http"),
        ({"whitelist": [{"source_label": ["a in ("]}]}, "a in ("),
        ({"field_mask": {"paths": ["no.such.path"]}}, "no.such.path"),
        ({"whitelist": [{"experimental": {"cel_expression": ["true"]}}]}, "not supported yet"),
    ],
)
async def test_a_bad_request_is_an_invalid_argument(stub: ObserverStub, request_: dict[str, Any], words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ports(stub, **request_)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in (caught.value.details() or "")


async def followed(stub: ObserverStub, **request: Any) -> asyncio.Queue[observer_pb2.GetFlowsResponse]:
    heard: asyncio.Queue[observer_pb2.GetFlowsResponse] = asyncio.Queue()
    call = stub.GetFlows(observer_pb2.GetFlowsRequest(follow=True, **request))

    async def listen() -> None:
        async for response in call:
            heard.put_nowait(response)

    await call.initial_metadata()
    heard.task = asyncio.create_task(listen())  # type: ignore[attr-defined]
    heard.call = call  # type: ignore[attr-defined]
    return heard


async def ended(heard: Any) -> None:
    heard.call.cancel()
    await asyncio.gather(heard.task, return_exceptions=True)


async def next_port(heard: asyncio.Queue[observer_pb2.GetFlowsResponse]) -> int:
    response = await asyncio.wait_for(heard.get(), 10)
    return response.flow.l4.TCP.source_port - 40_000


@pytest.mark.parametrize(("request_", "flows"), [({}, [3, 4]), ({"number": 2}, [1, 2, 3, 4]), ({"since": at(2)}, [2, 3, 4])])
async def test_following_goes_on_where_history_ends(
    stub: ObserverStub, fill: Filler, request_: dict[str, Any], flows: list[int]
) -> None:
    fill.count(3)
    heard = await followed(stub, **request_)
    fill.count(1, 3)
    fill.count(1, 4)
    assert [await next_port(heard) for _ in flows] == flows
    await ended(heard)


async def test_followers_get_only_what_matches(stub: ObserverStub, fill: Filler) -> None:
    heard = await followed(stub, whitelist=[{"source_port": ["40007"]}])
    fill.count(8)
    assert await next_port(heard) == 7
    await ended(heard)


async def test_a_follower_that_is_overtaken_is_told_how_many_it_missed(observer: Observer, fill: Filler) -> None:
    parsed = parse_request(observer_pb2.GetFlowsRequest(follow=True))
    cursor = observer.past(parsed).end
    fill.count(20)
    selected = observer.news(parsed, cursor, WALL)
    assert len(selected) == 16
    assert [(loss.reason, loss.count, loss.first_ns, loss.last_ns) for loss in selected.losses] == [
        ("overwritten", 4, WALL, WALL + 4 * 10**9)
    ]
    assert source_of(selected.losses[0]) == flow_pb2.HUBBLE_RING_BUFFER


async def test_losses_are_told_whatever_the_filter(stub: ObserverStub, fill: Filler) -> None:
    fill.count(1)
    fill.store.lose("ring full", 7, WALL, WALL + 1)
    request = observer_pb2.GetFlowsRequest(whitelist=[flow_pb2.FlowFilter(source_port=["1"])])
    responses = [response async for response in stub.GetFlows(request)]
    assert [response.lost_events.num_events_lost for response in responses] == [7]
    assert responses[0].lost_events.source == flow_pb2.PERF_EVENT_RING_BUFFER


async def test_a_request_first_has_the_kernels_flows_stored(observer: Observer, fill: Filler, tmp_path: Path) -> None:
    def freshen(done: Callable[[], None]) -> None:
        fill.count(1, 5)
        done()

    address = f"unix://{tmp_path}/fresh.sock"
    server = await serve(observer, Addressing("node-1", "demo", (address,)), dict, freshen=freshen)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = observer_pb2_grpc.ObserverStub(channel)  # type: ignore[no-untyped-call] # generated
        assert await ports(stub) == [5]
    await server.stop(None)


def fields(message: Message) -> set[str]:
    return {descriptor.name for descriptor, _ in message.ListFields()}


async def test_a_mask_leaves_only_its_fields(stub: ObserverStub, fill: Filler) -> None:
    fill((record(), 1, 2))
    request = observer_pb2.GetFlowsRequest(field_mask={"paths": ["verdict", "source.pod_name"]})
    [response] = [response async for response in stub.GetFlows(request)]
    flow = response.flow
    assert (response.node_name, response.HasField("time")) == ("", False)
    assert fields(flow) == {"verdict", "source"}
    assert fields(flow.source) == {"pod_name"}


async def test_status_counts_flows(stub: ObserverStub, fill: Filler) -> None:
    fill.count(20)
    status = await stub.ServerStatus(observer_pb2.ServerStatusRequest())
    assert (status.num_flows, status.max_flows, status.seen_flows) == (16, 16, 20)
    assert status.uptime_ns > 0


async def test_namespaces_are_those_of_stored_flows(stub: ObserverStub, fill: Filler) -> None:
    assert not (await stub.GetNamespaces(observer_pb2.GetNamespacesRequest())).namespaces
    fill((record(), 1, 4))
    answer = await stub.GetNamespaces(observer_pb2.GetNamespacesRequest())
    assert [namespace.namespace for namespace in answer.namespaces] == ["demo"]


@pytest.mark.parametrize("method", ["GetNodes", "GetAgentEvents", "GetDebugEvents"])
async def test_what_agents_do_not_serve_is_unimplemented(stub: ObserverStub, method: str) -> None:
    request = getattr(observer_pb2, f"{method}Request")()
    call = getattr(stub, method)(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call if method == "GetNodes" else call.read())
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
