"""peer.Peer on gRPC: the agents of the cluster, one on each node that this one knows, for relays."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from flows.agent.observer.decode import address_text
from flows.agent.observer.limits import Limit, LimitError
from flows.proto import peer_pb2, peer_pb2_grpc
from flows.wire.addresses import host_and_port, is_local, join
from flows.wire.tls import SERVER_NAME, server_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from flows.agent.enrich.kube_records import NodeRecord

    Members = dict[str, peer_pb2.ChangeNotification]
    Nodes = Mapping[str, NodeRecord]  # by name in Kubernetes

PORT = 4244  # of Hubble's agents
LOOK_SECONDS = 1.0  # how often to look for new nodes; they take minutes to come up


@dataclass(frozen=True, slots=True)
class Addressing:
    """How agents of this cluster are reached: all as this one."""

    node: str  # as Kubernetes names it
    cluster: str
    listen: tuple[str, ...]
    tls: bool = False

    def name(self, node: str) -> str:
        """A node's name as flows show it."""
        return node if self.cluster == "default" else f"{self.cluster}/{node}"

    def member(self, node: str, addresses: Sequence[bytes]) -> peer_pb2.ChangeNotification:
        """A node's agent; without an address if none is known, as in Hubble."""
        told = peer_pb2.ChangeNotification(name=self.name(node), type=peer_pb2.PEER_ADDED)
        if addresses:
            told.address = join(address_text(addresses[0]).decode(), self._port)
        elif node == self.node:
            told.address = next((address for address in self.listen if not address.startswith("unix:")), self.listen[0])
        if self.tls:
            told.tls.server_name = server_name(SERVER_NAME, node, self.cluster)
        return told

    @property
    def _port(self) -> int:
        """The port that others reach this agent by, or else Hubble's: the default listener is for this machine only."""
        ports = [host_and_port(address)[1] for address in self.listen if not is_local(address)]
        return ports[0] if ports else PORT


def members(nodes: Nodes, addressing: Addressing) -> Members:
    """Agents by name; this one is always among them."""
    known: dict[str, Sequence[bytes]] = {addressing.node: (), **{name: node.addresses for name, node in nodes.items()}}
    return {told.name: told for told in (addressing.member(node, addresses) for node, addresses in sorted(known.items()))}


def changes(before: Members, now: Members) -> Iterator[peer_pb2.ChangeNotification]:
    """What to tell somebody who knows `before`."""
    for name, member in now.items():
        if name not in before:
            yield member
        elif member != before[name]:
            updated = peer_pb2.ChangeNotification()
            updated.CopyFrom(member)
            updated.type = peer_pb2.PEER_UPDATED
            yield updated
    for name, member in before.items():
        if name not in now:
            deleted = peer_pb2.ChangeNotification()
            deleted.CopyFrom(member)
            deleted.type = peer_pb2.PEER_DELETED
            yield deleted


class PeerService(peer_pb2_grpc.PeerServicer):
    """Tells who the agents are, and what changes."""

    def __init__(self, nodes: Callable[[], Nodes], addressing: Addressing, streams: Limit) -> None:
        """nodes: those that are known now; another mapping whenever one has changed."""
        self._nodes, self._addressing, self._streams = nodes, addressing, streams

    async def Notify(  # noqa: N802 - gRPC's name
        self, _request: peer_pb2.NotifyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_pb2.ChangeNotification]:
        """Stream all agents as added, then changes."""
        told: Members = {}
        seen: Nodes | None = None
        try:
            with self._streams.one():
                while True:
                    nodes = self._nodes()
                    if nodes is not seen:
                        seen, before, told = nodes, told, members(nodes, self._addressing)
                        for change in changes(before, told):
                            yield change
                    await asyncio.sleep(LOOK_SECONDS)
        except LimitError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
