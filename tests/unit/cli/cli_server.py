"""A real Observer server on a unix socket, in a thread of its own, for the command to be run against it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flows.proto import observer_pb2, observer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path


@dataclass
class Observer(observer_pb2_grpc.ObserverServicer, health_pb2_grpc.HealthServicer):
    """Answers GetFlows with its responses, then ends, fails, or (hold) stays silent."""

    responses: Sequence[observer_pb2.GetFlowsResponse] = ()
    failure: tuple[grpc.StatusCode, str] | None = None
    hold: bool = False
    serving: bool = True
    status: observer_pb2.ServerStatusResponse = field(default_factory=observer_pb2.ServerStatusResponse)
    namespaces: Sequence[tuple[str, str]] = ()
    requests: list[observer_pb2.GetFlowsRequest] = field(default_factory=list)
    metadata: list[tuple[str, str]] = field(default_factory=list)

    async def GetFlows(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - the service's name
        self.requests.append(request)
        self.metadata.extend(context.invocation_metadata())
        for response in self.responses:
            yield response
        if self.failure:
            await context.abort(*self.failure)
        if self.hold:
            await asyncio.Event().wait()

    async def ServerStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.status

    async def GetNamespaces(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = observer_pb2.GetNamespacesResponse()
        for cluster, name in self.namespaces:
            answer.namespaces.add(cluster=cluster, namespace=name)
        return answer

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        serving = self.serving and request.service == "hubble.server.Observer"
        return health_pb2.HealthCheckResponse(status=1 if serving else 2)


class Loop:
    """An event loop in a thread; run() waits there for a coroutine."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Serve(Protocol):
    """Starts an Observer; gives its address. With credentials it speaks TLS on TCP."""

    def __call__(self, observer: Observer, credentials: grpc.ServerCredentials | None = None) -> str: ...


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    loop = Loop()
    servers: list[Any] = []

    async def start(observer: Observer, address: str, credentials: grpc.ServerCredentials | None) -> Any:
        server = grpc.aio.server()
        add: Any = observer_pb2_grpc.add_ObserverServicer_to_server
        add(observer, server)
        health_pb2_grpc.add_HealthServicer_to_server(observer, server)
        if credentials is None:
            server.add_insecure_port(address)
        else:
            address = f"127.0.0.1:{server.add_secure_port(address, credentials)}"
        await server.start()
        return server, address

    def begin(observer: Observer, credentials: grpc.ServerCredentials | None = None) -> str:
        address = f"unix://{tmp_path}/{len(servers)}.sock" if credentials is None else "127.0.0.1:0"
        server, bound = loop.run(start(observer, address, credentials))
        servers.append(server)
        return str(bound)

    yield begin
    for server in servers:
        loop.run(server.stop(None))
    loop.stop()
