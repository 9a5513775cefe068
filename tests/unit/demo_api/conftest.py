"""A stand-in API on loopback, with and without controllers, and controllers without an API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from api_cluster import Cluster, add_node, client_context
from api_stepwise import Demo

from flows.demo.api.pki import Pki, write_kubeconfig
from flows.demo.api.server import start_api
from flows.demo.api.storage import Storage
from flows.demo.controllers import run_controllers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def storage() -> Storage:
    return Storage(("10.96.0.0/12", "fd00:10:96::/112"))  # the range of the recordings, and IPv6


@pytest.fixture
def demo() -> Demo:
    return Demo()


@pytest_asyncio.fixture
async def cluster(storage: Storage, pki: Pki, tmp_path: Path) -> AsyncIterator[Cluster]:
    server = await start_api(storage, ["127.0.0.1"], 0, pki, bookmark_seconds=0.3)
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", server.url, pki)
    context = client_context(pki, tmp_path, "kubernetes-admin", ("system:masters",))
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Cluster(storage, server, pki, kubeconfig, session)
    await server.close()


@pytest_asyncio.fixture
async def controlled(cluster: Cluster) -> AsyncIterator[Cluster]:
    """A cluster with controllers, two ready nodes and no kubelet."""
    for number in range(2):
        add_node(cluster.storage, f"node-{number}")
    api = cluster.server.addresses
    task = asyncio.create_task(run_controllers(cluster.storage, api_addresses=api, ca_pem=b"ca"))
    yield cluster
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
