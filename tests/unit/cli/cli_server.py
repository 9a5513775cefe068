"""Real servers on unix sockets, in a thread of their own, for the command to be run against them."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flows.proto import flows_pb2_grpc, observer_pb2, observer_pb2_grpc, peer_pb2, peer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from flows.proto import flows_pb2


Failure = tuple[grpc.StatusCode, str]


@dataclass
class Observer(observer_pb2_grpc.ObserverServicer, health_pb2_grpc.HealthServicer):
    """Answers GetFlows with its responses, then ends, fails, or (hold) stays silent."""

    responses: Sequence[observer_pb2.GetFlowsResponse] = ()
    failure: Failure | None = None
    hold: bool = False
    serving: bool = True
    status: observer_pb2.ServerStatusResponse = field(default_factory=observer_pb2.ServerStatusResponse)
    namespaces: Sequence[tuple[str, str]] = ()
    requests: list[observer_pb2.GetFlowsRequest] = field(default_factory=list)
    metadata: list[tuple[str, str]] = field(default_factory=list)
    nodes: Sequence[observer_pb2.Node] | None = None

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

    async def GetNodes(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.nodes is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "GetNodes not implemented")
        return observer_pb2.GetNodesResponse(nodes=self.nodes)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        serving = self.serving and request.service == "hubble.server.Observer"
        return health_pb2.HealthCheckResponse(status=1 if serving else 2)


@dataclass
class Batches(Observer):
    """The batched service, too: `answer` makes the batches, or failures, of a request; then it ends or stays silent."""

    answer: Callable[[flows_pb2.FlowsRequest], Sequence[flows_pb2.FlowBatch | Failure]] = lambda _: ()
    batch_requests: list[flows_pb2.FlowsRequest] = field(default_factory=list)


class Batched(flows_pb2_grpc.FlowsServicer):
    """Its GetFlows; a class of its own, for both services have a method of that name."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    async def GetFlows(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self._batches.batch_requests.append(request)
        self._batches.metadata.extend(context.invocation_metadata())
        for batch in self._batches.answer(request):
            if isinstance(batch, tuple):
                await context.abort(*batch)
            yield batch
        if self._batches.failure:
            await context.abort(*self._batches.failure)
        if self._batches.hold:
            await asyncio.Event().wait()


@dataclass
class Peers(peer_pb2_grpc.PeerServicer):
    """Tells of its changes, then ends."""

    changes: Sequence[peer_pb2.ChangeNotification]

    async def Notify(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        for change in self.changes:
            yield change


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


class Serve:
    """Starts servers; gives their addresses. With credentials they speak TLS on TCP; tcp: without TLS."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._loop = folder, Loop()
        self._servers: dict[str, Any] = {}

    def __call__(
        self,
        service: Observer | Peers,
        credentials: grpc.ServerCredentials | None = None,
        *,
        address: str = "",
        tcp: bool = False,
    ) -> str:
        """address: of a server that was stopped, to come back there."""
        if not address:
            unix = credentials is None and not tcp
            address = f"unix://{self._folder}/{len(self._servers)}.sock" if unix else "127.0.0.1:0"
        server, bound = self._loop.run(self._start(service, address, credentials))
        self._servers[bound] = server
        return str(bound)

    def stop(self, address: str) -> None:
        """Ends a server and all calls to it."""
        self._loop.run(self._servers.pop(address).stop(None))

    def close(self) -> None:
        for address in list(self._servers):
            self.stop(address)
        self._loop.stop()

    async def _start(self, service: Observer | Peers, address: str, credentials: grpc.ServerCredentials | None) -> Any:
        server = grpc.aio.server()
        if isinstance(service, Peers):
            peer_pb2_grpc.add_PeerServicer_to_server(service, server)  # type: ignore[no-untyped-call]
        else:
            observer_pb2_grpc.add_ObserverServicer_to_server(service, server)  # type: ignore[no-untyped-call]
            health_pb2_grpc.add_HealthServicer_to_server(service, server)
        if isinstance(service, Batches):
            flows_pb2_grpc.add_FlowsServicer_to_server(Batched(service), server)  # type: ignore[no-untyped-call]
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        await server.start()
        return server, address if address.startswith("unix:") else f"127.0.0.1:{port}"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    serve = Serve(tmp_path)
    yield serve
    serve.close()
