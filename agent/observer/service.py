"""observer.Observer on gRPC: Hubble's API over one agent's store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from flows.agent.observer.query import Observer, Request, RequestError, parse_request
from flows.agent.options import Tls, is_local
from flows.proto import observer_pb2, observer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

# Takes what is to be called, from any thread, once the store holds all that the kernel had.
Freshen = Callable[[Callable[[], None]], None]

SERVICE = observer_pb2.DESCRIPTOR.services_by_name["Observer"].full_name
HEALTH_NAMES = ("", "hubble.server.Observer")  # the second is what the hubble CLI asks for
RATE_SECONDS = 60  # flows_rate is over the last minute, as in Hubble
# Messages sent before other tasks get their turn: at about 50 us each, nobody waits longer than 5 ms.
TURN = 100
FRESH_SECONDS = 0.5  # a busy reader must not hold an answer up; what is stored by then is shown
SOCKET_UMASK = 0o117  # a unix socket of mode 0660


class Wakener:
    """Wakes all followers at once when the store's writer says that something came."""

    def __init__(self) -> None:
        """Bind to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._awaited = False

    def notify(self) -> None:
        """From any thread. The loop is left asleep while nobody follows."""
        if self._awaited:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._awaited = False
        self._event.set()
        self._event = asyncio.Event()

    def event(self) -> asyncio.Event:
        """What the next notification sets: taken before looking at the store, so that nothing falls between."""
        self._awaited = True
        return self._event


class ObserverService(observer_pb2_grpc.ObserverServicer):
    """One agent's Observer.

    What the protocol leaves to relays (GetNodes) or to Cilium (agent and debug events) is UNIMPLEMENTED.
    """

    def __init__(self, observer: Observer, version: str, freshen: Freshen | None = None) -> None:
        """Within a running event loop. freshen: has what the kernel still holds moved into the store."""
        self._observer, self._version, self._freshen = observer, version, freshen
        self._started = time.monotonic_ns()
        self._wakener = Wakener()
        observer.store.subscribe(self._wakener.notify)

    async def GetFlows(  # noqa: N802 - gRPC's name
        self, request: observer_pb2.GetFlowsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[observer_pb2.GetFlowsResponse]:
        """Stream flows; first, follow, number, since and until are as in Hubble (pkg/hubble/observer/local_observer.go)."""
        try:
            parsed = parse_request(request, extensions=understands_extensions(context))
        except RequestError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        await context.send_initial_metadata((("hubble-server-version", self._version),))
        await self._fresh()
        selected, cursor = self._observer.history(parsed)
        async for response in in_turns(self._observer.responses(selected, parsed)):
            yield response
        if parsed.selection.follow:
            async for response in self._follow(parsed, cursor):
                yield response

    async def _fresh(self) -> None:
        """Let the store catch up with the kernel: who asks right after a call must see it."""
        if self._freshen is None:
            return
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def stored() -> None:
            loop.call_soon_threadsafe(done.set)

        self._freshen(stored)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FRESH_SECONDS):
                await done.wait()

    async def _follow(self, request: Request, cursor: int) -> AsyncIterator[observer_pb2.GetFlowsResponse]:
        until = request.selection.until
        while until is None or time.time_ns() <= until:
            event = self._wakener.event()
            selected, following, overwritten = self._observer.news(request, cursor)
            if overwritten:
                yield self._observer.overwritten(overwritten, time.time_ns())
            async for response in in_turns(self._observer.responses(selected, request)):
                yield response
            if following == cursor:
                await event.wait()
            cursor = following

    async def ServerStatus(  # noqa: N802 - gRPC's name
        self, _request: observer_pb2.ServerStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> observer_pb2.ServerStatusResponse:
        """Say how full the store is and how fast it fills."""
        await context.send_initial_metadata((("hubble-server-version", self._version),))
        store = self._observer.store
        return observer_pb2.ServerStatusResponse(
            num_flows=store.written - store.oldest,
            max_flows=store.capacity,
            seen_flows=store.written,
            uptime_ns=time.monotonic_ns() - self._started,
            version=f"flows v{self._version}",
            flows_rate=store.rate(time.time_ns(), RATE_SECONDS),
        )

    async def GetNamespaces(  # noqa: N802 - gRPC's name
        self, _request: observer_pb2.GetNamespacesRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> observer_pb2.GetNamespacesResponse:
        """List the namespaces that stored flows name."""
        namespaces = self._observer.namespaces()
        return observer_pb2.GetNamespacesResponse(
            namespaces=[observer_pb2.Namespace(cluster=cluster, namespace=namespace) for cluster, namespace in namespaces]
        )


async def in_turns(
    responses: Any,
) -> AsyncIterator[observer_pb2.GetFlowsResponse]:
    """Yield all, letting other tasks run now and then."""
    for index, response in enumerate(responses):
        yield response
        if index % TURN == TURN - 1:
            await asyncio.sleep(0)


def understands_extensions(context: grpc.aio.ServicerContext[Any, Any]) -> bool:
    """False for clients in Go: protojson, with which `hubble -o json` prints, fails on an Any of a type that it does not know.

    A Go program that knows flows.v1.FlowExtension asks for it with a field mask.
    """
    agents = [value for key, value in context.invocation_metadata() or () if key == "user-agent"]
    return not any(str(agent).startswith("grpc-go/") or " grpc-go/" in str(agent) for agent in agents)


class AddressError(Exception):
    """The server cannot listen where it was told to."""


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    pair = (tls.key.read_bytes(), tls.cert.read_bytes())
    return grpc.ssl_server_credentials([pair], tls.client_ca.read_bytes(), require_client_auth=True)


def _listen(server: grpc.aio.Server, address: str, tls: Tls | None) -> None:
    try:
        if tls is not None and not is_local(address):
            server.add_secure_port(address, _credentials(tls))
        else:
            server.add_insecure_port(address)
    except RuntimeError as error:
        raise AddressError(f"listening on {address}: the address is in use or not of this machine; see: ss -ltnxp") from error


async def serve(
    observer: Observer, version: str, addresses: Sequence[str], tls: Tls | None, freshen: Freshen | None = None
) -> grpc.aio.Server:
    """Serve on all addresses (`host:port`, `unix:///path`). Raises AddressError.

    Unix sockets are for root and its group; TCP off this machine takes clients with a certificate if tls is given.
    """
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    observer_pb2_grpc.add_ObserverServicer_to_server(ObserverService(observer, version, freshen), server)  # type: ignore[no-untyped-call]
    healths = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    reflection.enable_server_reflection([SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    umask = os.umask(SOCKET_UMASK)
    try:
        for address in addresses:
            _listen(server, address, tls)
    finally:
        os.umask(umask)
    await server.start()
    for name in HEALTH_NAMES:
        await healths.set(name, health_pb2.HealthCheckResponse.SERVING)
    return server
