"""Discovery: lists, peer.Peer streams and EndpointSlices of a real API server's protocol."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_agents import Agent, List, agents, connected, found, pool, until

from flows.demo.api.pki import Pki, write_kubeconfig
from flows.demo.api.server import bind, start_api
from flows.demo.api.storage import Storage
from flows.kube.client import ApiClient
from flows.proto import peer_pb2, peer_pb2_grpc, relay_pb2
from flows.relay.backoff import Backoff
from flows.relay.dialer import Dialer
from flows.relay.discovery.endpoint_slices import EndpointSlices
from flows.relay.discovery.found import Found, merge, node_name
from flows.relay.discovery.peer_stream import PeerStream, peer_address
from flows.relay.discovery.static import StaticPeers, peers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from flows.relay.pool import Pool

FAST = Backoff(0.05, 0.2)


def names(pooled: Pool) -> list[str]:
    return [peer.name for peer in pooled.peers()]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a:1", [Found("", ("a:1",))]),
        ("n=a:1, east/m=[::1]:2", [Found("n", ("a:1",)), Found("east/m", ("[::1]:2",))]),
        ("n=tls://localhost:1", [Found("n", ("localhost:1",), tls=True)]),
        ("n=unix:///run/a.sock", [Found("n", ("unix:///run/a.sock",))]),
    ],
)
def test_peers_of_the_command_line(text: str, wanted: list[Found]) -> None:
    assert peers(text) == wanted


@pytest.mark.parametrize("text", ["n", "n=", "=a:1", "n=a", "n=tls://unix:///a", "n=a:1,b"])
def test_peers_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        peers(text)


@pytest.mark.parametrize(
    ("lists", "wanted"),
    [
        # Slices of IPv4 and of IPv6, whichever comes first.
        ([[Found("n", ("10.0.0.1:1",))], [Found("n", ("[fd00::1]:1",))]], {"n": ("10.0.0.1:1", "[fd00::1]:1")}),
        # A pod that ends and the one that replaces it: the ready one goes first.
        ([[Found("n", ("10.0.0.1:1",), ready=False), Found("n", ("10.0.0.2:1",))]], {"n": ("10.0.0.2:1", "10.0.0.1:1")}),
        # Named on the command line by an address that the API has a name for.
        ([[Found("", ("10.0.0.1:1",))], [Found("n", ("10.0.0.1:1",))]], {"n": ("10.0.0.1:1",)}),
        ([[Found("", ("10.0.0.1:1",)), Found("", ("10.0.0.1:1",))]], {"10.0.0.1:1": ("10.0.0.1:1",)}),
        ([[Found("n", ())], [Found("n", ("10.0.0.1:1",))]], {"n": ("10.0.0.1:1",)}),
        ([[Found("", ())]], {}),
    ],
)
def test_one_agent_found_twice_is_one(lists: list[list[Found]], wanted: dict[str, Sequence[str]]) -> None:
    merged = merge(lists)
    assert {key: one.endpoints for key, one in merged.items()} == wanted
    assert all(one.ready for one in merged.values())


def test_only_the_default_cluster_is_left_out_of_names() -> None:
    assert (node_name("default", "n"), node_name("east", "n"), node_name("east", "")) == ("n", "east/n", "")


async def test_two_addresses_of_one_node_that_only_it_knows_are_one_peer() -> None:
    async with agents(Agent("n"), Agent("n")) as (one, other):
        given_ = StaticPeers([Found("", (one.address,)), Found("", (other.address,))])
        async with pool(given_) as pooled:
            await until(lambda: names(pooled) == ["n"], pooled)


async def test_peers_come_and_go_with_what_is_found() -> None:
    async with agents(Agent("a"), Agent("b")) as (one, other):
        discovery = List(found(one))
        async with pool(discovery) as pooled:
            await connected(pooled)
            discovery.set(found(one), found(other))
            await connected(pooled, 2)
            assert names(pooled) == ["a", "b"]
            (kept, _) = pooled.peers()
            discovery.set(found(one), status="it is broken")
            await until(lambda: names(pooled) == ["a"], pooled)
            assert pooled.discovery_status == "it is broken"
            assert pooled.peers() == (kept,)


async def test_a_change_between_the_question_and_the_wait_is_not_missed() -> None:
    async with agents(Agent("a")) as (one,):
        discovery = List()
        async with pool(discovery) as pooled:
            await asyncio.sleep(0)
            changes = pooled.changes()
            discovery.set(found(one))
            async with asyncio.timeout(1):
                await anext(changes)


async def test_a_discovery_that_fails_keeps_what_it_found_and_says_so() -> None:
    class Broken:
        status = ""

        async def follow(self, tell: Any) -> None:
            tell([Found("a", ("127.0.0.1:1",))])
            raise ValueError("a fault")

    async with pool(Broken()) as pooled:
        await until(lambda: "a fault" in pooled.discovery_status, pooled)
        assert names(pooled) == ["a"]


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


def endpoints(node: str, *addresses: str, ready: bool = True) -> dict[str, Any]:
    return {"addresses": list(addresses), "nodeName": node, "conditions": {"ready": ready}}


def piece(name: str, port: int, *points: dict[str, Any], service: str = "flows-agent") -> dict[str, Any]:
    return {
        "metadata": {"namespace": "kube-system", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": list(points),
        "ports": [{"name": "metrics", "port": 9965, "protocol": "TCP"}, {"name": "grpc", "port": port, "protocol": "TCP"}],
    }


class Kubernetes:
    """A stand-in API server, and clients of it."""

    def __init__(self, directory: Path) -> None:
        self.storage = Storage(("10.96.0.0/12", "fd00:10:96::/112"))
        self.pki = Pki(directory / "pki")
        self._kubeconfig = directory / "kubeconfig"
        with bind("127.0.0.1", 0) as probe:
            self._port = probe.getsockname()[1]
        self._server: Any = None

    async def start(self) -> None:
        self._server = await start_api(self.storage, ["127.0.0.1"], self._port, self.pki, bookmark_seconds=0.3)
        write_kubeconfig(self._kubeconfig, self._server.url, self.pki)

    async def stop(self) -> None:
        await self._server.close()

    def slices(self, service: str = "kube-system/flows-agent:grpc") -> EndpointSlices:
        return EndpointSlices(ApiClient(str(self._kubeconfig)), service, "east")


@asynccontextmanager
async def kubernetes(directory: Path) -> AsyncIterator[Kubernetes]:
    made = Kubernetes(directory)
    await made.start()
    yield made
    await made.stop()


async def test_endpoint_slices_name_the_agents(tmp_path: Path) -> None:
    async with kubernetes(tmp_path) as api, agents(Agent("east/a"), Agent("east/b")) as (one, other):
        storage = api.storage
        storage.create("endpointslices", piece("s-1", one.port, endpoints("a", "127.0.0.1")))
        storage.create("endpointslices", piece("else", one.port, endpoints("c", "127.0.0.1"), service="another"))
        async with pool(api.slices()) as pooled:
            (peer,) = await connected(pooled)
            assert (peer.name, peer.address) == ("east/a", one.address)
            await until(lambda: pooled.discovery_status == "", pooled)
            created = storage.create("endpointslices", piece("s-2", other.port, endpoints("b", "127.0.0.1", ready=False)))
            await until(lambda: names(pooled) == ["east/a", "east/b"], pooled)
            assert pooled.peers()[1].message == "its pod is not ready"
            storage.update("endpointslices", {**created, "endpoints": [endpoints("b", "127.0.0.1")]})
            await connected(pooled, 2)
            storage.delete("endpointslices", "kube-system", "s-1")
            await until(lambda: names(pooled) == ["east/b"], pooled)


async def test_agents_stay_known_while_the_api_is_away(tmp_path: Path) -> None:
    async with kubernetes(tmp_path) as api, agents(Agent("east/a"), Agent("east/b")) as (one, other):
        api.storage.create("endpointslices", piece("s-1", one.port, endpoints("a", "127.0.0.1")))
        async with pool(api.slices()) as pooled:
            await connected(pooled)
            await until(lambda: pooled.discovery_status == "", pooled)
            await api.stop()
            await until(lambda: "endpoints of kube-system/flows-agent:grpc" in pooled.discovery_status, pooled)
            assert [peer.state for peer in pooled.peers()] == [relay_pb2.NODE_CONNECTED]
            api.storage.create("endpointslices", piece("s-2", other.port, endpoints("b", "127.0.0.1")))
            await api.start()
            await connected(pooled, 2)


async def test_without_the_right_to_list_it_says_what_to_grant(tmp_path: Path) -> None:
    async with kubernetes(tmp_path) as api:
        stranger = write_kubeconfig(tmp_path / "stranger", api._server.url, api.pki, user="stranger", groups=())
        slices = EndpointSlices(ApiClient(str(stranger)), "kube-system/flows-agent", "default")
        async with pool(slices) as pooled:
            await until(lambda: "grant" in pooled.discovery_status, pooled)
            assert "endpointslices" in pooled.discovery_status
