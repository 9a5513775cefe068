"""Discovery by a peer.Peer stream: peers are added, moved and deleted, and outlive the stream."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_agents import Agent, agents, connected, names, pool, until

from flows.demo.api.server import bind
from flows.proto import peer_pb2, peer_pb2_grpc, relay_pb2
from flows.relay.backoff import Backoff
from flows.relay.dialer import Dialer
from flows.relay.discovery.peer_stream import PeerStream, peer_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FAST = Backoff(0.05, 0.2)


class Notifier(peer_pb2_grpc.PeerServicer):
    """A peer.Peer service whose streams a test writes."""

    def __init__(self) -> None:
        self.streams: list[asyncio.Queue[peer_pb2.ChangeNotification | None]] = []
        self.known: list[peer_pb2.ChangeNotification] = []
        self.asked = asyncio.Event()

    async def Notify(self, request: Any, context: Any) -> Any:  # noqa: N802
        queue: asyncio.Queue[peer_pb2.ChangeNotification | None] = asyncio.Queue()
        self.streams.append(queue)
        self.asked.set()
        for one in self.known:
            yield one
        while (change := await queue.get()) is not None:
            yield change

    def tell(self, name: str, address: str, kind: int = peer_pb2.PEER_ADDED, server_name: str = "") -> None:
        tls = peer_pb2.TLS(server_name=server_name) if server_name else None
        change = peer_pb2.ChangeNotification(name=name, address=address, type=kind, tls=tls)  # type: ignore[arg-type]
        self.streams[-1].put_nowait(change)


@asynccontextmanager
async def notifier() -> AsyncIterator[tuple[Notifier, str]]:
    service, server = Notifier(), grpc.aio.server()
    peer_pb2_grpc.add_PeerServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield service, f"127.0.0.1:{port}"
    await server.stop(0)


async def test_a_peer_stream_adds_moves_and_deletes() -> None:
    async with notifier() as (service, address), agents(Agent("a"), Agent("b")) as (one, other):
        stream = PeerStream(address, Dialer(), 0.2, FAST)
        async with pool(stream) as pooled:
            await service.asked.wait()
            assert "not told yet" in pooled.discovery_status
            service.tell("a", one.address)
            service.tell("b", other.address, server_name="b.hubble")
            await connected(pooled, 2)
            assert pooled.discovery_status == ""
            service.tell("b", one.address, peer_pb2.PEER_UPDATED)
            await until(lambda: [peer.address for peer in pooled.peers()] == [one.address] * 2, pooled)
            service.tell("b", "", peer_pb2.PEER_DELETED)
            await until(lambda: names(pooled) == ["a"], pooled)


async def test_a_peer_without_an_address_is_known_and_unavailable() -> None:
    async with (
        notifier() as (service, address),
        agents(Agent("a")) as (one,),
        pool(PeerStream(address, Dialer(), 0.2, FAST)) as pooled,
    ):
        await service.asked.wait()
        service.tell("a", "")
        service.tell("b", "unix:///run/flows/flows.sock")
        await until(lambda: [peer.message for peer in pooled.peers()] == ["its address is not known"] * 2, pooled)
        assert pooled.discovery_status == ""
        assert not await pooled.peers()[0].available(0.1)
        service.tell("a", one.address, peer_pb2.PEER_UPDATED)
        (peer,) = await connected(pooled)
        assert peer.name == "a"


async def test_known_peers_outlive_the_stream_and_who_is_not_told_again_goes() -> None:
    async with (
        notifier() as (service, address),
        agents(Agent("a"), Agent("b")) as (one, other),
        pool(PeerStream(address, Dialer(), 0.2, FAST)) as pooled,
    ):
        await service.asked.wait()
        service.tell("a", one.address)
        service.tell("b", other.address)
        await connected(pooled, 2)
        service.known = [peer_pb2.ChangeNotification(name="a", address=one.address, type=peer_pb2.PEER_ADDED)]
        service.streams[-1].put_nowait(None)
        await until(lambda: "known ones are kept" in pooled.discovery_status, pooled)
        assert names(pooled) == ["a", "b"]
        await until(lambda: names(pooled) == ["a"], pooled)
        assert pooled.discovery_status == ""
        assert pooled.peers()[0].state == relay_pb2.NODE_CONNECTED


async def test_a_peer_service_that_is_not_there_is_told_about() -> None:
    with bind("127.0.0.1", 0) as freed:
        port = freed.getsockname()[1]
    async with pool(PeerStream(f"127.0.0.1:{port}", Dialer(), 0.2, FAST)) as pooled:
        await until(lambda: "connection refused" in pooled.discovery_status, pooled)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", "10.0.0.1:4244"),
        ("fd00::1", "[fd00::1]:4244"),
        ("10.0.0.1:99", "10.0.0.1:99"),
        ("node-1:99", "node-1:99"),
        ("unix:///run/secret.sock", None),
        ("", None),
        ("node-1", None),
    ],
)
def test_addresses_of_notifications(text: str, address: str | None) -> None:
    assert peer_address(text) == address


@given(st.text())
def test_an_address_of_a_notification_is_good_or_none(text: str) -> None:
    address = peer_address(text)
    assert address is None or ":" in address
