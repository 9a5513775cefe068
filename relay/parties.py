"""Parties: what a stream of flows needs of the peer that it asks, and of who listens to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flows.proto import flows_pb2, observer_pb2
    from flows.relay.clock import Clock
    from flows.relay.stream import Stream


class PeerLike(Protocol):
    """What is asked of relay.peer.Peer."""

    state: int
    message: str

    @property
    def name(self) -> str: ...
    @property
    def named(self) -> bool: ...
    @property
    def address(self) -> str: ...
    @property
    def clock(self) -> Clock | None: ...
    @property
    def batched(self) -> bool | None: ...

    async def available(self, timeout: float) -> bool: ...  # noqa: ASYNC109
    def get_batches(self, request: flows_pb2.FlowsRequest) -> AsyncIterator[flows_pb2.FlowBatch]: ...
    def get_flows(self, request: observer_pb2.GetFlowsRequest) -> AsyncIterator[observer_pb2.GetFlowsResponse]: ...


class Listener(Protocol):
    """Who hears what happens to streams."""

    def heard(self, stream: Stream) -> None:
        """Something is in its lane, or it has ended."""

    def changed(self, stream: Stream, state: int, message: str) -> None:
        """Its node's state changed."""

    def told(self, message: flows_pb2.FlowBatch) -> None:
        """Its agent said more than flows: losses, states of nodes."""

    async def room(self, stream: Stream) -> None:
        """Wait until its lane may take more."""
