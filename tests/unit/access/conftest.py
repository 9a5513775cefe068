"""A stand-in API on loopback, asked by the real client with the relay's own account."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from access_cluster import QUICK, Cluster, CountingApi, prepare

from flows.demo.api.pki import Pki
from flows.demo.api.server import bind, start_api
from flows.demo.api.storage import Storage
from flows.relay.access.kubernetes import KubernetesAccess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


def free_port() -> int:
    """A port for a server that will stop and listen again: a port taken with 0 would be another one then."""
    with bind("127.0.0.1", 0) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("access-pki"))


@pytest_asyncio.fixture
async def cluster(pki: Pki, tmp_path: Path) -> AsyncIterator[Cluster]:
    storage = Storage(("10.96.0.0/12", "fd00:10:96::/112"))
    server = await start_api(storage, ["127.0.0.1"], free_port(), pki)
    cluster = Cluster(storage, server, pki, tmp_path)
    prepare(cluster)
    yield cluster
    for client in cluster.clients:
        client.close()
    await server.close()
    for transport in list(asyncio.get_running_loop()._transports.values()):  # type: ignore[attr-defined]
        transport.abort()  # waits for the TLS farewell of a client that only leaves, longer than the loop lives
    await asyncio.sleep(0)


@pytest.fixture
def api(cluster: Cluster) -> CountingApi:
    return cluster.client()


@pytest.fixture
def access(api: CountingApi) -> Iterator[KubernetesAccess]:
    """With the times of production."""
    made = KubernetesAccess(api)
    yield made
    made.close()


@pytest.fixture
def quick(api: CountingApi) -> Iterator[KubernetesAccess]:
    """With times about 150 times as short."""
    made = KubernetesAccess(api, QUICK)
    yield made
    made.close()
