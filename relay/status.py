"""Status: what all agents together say of themselves, for a caller who may see all of it or some namespaces."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from google.protobuf.wrappers_pb2 import UInt32Value

from flows.proto import observer_pb2, relay_pb2
from flows.relay.access.scope import shown_name
from flows.relay.link import PeerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flows.relay.peer import Peer
    from flows.relay.pool import Pool

ANSWER_SECONDS: Final = 3.0  # per agent; all are asked at once, so an answer takes no longer
CACHED_SECONDS: Final = 1.0  # any number of callers ask the agents once in this time
UNAVAILABLE_SHOWN: Final = 10  # as in Hubble's relay

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Told(Generic[Answer]):
    """What one peer answered: answer is None if it failed or was not there to be asked; error says why."""

    peer: Peer
    state: int
    answer: Answer | None
    error: str


class Round(Generic[Answer]):
    """One question to all peers; its answers are good for CACHED_SECONDS, and one round runs at a time."""

    def __init__(self, pool: Pool, ask: Callable[[Peer], Awaitable[Answer]]) -> None:
        self._pool, self._ask = pool, ask
        self._lock = asyncio.Lock()
        self._told: list[Told[Answer]] = []
        self._at = -CACHED_SECONDS

    async def told(self) -> list[Told[Answer]]:
        """All peers' answers, sorted by the peers' names."""
        async with self._lock:
            if time.monotonic() - self._at >= CACHED_SECONDS:
                self._told = await asyncio.gather(*map(self._one, self._pool.peers()))
                self._at = time.monotonic()
            return self._told

    async def _one(self, peer: Peer) -> Told[Answer]:
        if peer.state != relay_pb2.NODE_CONNECTED:
            return Told(peer, peer.state, None, peer.message)
        try:
            return Told(peer, peer.state, await self._ask(peer), "")
        except PeerError as error:
            return Told(peer, relay_pb2.NODE_ERROR, None, str(error))


class Status:
    """The answers to ServerStatus, GetNodes and GetNamespaces.

    A caller limited to some namespaces sees only those, and of nodes what tells him how far answers can be trusted: names,
    states, versions and how long they are up. How many flows there are, and how fast they come, is about everybody's
    namespaces; where nodes are reached, and the errors that say so, are the administrators' affair.
    """

    def __init__(self, pool: Pool, version: str) -> None:
        self._pool, self._version = pool, version
        self._statuses = Round(pool, lambda peer: peer.server_status(ANSWER_SECONDS))
        self._namespaces = Round(pool, lambda peer: peer.namespaces(ANSWER_SECONDS))

    async def server_status(self, namespaces: frozenset[str] | None = None) -> observer_pb2.ServerStatusResponse:
        """Hubble relay's sums over all agents that answer, and how many do not. namespaces: the caller's limit."""
        told = await self._statuses.told()
        answers = [one.answer for one in told if one.answer is not None]
        missing = [shown_name(one.peer.name, namespaces, named=one.peer.named) for one in told if one.answer is None]
        response = observer_pb2.ServerStatusResponse(
            uptime_ns=max((one.uptime_ns for one in answers), default=0),
            num_connected_nodes=UInt32Value(value=len(answers)),
            num_unavailable_nodes=UInt32Value(value=len(missing)),
            unavailable_nodes=missing[:UNAVAILABLE_SHOWN],
            version=f"flows-relay v{self._version}",
        )
        if namespaces is None:
            response.num_flows = sum(one.num_flows for one in answers)
            response.max_flows = sum(one.max_flows for one in answers)
            response.seen_flows = sum(one.seen_flows for one in answers)
            response.flows_rate = sum(one.flows_rate for one in answers)
        return response

    async def nodes(self, namespaces: frozenset[str] | None = None) -> observer_pb2.GetNodesResponse:
        """Every agent, sorted by name, also those that do not answer. namespaces: the caller's limit."""
        return observer_pb2.GetNodesResponse(nodes=[_node(one, namespaces) for one in await self._statuses.told()])

    async def namespaces(self, namespaces: frozenset[str] | None = None) -> observer_pb2.GetNamespacesResponse:
        """The namespaces of which any agent that answers has flows, sorted. namespaces: the caller's limit."""
        told = await self._namespaces.told()
        found = {
            (each.cluster, each.namespace)
            for one in told
            if one.answer is not None
            for each in one.answer.namespaces
            if namespaces is None or each.namespace in namespaces
        }
        listed = [observer_pb2.Namespace(cluster=cluster, namespace=name) for cluster, name in sorted(found)]
        return observer_pb2.GetNamespacesResponse(namespaces=listed)


def _node(told: Told[observer_pb2.ServerStatusResponse], namespaces: frozenset[str] | None) -> observer_pb2.Node:
    name = shown_name(told.peer.name, namespaces, named=told.peer.named)
    node = observer_pb2.Node(name=name, state=told.state)  # type: ignore[arg-type]
    if told.answer is not None:
        node.version, node.uptime_ns = told.answer.version, told.answer.uptime_ns
    if namespaces is not None:
        return node
    node.address = told.peer.address
    node.tls.enabled, node.tls.server_name = told.peer.tls
    if told.answer is not None:
        node.num_flows, node.max_flows = told.answer.num_flows, told.answer.max_flows
        node.seen_flows = told.answer.seen_flows
    return node
