"""A stand-in API on loopback, and ways to ask it: plain HTTPS, kubectl."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from flows.demo.api.pki import Pki, write_kubeconfig
from flows.demo.api.server import RunningServer, start_api
from flows.demo.api.storage import Storage
from flows.demo.controllers import run_controllers

Json = dict[str, Any]


@dataclass
class Answer:
    """Status, headers and body of one response."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Cluster:
    """A storage, its server and an administrator's and a token's way to it."""

    storage: Storage
    server: RunningServer
    pki: Pki
    kubeconfig: Path
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: object = None, **options: Any) -> Answer:
        headers = {"User-Agent": "recorder/1", **options.pop("headers", {})}
        data = body if isinstance(body, (bytes, str)) else None if body is None else json.dumps(body)
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        url = self.server.url + path
        async with self.session.request(method, url, data=data, headers=headers, **options) as response:
            return Answer(response.status, dict(response.headers), await response.text())

    async def create(self, path: str, obj: Json) -> Json:
        answer = await self.ask("POST", path, obj)
        assert answer.status == 201, answer.text
        created: Json = answer.json
        return created

    async def kubectl(self, *arguments: str, stdin: str = "") -> str:
        code, out, error = await self.kubectl_result(*arguments, stdin=stdin)
        assert code == 0, f"{arguments}: {out}{error}"
        return out

    async def kubectl_result(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        home = str(self.kubeconfig.parent)
        environment = {"KUBECONFIG": str(self.kubeconfig), "HOME": home, "PATH": os.environ["PATH"]}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "kubectl", *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
        )
        out, error = await process.communicate(stdin.encode())
        return process.returncode or 0, out.decode(), error.decode()


def client_context(pki: Pki, directory: Path, user: str, groups: tuple[str, ...]) -> ssl.SSLContext:
    """TLS of a client that trusts the cluster and shows a certificate."""
    certificate, key = pki.client_certificate(user, groups)
    path = directory / f"{user.replace(':', '_')}.pem"
    path.write_bytes(certificate + key)
    context = ssl.create_default_context(cafile=str(pki.ca_path))
    context.load_cert_chain(path)
    return context


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def storage() -> Storage:
    return Storage()


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


def add_node(storage: Storage, name: str, **labels: str) -> Json:
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    addresses = [{"type": "InternalIP", "address": "192.168.0.1"}]
    node = {"metadata": {"name": name, "labels": labels}, "status": {"conditions": conditions, "addresses": addresses}}
    return storage.create("nodes", node)


def set_running(storage: Storage, pod: Json, address: str, address6: str = "") -> Json:
    """What a kubelet writes for a pod that runs."""
    names = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    containers = [
        {"name": c["name"], "image": c["image"], "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {}}}
        for c in pod["spec"]["containers"]
    ]
    status = {
        **pod["status"],
        "phase": "Running",
        "conditions": [{"type": name, "status": "True"} for name in names],
        "podIP": address,
        "podIPs": [{"ip": text} for text in (address, address6) if text],
        "containerStatuses": containers,
    }
    return storage.update_status("pods", {"metadata": pod["metadata"], "status": status})


async def eventually(condition: Callable[[], Any] | Callable[[], Awaitable[Any]]) -> Any:
    """Wait until a condition holds; the test's own time limit ends what never will."""
    while True:
        found = condition()
        found = await found if isinstance(found, Awaitable) else found
        if found:
            return found
        await asyncio.sleep(0.02)
