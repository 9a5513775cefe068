"""Client: calls to one Observer over gRPC. Imports grpc: import it late."""

from __future__ import annotations

import base64
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from flows.cli.options import UsageError
from flows.cli.servers import CURE, Server, ServerError
from flows.cli.tls import credentials
from flows.proto import observer_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from flows.cli.options import ServerOptions
    from flows.cli.tls import ChannelOptions

Answer = TypeVar("Answer", bound=Message)

SERVICE = "observer.Observer"
# The name under which Hubble servers report their health.
HEALTH_SERVICE = "hubble.server.Observer"


class Client:
    """Calls to one server. Every method raises ServerError when the call fails."""

    def __init__(self, server: Server, options: ServerOptions) -> None:
        self.server, self._options = server, options
        self._metadata = _authorization(server, options)
        self._channel = _channel(server, options)

    async def close(self) -> None:
        """Ends the connection and every call on it."""
        await self._channel.close()

    async def get_flows(self, request: observer_pb2.GetFlowsRequest) -> AsyncGenerator[observer_pb2.GetFlowsResponse, None]:
        """The responses as they arrive."""
        method = self._channel.unary_stream(
            f"/{SERVICE}/GetFlows",
            request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
            response_deserializer=observer_pb2.GetFlowsResponse.FromString,
        )
        try:
            async for response in method(request, metadata=self._metadata):
                yield response
        except grpc.aio.AioRpcError as error:
            raise _failure(self.server, error) from error

    async def status(self) -> observer_pb2.ServerStatusResponse:
        """Observer/ServerStatus."""
        request = observer_pb2.ServerStatusRequest()
        return await self._ask(f"/{SERVICE}/ServerStatus", request, observer_pb2.ServerStatusResponse)

    async def namespaces(self) -> observer_pb2.GetNamespacesResponse:
        """Observer/GetNamespaces."""
        request = observer_pb2.GetNamespacesRequest()
        return await self._ask(f"/{SERVICE}/GetNamespaces", request, observer_pb2.GetNamespacesResponse)

    async def healthy(self) -> bool:
        """Whether the server says that its Observer serves (grpc.health.v1)."""
        from grpc_health.v1 import health_pb2  # noqa: PLC0415 - only `flows status` needs it

        request = health_pb2.HealthCheckRequest(service=HEALTH_SERVICE)
        answer = await self._ask("/grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def _ask(self, method: str, request: Message, answer: type[Answer]) -> Answer:
        call: grpc.aio.UnaryUnaryMultiCallable[Message, Answer] = self._channel.unary_unary(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        try:
            response: Answer = await call(request, timeout=self._options.request_timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _failure(self.server, error) from error
        return response


@asynccontextmanager
async def connect(servers: Iterable[Server], options: ServerOptions) -> AsyncIterator[list[Client]]:
    """A client per server, closed at the end."""
    clients: list[Client] = []
    try:
        clients.extend(Client(server, options) for server in servers)
        yield clients
    finally:
        for client in clients:
            await client.close()


def _channel(server: Server, options: ServerOptions) -> grpc.aio.Channel:
    settings: ChannelOptions = [
        ("grpc.enable_http_proxy", 0),  # a proxy for web browsing leads to no cluster
        ("grpc.primary_user_agent", "flows-cli"),
        # Despite its name, gRPC takes this as the time that one attempt to connect may last.
        ("grpc.min_reconnect_backoff_ms", max(1, int(options.timeout_s * 1000))),
        ("grpc.max_receive_message_length", -1),
    ]
    if not server.tls:
        return grpc.aio.insecure_channel(server.target, settings)
    try:
        made, more = credentials(server, options)
    except OSError as error:
        raise ServerError(server, f"cannot get the server's certificate: {error}") from error
    return grpc.aio.secure_channel(server.target, made, settings + more)


def _authorization(server: Server, options: ServerOptions) -> tuple[tuple[str, str], ...]:
    if not options.basic_auth_username and not options.basic_auth_password:
        return ()
    if not server.tls:
        raise UsageError(f"--basic-auth-username needs TLS, which {server.address} is not: use --tls or tls://")
    token = f"{options.basic_auth_username}:{options.basic_auth_password}".encode()
    return (("authorization", f"Basic {base64.b64encode(token).decode()}"),)


def _failure(server: Server, error: grpc.aio.AioRpcError) -> ServerError:
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return ServerError(server, details, status=2)
    if code is grpc.StatusCode.UNAVAILABLE:
        return ServerError(server, f"cannot reach it: {_reason(details)}", cure=CURE)
    if code is grpc.StatusCode.UNKNOWN:  # Hubble's servers send plain errors so; the code adds nothing
        return ServerError(server, details)
    return ServerError(server, f"{code.name.lower().replace('_', ' ')}: {details}")


# gRPC: `failed to connect to all addresses; last error: UNKNOWN: ipv4:[::1]:1: Failed ...: refused (111)`.
_WRAPPING = (
    r"^failed to connect to all addresses; last error: \w+: (?:(?:ipv[46]|unix):\S+: )?",
    r"^Failed to connect to remote host: (?:connect: )?",
    r"^connect failed: addr: \S+ error: ",
    r" \(\d+\)$",
)


def _reason(details: str) -> str:
    """The cause in the details of an UNAVAILABLE."""
    for wrapping in _WRAPPING:
        details = re.sub(wrapping, "", details)
    return details or "no answer"
