"""Status: sums, nodes and namespaces of several agents, for callers who may see all or some."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health, health_pb2
from relay_agents import Agent, List, agents, connected, found, pool, until

from flows.proto import relay_pb2
from flows.relay import health as relay_health
from flows.relay.access.scope import UNNAMED
from flows.relay.discovery.found import Found
from flows.relay.metrics import CONNECTIVITY, Metrics
from flows.relay.status import Status
from flows.wire.addresses import AddressError

NOBODY = "127.0.0.1:1"  # tcpmux: refuses
SHOP = frozenset({"shop"})


async def test_sums_over_agents_that_answer() -> None:
    async with (
        agents(Agent("a", seen=1), Agent("b", seen=5)) as (one, other),
        pool(List(found(one), found(other), Found("c", (NOBODY,)))) as pooled,
    ):
        await connected(pooled, 2)
        status = await Status(pooled, "9.9").server_status()
        assert (status.num_flows, status.max_flows, status.seen_flows, status.flows_rate) == (20, 40, 6, 1.0)
        assert status.uptime_ns == 5 * 60 * 10**9
        assert (status.num_connected_nodes.value, status.num_unavailable_nodes.value) == (2, 1)
        assert status.unavailable_nodes == ["c"]
        assert status.version == "flows-relay v9.9"


async def test_a_limited_caller_learns_no_numbers_and_no_addresses() -> None:
    async with agents(Agent("a")) as (one,), pool(List(found(one), Found("", (NOBODY,)))) as pooled:
        await connected(pooled)
        status = Status(pooled, "9.9")
        limited = await status.server_status(SHOP)
        assert (limited.num_flows, limited.max_flows, limited.seen_flows, limited.flows_rate) == (0, 0, 0, 0)
        assert (limited.num_connected_nodes.value, list(limited.unavailable_nodes)) == (1, [UNNAMED])
        whole, part = (await status.nodes()).nodes, (await status.nodes(SHOP)).nodes
        assert {node.name: node.address for node in whole} == {"a": one.address, NOBODY: NOBODY}
        assert {node.name: node.state for node in part} == {"a": relay_pb2.NODE_CONNECTED, UNNAMED: relay_pb2.NODE_UNAVAILABLE}
        assert not any(node.address or node.num_flows or node.seen_flows or node.HasField("tls") for node in part)
        assert next(node for node in part if node.name == "a").version == "flows v9"


async def test_eleven_unavailable_nodes_are_counted_and_ten_named() -> None:
    async with pool(List(*(Found(f"n-{number:02}", (NOBODY,)) for number in range(11)))) as pooled:
        await until(lambda: len(pooled.peers()) == 11, pooled)
        status = await Status(pooled, "9.9").server_status()
        assert (status.num_unavailable_nodes.value, len(status.unavailable_nodes)) == (11, 10)


async def test_a_node_that_fails_to_answer_is_an_error_and_the_rest_is_shown() -> None:
    async with (
        agents(Agent("a", refusal=grpc.StatusCode.INTERNAL), Agent("b")) as (one, other),
        pool(List(found(one), found(other))) as pooled,
    ):
        await connected(pooled, 2)
        status = Status(pooled, "9.9")
        states = {node.name: node.state for node in (await status.nodes()).nodes}
        assert states == {"a": relay_pb2.NODE_ERROR, "b": relay_pb2.NODE_CONNECTED}
        assert (await status.server_status()).unavailable_nodes == ["a"]
        assert [one.namespace for one in (await status.namespaces()).namespaces] == ["shop"]


async def test_namespaces_are_united_and_limited() -> None:
    async with (
        agents(Agent("a", namespaces=("shop", "db")), Agent("b", namespaces=("shop", "web"))) as (one, other),
        pool(List(found(one), found(other))) as pooled,
    ):
        await connected(pooled, 2)
        status = Status(pooled, "9.9")
        assert [each.namespace for each in (await status.namespaces()).namespaces] == ["db", "shop", "web"]
        assert [each.namespace for each in (await status.namespaces(SHOP)).namespaces] == ["shop"]
        assert (await status.namespaces(frozenset())).namespaces == []


async def test_many_callers_ask_the_agents_once() -> None:
    async with agents(Agent("a")) as (one,), pool(List(found(one))) as pooled:
        await connected(pooled)
        status = Status(pooled, "9.9")
        await asyncio.gather(*(status.server_status() for _ in range(20)), *(status.nodes(SHOP) for _ in range(20)))
        assert one.asked["ServerStatus"] == 1
        status._statuses._at -= 1.0
        await status.server_status()
        assert one.asked["ServerStatus"] == 2


async def _serving(servicer: health.aio.HealthServicer, name: str) -> bool:
    answer = await servicer.Check(health_pb2.HealthCheckRequest(service=name), None)  # type: ignore[arg-type]
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_health_follows_discovery_and_connections() -> None:
    servicer, discovery = health.aio.HealthServicer(), List()
    async with agents(Agent("a")) as (one,), pool(discovery) as pooled:
        keeping = asyncio.create_task(relay_health.keep([servicer], pooled, 0.1))

        async def becomes(wanted: bool) -> None:
            async with asyncio.timeout(5):
                while {await _serving(servicer, name) for name in relay_health.NAMES} != {wanted}:  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.01)

        await asyncio.sleep(0.05)
        await becomes(False)
        assert relay_health.trouble(pooled) == "no agents are known"
        discovery.set(found(one))
        await becomes(True)
        discovery.set(found(one), status="the API is away")
        await becomes(False)
        discovery.status = ""  # without a change of the pool
        await becomes(True)
        await one.stop()
        await becomes(False)
        assert "none of 1 agents is connected; a: " in relay_health.trouble(pooled)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def _fetch(url: str) -> str:
    import urllib.request  # noqa: PLC0415

    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


async def test_metrics_over_http() -> None:
    metrics = Metrics()
    server, thread = metrics.serve("127.0.0.1:0")
    async with agents(Agent("a", clock_ahead_ns=3 * 10**9)) as (one,), pool(List(found(one), Found("b", (NOBODY,)))) as pooled:
        metrics.watch(pooled)
        await connected(pooled)
        await until(lambda: pooled.peers()[1].connectivity == "TRANSIENT_FAILURE", pooled)
        metrics.flows.inc(3)
        metrics.lost.labels("slow").inc()
        metrics.joins.joined, metrics.joins.asked, metrics.joins.failed = 7, 5, 2
        text = await asyncio.to_thread(_fetch, f"http://127.0.0.1:{server.server_port}/metrics")
    server.shutdown()
    server.server_close()
    thread.join()
    states = {state: f'hubble_relay_pool_peer_connection_status{{status="{state}"}}' for state in CONNECTIVITY}
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert (lines[states["READY"]], lines[states["SHUTDOWN"]]) == ("1.0", "0.0")
    assert 2.9 < float(lines["flows_relay_clock_offset_max_seconds"]) < 3.1
    assert (lines["flows_relay_flows_delivered_total"], lines['flows_relay_flows_lost_total{reason="slow"}']) == ("3.0", "1.0")
    assert lines["flows_relay_discovery_up"] == "1.0"
    joins = [float(lines[f'flows_relay_joins_total{{result="{result}"}}']) for result in ("joined", "added", "not_seen")]
    assert joins == [7.0, 0.0, 0.0]
    assert (lines["flows_relay_questions_total"], lines["flows_relay_questions_failed_total"]) == ("5.0", "2.0")
    assert float(lines["flows_relay_questions_created"]) > 1.7e9
    assert float(lines["process_resident_memory_bytes"]) > 0


def test_metrics_on_a_port_in_use_are_a_fault_with_its_cure() -> None:
    server, thread = Metrics().serve("127.0.0.1:0")
    with pytest.raises(AddressError, match="choose another with --metrics-listen"):
        Metrics().serve(f"127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    thread.join()
