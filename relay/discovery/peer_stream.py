"""Peer stream: agents as a peer.Peer service tells them, Cilium's hubble-peer or one of our agents."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
from typing import TYPE_CHECKING, Final

import grpc.aio

from flows.proto import peer_pb2
from flows.relay.backoff import Backoff
from flows.relay.discovery.found import Found
from flows.wire.addresses import join, listen_address
from flows.wire.tls import TlsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flows.relay.dialer import Dialer

AGENT_PORT: Final = 4244  # of Hubble: a peer's address may be a bare one of its node
SERVICE_NODE: Final = "hubble-peer"  # stands for the node in the name that the service's certificate has
# A stream begins with all peers, without a mark where they end: what was not told again by then is gone.
TOLD_AGAIN_SECONDS: Final = 10.0


class PeerStream:
    """What one peer.Peer/Notify stream told; kept while it is down."""

    def __init__(self, address: str, dialer: Dialer, settle: float = TOLD_AGAIN_SECONDS, backoff: Backoff | None = None) -> None:
        self.status = f"peers of {address}: not told yet"
        self._address, self._dialer, self._settle = address, dialer, settle
        self._backoff = backoff or Backoff()
        self._service = Found(SERVICE_NODE, (address,))
        self._known: dict[str, Found] = {}
        self._told: set[str] = set()

    async def follow(self, found: Callable[[Sequence[Found]], None]) -> None:
        """Stay on the stream, for ever."""
        while True:
            try:
                await self._stream(found)
                cause = "the server ended the stream"
            except grpc.aio.AioRpcError as error:
                why = await self._dialer.diagnose(self._service, self._address)
                cause = why or f"{error.code().name}: {error.details()}"
            except TlsError as error:
                cause = str(error)
            self.status = f"peers of {self._address}: {cause}; known ones are kept"
            found(tuple(self._known.values()))
            await asyncio.sleep(self._backoff.pause())

    async def _stream(self, found: Callable[[Sequence[Found]], None]) -> None:
        self._told = set()
        async with self._dialer.channel(self._service, self._address) as channel:
            notify = channel.unary_stream(
                "/peer.Peer/Notify",
                request_serializer=peer_pb2.NotifyRequest.SerializeToString,
                response_deserializer=peer_pb2.ChangeNotification.FromString,
            )
            settled = asyncio.create_task(self._forget(found))
            try:
                async for change in notify(peer_pb2.NotifyRequest()):
                    self._backoff.reset()
                    self._take(change)
                    found(tuple(self._known.values()))
            finally:
                settled.cancel()

    async def _forget(self, found: Callable[[Sequence[Found]], None]) -> None:
        """Drop what this stream has not told, once it had time to; an empty stream tells nothing and drops nothing."""
        await asyncio.sleep(self._settle)
        if self._told and self._told != self._known.keys():
            self._known = {name: one for name, one in self._known.items() if name in self._told}
            found(tuple(self._known.values()))

    def _take(self, change: peer_pb2.ChangeNotification) -> None:
        self.status = ""
        if change.type == peer_pb2.PEER_DELETED:
            self._known.pop(change.name, None)
            self._told.discard(change.name)
            return
        address = peer_address(change.address)
        self._told.add(change.name)
        self._known[change.name] = Found(change.name, (address,) if address else (), server_name=change.tls.server_name, tls=True)


def peer_address(text: str) -> str | None:
    """`host:port` of a notification's address, which may lack the port; None if it is neither.

    A unix socket is neither, and TLS is not left out for loopback: somebody else's word opens nothing on this machine.
    """
    with contextlib.suppress(ValueError):
        return join(str(ipaddress.ip_address(text)), AGENT_PORT)
    with contextlib.suppress(argparse.ArgumentTypeError):
        return None if text.startswith("unix:") else listen_address(text)
    return None
