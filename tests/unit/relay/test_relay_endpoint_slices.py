"""Discovery by EndpointSlices of a real API server's protocol: agents by their names, while it is away, without the right."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from relay_agents import Agent, agents, connected, names, pool, until

from flows.demo.api.pki import Pki, write_kubeconfig
from flows.demo.api.server import bind, start_api
from flows.demo.api.storage import Storage
from flows.kube.client import ApiClient
from flows.proto import relay_pb2
from flows.relay.discovery.endpoint_slices import EndpointSlices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


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
