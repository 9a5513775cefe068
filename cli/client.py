"""Client: one connection to a server, and the calls on it. Imports grpc: import it late."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from flows.cli.login import NOTHING_GIVEN
from flows.cli.servers import CURE, Server, ServerError
from flows.cli.tls import credentials, diagnosis
from flows.proto import flows_pb2, observer_pb2, peer_pb2
from flows.wire.limits import client_options

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from flows.cli.login import Login
    from flows.cli.options import ServerOptions
    from flows.cli.tls import ChannelOptions

Answer = TypeVar("Answer", bound=Message)

SERVICE = "observer.Observer"
# The name under which Hubble servers report their health.
HEALTH_SERVICE = "hubble.server.Observer"


class Client:
    """Calls to one server. Every method raises ServerError when the call fails."""

    def __init__(
        self, server: Server, options: ServerOptions, login: Login, channel: grpc.aio.Channel, broken: Callable[[], str]
    ) -> None:
        """broken: says why there is no way to the server, "" if that is not known better than gRPC says."""
        self.server, self.login, self._options = server, login, options
        self._metadata = (("authorization", login.authorization),) if login.authorization else ()
        self._channel, self._broken = channel, broken

    async def close(self) -> None:
        """Ends the connection and every call on it."""
        await self._channel.close()

    async def connected(self) -> bool:
        """Whether there is a connection, after waiting for the attempt to make one."""
        while (state := self._channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            if state in {grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN}:
                return False
            await self._channel.wait_for_state_change(state)
        return True

    def get_flows(self, request: observer_pb2.GetFlowsRequest) -> AsyncGenerator[observer_pb2.GetFlowsResponse, None]:
        """Observer/GetFlows: the responses as they arrive."""
        return self._stream(f"/{SERVICE}/GetFlows", request, observer_pb2.GetFlowsResponse, None)

    def get_batches(self, request: flows_pb2.FlowsRequest, silence_s: float | None) -> AsyncGenerator[flows_pb2.FlowBatch, None]:
        """flows.v1.Flows/GetFlows: the batches as they arrive. silence_s: a server that says nothing for so long is gone."""
        return self._stream("/flows.v1.Flows/GetFlows", request, flows_pb2.FlowBatch, silence_s)

    def peers(self) -> AsyncGenerator[peer_pb2.ChangeNotification, None]:
        """peer.Peer/Notify: the peers that the server knows, then every change."""
        return self._stream("/peer.Peer/Notify", peer_pb2.NotifyRequest(), peer_pb2.ChangeNotification, None)

    async def status(self) -> observer_pb2.ServerStatusResponse:
        """Observer/ServerStatus."""
        request = observer_pb2.ServerStatusRequest()
        return await self._ask(f"/{SERVICE}/ServerStatus", request, observer_pb2.ServerStatusResponse)

    async def namespaces(self) -> observer_pb2.GetNamespacesResponse:
        """Observer/GetNamespaces."""
        request = observer_pb2.GetNamespacesRequest()
        return await self._ask(f"/{SERVICE}/GetNamespaces", request, observer_pb2.GetNamespacesResponse)

    async def nodes(self) -> observer_pb2.GetNodesResponse:
        """Observer/GetNodes, which only relays have."""
        return await self._ask(f"/{SERVICE}/GetNodes", observer_pb2.GetNodesRequest(), observer_pb2.GetNodesResponse)

    async def healthy(self) -> bool:
        """Whether the server says that its Observer serves (grpc.health.v1)."""
        from grpc_health.v1 import health_pb2  # noqa: PLC0415 - only `flows status` needs it

        request = health_pb2.HealthCheckRequest(service=HEALTH_SERVICE)
        answer = await self._ask("/grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def _stream(
        self, name: str, request: Message, answer: type[Answer], silence_s: float | None
    ) -> AsyncGenerator[Answer, None]:
        method: Any = self._channel.unary_stream(name, request_serializer=_serialized, response_deserializer=answer.FromString)
        call = method(request, metadata=self._metadata)
        try:
            while True:
                async with asyncio.timeout(silence_s):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    return
                yield message
        except TimeoutError:
            raise ServerError(self.server, f"no word from it for {silence_s:g} s", code="UNAVAILABLE") from None
        except grpc.aio.AioRpcError as error:
            raise await self._failure(error) from error
        finally:
            call.cancel()

    async def _ask(self, name: str, request: Message, answer: type[Answer]) -> Answer:
        method: Any = self._channel.unary_unary(name, request_serializer=_serialized, response_deserializer=answer.FromString)
        try:
            response: Answer = await method(request, timeout=self._options.request_timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise await self._failure(error) from error
        return response

    async def _failure(self, error: grpc.aio.AioRpcError) -> ServerError:
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE:
            return ServerError(self.server, f"cannot reach it: {await self._reason(details)}", cure=CURE, code=code.name)
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return ServerError(self.server, details, status=2, code=code.name)
        if code is grpc.StatusCode.UNAUTHENTICATED:
            cure = "" if self.login.lacks == NOTHING_GIVEN and "--kubeconfig" in details else self.login.lacks
            return ServerError(self.server, f"it wants to know who you are: {details}", cure=cure, code=code.name)
        if code is grpc.StatusCode.UNKNOWN:  # Hubble's servers send plain errors so; the code adds nothing
            return ServerError(self.server, details, code=code.name)
        return ServerError(self.server, f"{code.name.lower().replace('_', ' ')}: {details}", code=code.name)

    async def _reason(self, details: str) -> str:
        """The cause of an UNAVAILABLE: what the port-forward says, what a second look finds, or the details' own."""
        if broken := self._broken():
            return broken
        reason = _unwrapped(details)
        if self.server.unix_path or reason.endswith("refused") or (self._options.port_forward and not self.server.tls):
            return reason
        return await asyncio.to_thread(diagnosis, self.server, self._options, self.login) or reason


async def dial(server: Server, options: ServerOptions, login: Login, broken: Callable[[], str] = str) -> Client:
    """A client of the server; the connection is made when it is first needed. Raises ServerError, UsageError."""
    settings: ChannelOptions = [
        *client_options("flows-cli"),
        # Despite its name, gRPC takes this as the time that one attempt to connect may last.
        ("grpc.min_reconnect_backoff_ms", max(1, int(options.timeout_s * 1000))),
    ]
    if not server.tls:
        return Client(server, options, login, grpc.aio.insecure_channel(server.target, settings), broken)
    try:
        made, more = await asyncio.to_thread(credentials, server, options, login)
    except OSError as error:
        cause = f"cannot get the server's certificate: {error}"
        raise ServerError(server, cause, code="UNAVAILABLE") from error
    return Client(server, options, login, grpc.aio.secure_channel(server.target, made, settings + more), broken)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


# gRPC: `failed to connect to all addresses; last error: UNKNOWN: ipv4:[::1]:1: Failed ...: refused (111)`.
_WRAPPING = (
    r"^failed to connect to all addresses; last error: \w+: (?:(?:ipv[46]|unix):\S+: )?",
    r"^Failed to connect to remote host: (?:connect: )?",
    r"^connect failed: addr: \S+ error: ",
    r" \(\d+\)$",
)


_STOPPED = "Cancelling all calls"  # as gRPC servers say of themselves when they stop
_BROKEN = r"Stream removed \(.*\)|Socket closed|recvmsg:.*"  # and gRPC of a connection that was there: its server was killed


def _unwrapped(details: str) -> str:
    if details == _STOPPED:
        return "it was stopped"
    if re.fullmatch(_BROKEN, details):
        return f"the connection broke: {details}"
    for wrapping in _WRAPPING:
        details = re.sub(wrapping, "", details)
    return details or "no answer"
