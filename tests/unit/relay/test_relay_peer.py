"""Peers: connected, kept, replaced and removed, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from relay_agents import Agent, List, agents, connected, found, pool, until

from flows.proto import flows_pb2, observer_pb2, relay_pb2
from flows.relay.dialer import Dialer
from flows.relay.discovery.found import Found
from flows.relay.keeper import Pace
from flows.relay.peer import Peer, PeerError
from flows.wire.tls import ClientFiles, ClientTls, ServerFiles, ServerTls

if TYPE_CHECKING:
    from pathlib import Path

FOLLOW = flows_pb2.FlowsRequest(query=observer_pb2.GetFlowsRequest(follow=True))
SECOND = 10**9


async def test_an_agent_of_ours_has_batches_and_a_clock() -> None:
    async with agents(Agent(clock_ahead_ns=5 * SECOND)) as (agent,), pool(List(found(agent))) as pooled:
        (peer,) = await connected(pooled)
        assert (peer.name, peer.address, peer.batched, peer.connectivity) == ("node-1", agent.address, True, "READY")
        assert peer.addresses == {"127.0.0.1"}
        assert peer.clock is not None
        assert abs(peer.clock.offset_ns - 5 * SECOND) <= peer.clock.error_ns < SECOND // 10
        batches = [batch async for batch in peer.get_batches(flows_pb2.FlowsRequest())]
        assert batches[-1].coverage.nodes[0].node == "node-1"
        assert (await peer.get_connections(flows_pb2.ConnectionsRequest(), 1)).nodes == ["node-1"]
        assert (await peer.server_status(1)).seen_flows == 100
        assert [one.namespace for one in (await peer.namespaces(1)).namespaces] == ["shop"]


async def test_a_foreign_agent_has_neither() -> None:
    async with agents(Agent(), foreign=True) as (agent,), pool(List(found(agent))) as pooled:
        (peer,) = await connected(pooled)
        assert (peer.batched, peer.clock) == (False, None)
        with pytest.raises(PeerError) as caught:
            await anext(aiter(peer.get_batches(flows_pb2.FlowsRequest())))
        assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
        assert [one.node_name async for one in peer.get_flows(observer_pb2.GetFlowsRequest())] == ["node-1"]


@pytest.mark.parametrize("foreign", [False, True])
async def test_a_name_that_was_not_given_is_learnt(foreign: bool) -> None:
    async with agents(Agent("east/node-7"), foreign=foreign) as (agent,), pool(List(Found("", (agent.address,)))) as pooled:
        (peer,) = await connected(pooled)
        assert (peer.name, peer.named) == ("east/node-7", True)


async def test_an_agent_that_dies_and_comes_back_is_connected_again() -> None:
    async with agents(Agent()) as (agent,), pool(List(found(agent))) as pooled:
        (peer,) = await connected(pooled)
        since = peer.since_ns
        await agent.stop()
        await until(lambda: "connection refused" in peer.message, pooled)
        assert peer.state == relay_pb2.NODE_UNAVAILABLE
        assert peer.since_ns > since
        assert peer.message.startswith(f"connecting to node-1 at {agent.address}")
        await agent.start()
        await connected(pooled)
        assert peer.message == ""


async def test_a_stream_of_an_agent_that_dies_fails_and_says_so() -> None:
    async with agents(Agent()) as (agent,), pool(List(found(agent))) as pooled:
        (peer,) = await connected(pooled)
        stream = peer.get_batches(FOLLOW)
        assert (await anext(aiter(stream))).watermark_ns == 1
        await agent.stop()
        with pytest.raises(PeerError, match=r"asking node-1 \(127.0.0.1:\d+\) for GetFlows") as caught:
            async for _ in stream:
                pass
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(PeerError, match="asking node-1"):
            await peer.server_status(1)


async def test_who_stops_reading_ends_the_call() -> None:
    async with agents(Agent()) as (agent,), pool(List(found(agent))) as pooled:
        (peer,) = await connected(pooled)

        async def read() -> None:
            async for _ in peer.get_batches(FOLLOW):
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert peer.state == relay_pb2.NODE_CONNECTED


async def test_available_has_a_lost_agent_tried_at_once() -> None:
    patient = Pace(connect=0.5, answer=0.3, probe=0.1, backoff=(60, 60), lasted=60, again=0.05)
    agent = Agent()
    await agent.start()
    await agent.stop()
    peer = Peer(found(agent), Dialer(), asyncio.Semaphore(), lambda: None, patient)
    peer.start()
    assert not await peer.available(2)
    await agent.start()
    assert not await peer.available(0.01), "the last attempt is too young"
    await asyncio.sleep(patient.again)
    assert await peer.available(2)
    await peer.close()
    await agent.stop()


async def test_available_waits_for_the_attempt_that_runs() -> None:
    async with agents(Agent(delay=0.05)) as (agent,), pool(List(found(agent))) as pooled:
        await asyncio.sleep(0)
        (peer,) = pooled.peers()
        assert not await peer.available(0.01)
        assert await peer.available(2)


async def test_who_accepts_and_says_nothing_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with pool(List(Found("node-1", (address,)))) as pooled:
            (peer,) = await _unavailable(pooled)
            assert "no gRPC server answered within 0.5 s" in peer.message


async def test_who_stops_answering_has_its_streams_cut() -> None:
    async with agents(Agent()) as (agent,), pool(List(found(agent))) as pooled:
        (peer,) = await connected(pooled)
        stream = peer.get_batches(FOLLOW)
        await anext(aiter(stream))
        agent.delay = 60
        with pytest.raises(PeerError, match=r"no answer within 0\.6 s: is the agent stopped or overloaded\?"):
            async for _ in stream:
                pass
        assert peer.state == relay_pb2.NODE_UNAVAILABLE
        agent.delay = 0
        await connected(pooled)


async def test_a_new_address_is_connected_while_old_streams_go_on() -> None:
    async with agents(Agent(), Agent()) as (old, new):
        discovery = List(found(old))
        async with pool(discovery) as pooled:
            (peer,) = await connected(pooled)
            stream: Any = aiter(peer.get_batches(FOLLOW))
            await anext(stream)
            discovery.set(found(new))
            await until(lambda: peer.address == new.address and peer.state == relay_pb2.NODE_CONNECTED, pooled)
            assert (await anext(stream)).watermark_ns > 1
            await peer.server_status(1)
            assert (old.asked.get("ServerStatus"), new.asked["ServerStatus"]) == (None, 1)
            await stream.aclose()


async def test_the_second_address_is_tried_when_the_first_fails() -> None:
    async with agents(Agent()) as (agent,):
        with socket.create_server(("127.0.0.1", 0)) as freed:
            dead = f"127.0.0.1:{freed.getsockname()[1]}"
        async with pool(List(Found("node-1", (dead, agent.address)))) as pooled:
            (peer,) = await connected(pooled)
            assert peer.address == agent.address


async def test_who_leaves_is_gone_after_its_streams() -> None:
    async with agents(Agent()) as (agent,):
        discovery = List(found(agent))
        async with pool(discovery) as pooled:
            (peer,) = await connected(pooled)
            stream: Any = aiter(peer.get_batches(FOLLOW))
            await anext(stream)
            discovery.set()
            await until(lambda: peer.state == relay_pb2.NODE_GONE, pooled)
            assert pooled.peers() == ()
            assert (await anext(stream)).watermark_ns > 1
            with pytest.raises(PeerError, match="removed from the cluster"):
                await peer.server_status(1)
            await stream.aclose()


async def test_who_is_not_ready_is_not_connected() -> None:
    async with agents(Agent()) as (agent,):
        discovery = List(found(agent, ready=False))
        async with pool(discovery) as pooled:
            await asyncio.sleep(0.1)
            (peer,) = pooled.peers()
            assert (peer.state, peer.message) == (relay_pb2.NODE_UNAVAILABLE, "its pod is not ready")
            assert not await peer.available(0.1)
            assert agent.asked == {}
            discovery.set(found(agent))
            await connected(pooled)
            discovery.set(found(agent, ready=False))
            assert (await peer.server_status(1)).seen_flows == 100, "a connection that works is kept"


async def test_unavailable_agents_are_tried_less_and_less_often() -> None:
    accepted = 0
    with socket.create_server(("127.0.0.1", 0)) as server:

        def slam() -> None:
            nonlocal accepted
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()
                    accepted += 1

        threading.Thread(target=slam, daemon=True).start()
        async with pool(List(Found("node-1", (f"127.0.0.1:{server.getsockname()[1]}",)))):
            await asyncio.sleep(2)
        server.shutdown(socket.SHUT_RDWR)
    # Each attempt knocks twice (gRPC, diagnosis) and is followed by 0.1, 0.2, 0.4, 0.4, ... s, a quarter more or less.
    assert 6 <= accepted <= 20


async def test_tls_with_names_as_hubble_has_them(tmp_path: Path) -> None:
    from wire_certificates import issue  # noqa: PLC0415 - its folder is on the path since relay_agents

    ca = issue(tmp_path, "CA")
    server, client = issue(tmp_path, "s", ca, ("node-1.east.hubble-grpc.cilium.io",)), issue(tmp_path, "c", ca)
    serving = ServerTls(ServerFiles(server.cert_file, server.key_file, ca.cert_file))
    dialer = Dialer(ClientTls(ClientFiles(ca.cert_file, client.cert_file, client.key_file)))
    async with agents(Agent("east/node-1"), tls=serving) as (agent,):
        async with pool(List(found(agent, tls=True)), dialer=dialer) as pooled:
            (peer,) = await connected(pooled)
            assert peer.tls == (True, "node-1.east.hubble-grpc.cilium.io")
        async with pool(List(Found("east/node-2", (agent.address,), tls=True)), dialer=dialer) as pooled:
            (peer,) = await _unavailable(pooled)
            wrong = "its certificate is for node-1.east.hubble-grpc.cilium.io, expected node-2.east.hubble-grpc.cilium.io"
            assert f"{wrong}: set --peer-tls-server-name" in peer.message
        async with pool(List(found(agent))) as pooled:
            (peer,) = await _unavailable(pooled)
            assert "the server speaks TLS: give --peer-tls-ca-file" in peer.message


async def test_what_a_discovery_says_never_turns_tls_off(tmp_path: Path) -> None:
    from wire_certificates import issue  # noqa: PLC0415

    dialer = Dialer(ClientTls(ClientFiles(issue(tmp_path, "CA").cert_file)))
    assert dialer.secure(Found("a", ("10.0.0.1:1",)), "10.0.0.1:1")
    assert not dialer.secure(Found("a", ("127.0.0.1:1",)), "127.0.0.1:1")
    assert dialer.secure(Found("a", ("127.0.0.1:1",), tls=True), "127.0.0.1:1")


async def _unavailable(pooled: Any) -> tuple[Peer, ...]:
    """The peers, once an attempt at each has failed."""
    await until(lambda: all("connecting to" in peer.message for peer in pooled.peers()) and pooled.peers(), pooled)
    peers: tuple[Peer, ...] = pooled.peers()
    return peers


async def test_an_address_that_changes_during_the_attempt_is_not_used() -> None:
    async with agents(Agent(delay=0.05), Agent()) as (old, new):
        discovery = List(found(old))
        async with pool(discovery) as pooled:
            while not old.asked:  # noqa: ASYNC110 - the agent has no event
                await asyncio.sleep(0.01)
            discovery.set(found(new))
            (peer,) = await connected(pooled)
            assert peer.address == new.address


async def test_a_fault_of_ours_is_not_the_end_of_a_peer(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Dialer):
        broken = True

        def channel(self, found: Found, address: str) -> Any:
            if self.broken:
                raise ValueError("a fault")
            return super().channel(found, address)

    dialer = Faulty()
    async with agents(Agent()) as (agent,), pool(List(found(agent)), dialer=dialer) as pooled:
        await until(lambda: pooled.peers() and "a fault of the relay" in pooled.peers()[0].message, pooled)
        assert "Traceback" in caplog.text
        dialer.broken = False
        await connected(pooled)
