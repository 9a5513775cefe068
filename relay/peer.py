"""Peer: one agent as the rest of the relay knows it, and what can be asked of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import grpc

from flows.proto import flows_pb2, observer_pb2
from flows.relay import link
from flows.relay.keeper import Keeper
from flows.relay.link import Link, PeerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flows.relay.clock import Clock

__all__ = ["Peer", "PeerError"]


class Peer(Keeper):
    """One agent, kept connected; every call raises PeerError, at once if it is not."""

    @property
    def clock(self) -> Clock | None:
        """Its clock against ours; None if it cannot be measured."""
        return self._probe.clock

    @property
    def batched(self) -> bool | None:
        """Whether it serves flows.v1.Flows; None: not known yet."""
        return self._probe.batched

    @property
    def addresses(self) -> frozenset[str]:
        """IP addresses that its discovery names."""
        return self._found.addresses

    @property
    def tls(self) -> tuple[bool, str]:
        """Whether TLS is spoken with it, and the name that its certificate must have."""
        secure = self._dialer.secure(self._found, self.address)
        return secure, self._dialer.server_name(self._found) if secure else ""

    def get_batches(self, request: flows_pb2.FlowsRequest) -> AsyncIterator[flows_pb2.FlowBatch]:
        """flows.v1.Flows/GetFlows. Raises PeerError; UNIMPLEMENTED: it has only Observer."""
        return self._batches(request)

    async def _batches(self, request: flows_pb2.FlowsRequest) -> AsyncIterator[flows_pb2.FlowBatch]:
        stream = self._connected("GetFlows").stream(link.GET_BATCHES, request)
        try:
            async with contextlib.aclosing(stream):
                async for batch in stream:
                    yield batch
        except PeerError as error:
            if error.code is grpc.StatusCode.UNIMPLEMENTED:
                self._probe.batched = False
            raise

    async def get_flows(self, request: observer_pb2.GetFlowsRequest) -> AsyncIterator[observer_pb2.GetFlowsResponse]:
        """observer.Observer/GetFlows. Raises PeerError."""
        stream = self._connected("GetFlows").stream(link.GET_FLOWS, request)
        async with contextlib.aclosing(stream):
            async for response in stream:
                yield response

    async def get_connections(self, request: flows_pb2.ConnectionsRequest, timeout: float) -> flows_pb2.FlowBatch:  # noqa: ASYNC109
        """flows.v1.Flows/GetConnections. Raises PeerError."""
        return await self._connected("GetConnections").ask(link.GET_CONNECTIONS, request, timeout)

    async def server_status(self, timeout: float) -> observer_pb2.ServerStatusResponse:  # noqa: ASYNC109
        """observer.Observer/ServerStatus. Raises PeerError."""
        return await self._connected("ServerStatus").ask(link.SERVER_STATUS, observer_pb2.ServerStatusRequest(), timeout)

    async def namespaces(self, timeout: float) -> observer_pb2.GetNamespacesResponse:  # noqa: ASYNC109
        """observer.Observer/GetNamespaces. Raises PeerError."""
        return await self._connected("GetNamespaces").ask(link.GET_NAMESPACES, observer_pb2.GetNamespacesRequest(), timeout)

    def _connected(self, what: str) -> Link:
        if self._link is None:
            why = self.message or "not connected"
            raise PeerError(grpc.StatusCode.UNAVAILABLE, f"asking {self.name} ({self.address}) for {what}: {why}")
        return self._link
