"""A Kubernetes API with a Service, its endpoints, and `pods/portforward` over WebSockets, in a thread of its own."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import WSMsgType, web
from cli_server import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "alice's-token"


@dataclass
class Cluster:
    """pods: by name, where connections to their port 4245 go; all are ready but those in `unready`."""

    folder: Path
    service: str = "flows-relay"
    namespace: str = "kube-system"
    pods: dict[str, str] = field(default_factory=dict)
    unready: set[str] = field(default_factory=set)
    forbidden: str = ""  # what a port-forward is refused with
    forwarded: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    url: str = ""
    loop: Loop = field(default_factory=Loop)
    _sockets: list[web.WebSocketResponse] = field(default_factory=list)

    @property
    def kubeconfig(self) -> str:
        """A file for the user whose token this API takes."""
        content = {
            "current-context": "it",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
        }
        file = self.folder / "cluster.kubeconfig"
        file.write_text(yaml.safe_dump(content))
        return str(file)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._authenticate])
        app.router.add_get("/api/v1/namespaces/{ns}/services/{name}", self._service)
        app.router.add_get("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices", self._slices)
        app.router.add_get("/api/v1/namespaces/{ns}/pods/{pod}/portforward", self._forward)
        return app

    def cut(self) -> None:
        """Breaks every connection, as the end of a pod does."""

        async def close() -> None:
            for socket in self._sockets:
                await socket.close()

        self.loop.run(close())

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.tokens.add(request.headers.get("Authorization", ""))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _status(401, "Unauthorized")
        response: web.StreamResponse = await handler(request)
        return response

    async def _service(self, request: web.Request) -> web.Response:
        if (request.match_info["ns"], request.match_info["name"]) != (self.namespace, self.service):
            return _status(404, f'services "{request.match_info["name"]}" not found')
        ports = [{"name": "grpc", "port": 80, "targetPort": "grpc"}, {"name": "metrics", "port": 9966}]
        return web.json_response({"kind": "Service", "spec": {"ports": ports}})

    async def _slices(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == f"kubernetes.io/service-name={self.service}"
        endpoints = [
            {"conditions": {"ready": name not in self.unready}, "targetRef": {"kind": "Pod", "name": name}} for name in self.pods
        ]
        ports = [{"name": "metrics", "port": 9966}, {"name": "grpc", "port": 4245}]
        return web.json_response({"items": [{"endpoints": endpoints, "ports": ports}]})

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        """Channel 0 is data, 1 errors; the first message of each is the port (kubelet, streaming/portforward/websocket.go)."""
        if self.forbidden:
            return _status(403, self.forbidden)
        pod, (port,) = request.match_info["pod"], map(int, request.query.getall("ports"))
        self.forwarded.append(f"{pod}:{port}")
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        assert socket.ws_protocol == "v4.channel.k8s.io"
        self._sockets.append(socket)
        for channel in (0, 1):
            await socket.send_bytes(struct.pack("<BH", channel, port))
        host, _, backend = self.pods[pod].rpartition(":")
        try:
            reader, writer = await asyncio.open_connection(host, int(backend))
        except OSError:
            await socket.send_bytes(b"\x01an error occurred forwarding 4245: connection refused")
            await socket.close()
            return socket
        down = asyncio.create_task(_down(reader, socket))
        async for message in socket:
            if message.type is WSMsgType.BINARY and message.data[0] == 0:
                writer.write(message.data[1:])
                await writer.drain()
        down.cancel()
        writer.close()
        return socket


async def _down(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    while data := await reader.read(65536):
        await socket.send_bytes(b"\x00" + data)
    await socket.close()


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    runner = web.AppRunner(made.application())

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    made.loop.run(start())
    yield made
    made.cut()
    made.loop.run(runner.cleanup())
    made.loop.stop()
