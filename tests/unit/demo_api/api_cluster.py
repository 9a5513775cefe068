"""Ways to ask the stand-in API on loopback, and what kubelets would write."""

from __future__ import annotations

import asyncio
import io
import json
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from flows.demo.api.pki import Pki
    from flows.demo.api.server import RunningServer
    from flows.demo.api.storage import Storage

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
        data = body if isinstance(body, (bytes, str, io.BytesIO)) else None if body is None else json.dumps(body)
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


def add_node(storage: Storage, name: str, **labels: str) -> Json:
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    addresses = [{"type": "InternalIP", "address": "192.168.0.1"}]
    node = {"metadata": {"name": name, "labels": labels}, "status": {"conditions": conditions, "addresses": addresses}}
    return storage.create("nodes", node)


def set_running(storage: Storage, pod: Json, address: str, address6: str = "") -> Json:
    """What a kubelet writes for a pod that runs."""
    names = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    running = {"imageID": "", "ready": True, "restartCount": 0, "state": {"running": {}}}
    containers = [{"name": c["name"], "image": c["image"], **running} for c in pod["spec"]["containers"]]
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
