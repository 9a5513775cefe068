"""Who may call the relay: what of the flows each caller sees, and what those are told who are refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from flow_agents import Caller, asked, end, relay
from relay_readings import Reading, names
from service_samples import answered, refused, shop

from flows.proto import flows_pb2
from flows.relay.access.scope import Denied
from flows.relay.discovery.found import Found
from flows.relay.quota import Quota

if TYPE_CHECKING:
    from pathlib import Path

    from flow_agents import Served

CODE = grpc.StatusCode


def value(served: Served, name: str, **labels: str) -> float | None:
    return served.metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(
    ("namespaces", "expected"),
    [({"shop"}, [0, 1]), ({"bank"}, [1, 2]), ({"shop", "bank"}, [0, 1, 2])],
    ids=["shop", "bank", "both"],
)
async def test_a_caller_sees_flows_of_his_namespaces(tmp_path: Path, namespaces: set[str], expected: list[int]) -> None:
    agent = shop(loses=4)
    caller = Caller(frozenset(namespaces))
    async with relay(tmp_path, agent, access=caller, away=[Found("node-9", ("127.0.0.1:1",))]) as served:
        batches = await answered(served.batches(asked()))
        responses = await answered(served.flows())
    assert names(batches) == [agent.stored.uuid(number) for number in expected]
    assert [one.flow.uuid for one in responses if one.HasField("flow")] == names(batches)
    assert list(agent.requests[0].namespaces.names) == sorted(namespaces)
    coverage = batches[-1].coverage
    assert coverage.flows == len(expected)
    assert [(node.node, node.message) for node in coverage.nodes] == [("node-1", ""), ("node-9", "")]
    assert [(gap.reason, gap.count, gap.message) for gap in coverage.nodes[0].gaps] == [(flows_pb2.LOST, 0, "")]
    assert [(loss.count, loss.node) for batch in batches for loss in batch.losses] == [(0, "node-1")]
    assert not any(status.message for batch in batches for status in batch.node_status)


async def test_a_request_may_limit_itself_below_what_the_caller_may_see(tmp_path: Path) -> None:
    request = asked()
    request.namespaces.names.append("bank")
    agent = shop()
    async with relay(tmp_path, agent, access=Caller(frozenset({"shop"}))) as served:
        batches = await answered(served.batches(request))
    assert names(batches) == ["node-1/1"]


async def test_a_scope_that_shrinks_counts_at_once(tmp_path: Path) -> None:
    agent, caller = shop(), Caller(frozenset({"shop", "bank"}))
    async with relay(tmp_path, agent, access=caller) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(lambda reading: any(message.past for message in reading.messages))
        agent.happen(source=end("shop", "a"))
        await reading.until(lambda reading: reading.names() == ["node-1/4"])
        caller.grant.scope = type(caller.grant.scope)("jane", frozenset({"bank"}))
        agent.happen(source=end("shop", "a"))
        agent.happen(source=end("bank", "b"))
        await reading.until(lambda reading: len(reading.names()) > 1)
        await reading.stop()
    assert reading.names() == ["node-1/4", "node-1/6"]


@pytest.mark.parametrize("code", [CODE.UNAUTHENTICATED, CODE.PERMISSION_DENIED, CODE.UNAVAILABLE], ids=lambda code: code.name)
async def test_who_is_denied_learns_why_and_nothing_else(tmp_path: Path, code: grpc.StatusCode) -> None:
    agent = shop()
    async with relay(tmp_path, agent, access=Caller(refusal=Denied(code, "grant it"))) as served:
        for call in (served.flows(), served.batches(asked())):
            error = await refused(call)
            assert (error.code(), error.details()) == (code, "grant it")
        status: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = served.channel.unary_unary("/observer.Observer/ServerStatus")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status(b"")
        assert caught.value.code() is code
        assert value(served, "flows_relay_denials_total", reason=code.name) == 3
        assert value(served, "flows_relay_requests_total", method="get_flows", code=code.name) == 1
    assert agent.requests == []


async def test_a_right_that_is_revoked_ends_an_open_stream(tmp_path: Path) -> None:
    revocation = asyncio.get_running_loop().create_future()
    async with relay(tmp_path, shop(), access=Caller(revocation=revocation)) as served:
        reading = Reading(served.batches(asked(follow=True)))
        await reading.until(lambda reading: any(message.past for message in reading.messages))
        revocation.set_result(Denied(CODE.PERMISSION_DENIED, "the binding is gone"))
        await asyncio.wait_for(reading._task, 5)
    assert reading.error is not None
    assert (reading.error.code(), reading.error.details()) == (CODE.PERMISSION_DENIED, "the binding is gone")


BAD_FILTER = asked()
BAD_FILTER.query.whitelist.add().source_port.append("no port")
BAD_MASK = asked()
BAD_MASK.query.field_mask.paths.append("no.such")
BAD_DELAY = asked()
BAD_DELAY.max_delay.FromSeconds(60)
BAD_TIME = asked()
BAD_TIME.query.since.seconds = 1 << 60
TWICE = asked()
TWICE.resume.add(node="a")
TWICE.resume.add(node="a")
BACKWARDS = asked()
BACKWARDS.resume.add(node="a", **{"from": 5, "received": 4})


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (asked(first=True, follow=True), "first cannot be specified with follow"),
        (BAD_FILTER, 'source_port "no port"'),
        (BAD_MASK, "field_mask: not all of no.such are paths"),
        (BAD_DELAY, "max_delay: 60 s is out of range, expected 10 ms to 5 s"),
        (BAD_TIME, "is no time of the years 1 to 9999"),
        (TWICE, "expected one position of each node"),
        (BACKWARDS, "the position of a is none"),
    ],
    ids=["first and follow", "filter", "field mask", "delay", "time", "a node twice", "a position that goes back"],
)
async def test_requests_that_make_no_sense_say_what_to_change(
    tmp_path: Path, request_: flows_pb2.FlowsRequest, text: str
) -> None:
    agent = shop()
    async with relay(tmp_path, agent) as served:
        error = await refused(served.batches(request_))
    assert error.code() is CODE.INVALID_ARGUMENT
    assert text in (error.details() or "")
    assert agent.requests == []


@pytest.mark.parametrize(
    ("quota", "message"),
    [
        (Quota(2, 3), "this relay serves 2 streams already; close some, or ask another relay"),
        (Quota(3, 2), "jane has 2 streams open already; close some"),
    ],
    ids=["in all", "of one user"],
)
async def test_streams_are_limited_in_all_and_for_each_user(tmp_path: Path, quota: Quota, message: str) -> None:
    async with relay(tmp_path, shop(), quota=quota) as served:
        readings = [Reading(served.batches(asked(follow=True))) for _ in range(2)]
        for reading in readings:
            await reading.until(lambda reading: reading.messages)
        error = await refused(served.batches(asked()))
        assert error.code() is CODE.RESOURCE_EXHAUSTED
        assert error.details() == message
        assert value(served, "flows_relay_streams_open") == 2
        for reading in readings:
            await reading.stop()
        async with asyncio.timeout(5):
            while value(served, "flows_relay_streams_open"):  # noqa: ASYNC110 - a gauge has no event
                await asyncio.sleep(0.01)
        assert names(await answered(served.batches(asked())))
