"""Link: one connection to an agent, and the calls on it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import grpc.aio

from flows.proto import flows_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from google.protobuf.message import Message

READY: Final = grpc.ChannelConnectivity.READY
FAILED: Final = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)

Answer = TypeVar("Answer", bound="Message")

# Of each call: its path and what it answers.
GET_BATCHES: Final = ("/flows.v1.Flows/GetFlows", flows_pb2.FlowBatch)
GET_CONNECTIONS: Final = ("/flows.v1.Flows/GetConnections", flows_pb2.FlowBatch)
GET_CLOCK: Final = ("/flows.v1.Flows/GetClock", flows_pb2.ClockResponse)
GET_FLOWS: Final = ("/observer.Observer/GetFlows", observer_pb2.GetFlowsResponse)
SERVER_STATUS: Final = ("/observer.Observer/ServerStatus", observer_pb2.ServerStatusResponse)
GET_NAMESPACES: Final = ("/observer.Observer/GetNamespaces", observer_pb2.GetNamespacesResponse)


class PeerError(Exception):
    """A call to an agent failed. The text says what was done, with whom, and what to do."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Link:
    """One channel to one address. Closed by cut(), or after its last call once it was retired."""

    def __init__(self, channel: grpc.aio.Channel, name: str, address: str) -> None:
        self.name, self.address = name, address
        self._channel = channel
        self._calls = 0
        self._retired = False
        self._cut = ""
        self._closing: asyncio.Task[None] | None = None

    async def connect(self) -> bool:
        """Make the one attempt; tells whether it succeeded."""
        state = self._channel.get_state(try_to_connect=True)
        while state is not READY:
            if state in FAILED:
                return False
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)
        return True

    async def lost(self) -> None:
        """Return when it is no longer connected."""
        await self._channel.wait_for_state_change(READY)

    async def ask(self, method: tuple[str, type[Answer]], request: Message, timeout: float) -> Answer:  # noqa: ASYNC109 - gRPC's own
        """One answer. Raises PeerError."""
        path, answer = method
        call = self._channel.unary_unary(path, _serialized, answer.FromString)
        try:
            with self._counted():
                answered: Answer = await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise self._failure(path, error) from error
        except (asyncio.CancelledError, grpc.aio.UsageError):
            self._raise_if_cut(path)
            raise
        return answered

    async def stream(self, method: tuple[str, type[Answer]], request: Message) -> AsyncGenerator[Answer, None]:
        """The answers as they come. Raises PeerError."""
        path, answer = method
        with self._counted():
            call: Any = None
            try:
                call = self._channel.unary_stream(path, _serialized, answer.FromString)(request)
                async for message in call:
                    yield message
            except grpc.aio.AioRpcError as error:
                raise self._failure(path, error) from error
            except (asyncio.CancelledError, grpc.aio.UsageError):
                self._raise_if_cut(path)
                raise
            finally:
                if call is not None:
                    call.cancel()

    def retire(self) -> None:
        """Take no more calls; close when those under way have ended."""
        self._retired = True
        self._close_if_done()

    def cut(self, why: str) -> None:
        """Close now; calls under way fail with this reason."""
        self._cut = why
        self._close()

    async def closed(self) -> None:
        """Wait until a channel that was told to close has done so."""
        if self._closing is not None:
            await self._closing

    @contextlib.contextmanager
    def _counted(self) -> Any:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._retired and not self._calls:
            self._close()

    def _close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._channel.close())

    def _raise_if_cut(self, path: str) -> None:
        """gRPC tells a call whose channel was closed that it was cancelled; only our own caller may say that."""
        task = asyncio.current_task()
        if self._closing is not None and (task is None or not task.cancelling()):
            why = self._cut or "the connection was replaced"
            raise PeerError(grpc.StatusCode.UNAVAILABLE, f"{self._act(path)}: {why}") from None

    def _failure(self, path: str, error: grpc.aio.AioRpcError) -> PeerError:
        code = error.code()
        cause = {
            grpc.StatusCode.UNIMPLEMENTED: "it does not serve this call",
            grpc.StatusCode.UNAVAILABLE: "the connection was lost",
            grpc.StatusCode.DEADLINE_EXCEEDED: "no answer in time",
        }.get(code)
        details = error.details() or code.name
        return PeerError(code, f"{self._act(path)}: {f'{cause} ({details})' if cause else details}")

    def _act(self, path: str) -> str:
        where = self.name if self.name == self.address else f"{self.name} ({self.address})"
        return f"asking {where} for {path.rpartition('/')[2]}"


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
