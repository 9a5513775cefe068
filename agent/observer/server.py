"""The agent's gRPC server: its services, health and reflection, on all its addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from flows.agent.observer import limits
from flows.agent.observer.flows_service import FlowsService
from flows.agent.observer.fresh import Fresh, Freshen
from flows.agent.observer.peers import Addressing, PeerService
from flows.agent.observer.service import ObserverService
from flows.proto import flows_pb2, flows_pb2_grpc, observer_pb2, observer_pb2_grpc, peer_pb2, peer_pb2_grpc
from flows.wire.addresses import bind
from flows.wire.limits import server_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.agent.observer.observer import Observer
    from flows.agent.observer.peers import Nodes
    from flows.wire.tls import ServerTls

SERVICES = tuple(
    file.services_by_name[name].full_name
    for file, name in ((observer_pb2.DESCRIPTOR, "Observer"), (flows_pb2.DESCRIPTOR, "Flows"), (peer_pb2.DESCRIPTOR, "Peer"))
)
HEALTH_NAMES = ("", "hubble.server.Observer", *SERVICES)  # the second is what the hubble CLI asks for


async def serve(
    observer: Observer,
    addressing: Addressing,
    nodes: Callable[[], Nodes],
    tls: ServerTls | None = None,
    freshen: Freshen | None = None,
) -> grpc.aio.Server:
    """Serve on all addresses (`host:port`, `unix:///path`). nodes: what peer.Peer tells. Raises AddressError.

    Unix sockets are for root and its group; TCP off this machine takes clients with a certificate if tls is given.
    """
    server = grpc.aio.server(options=server_options())
    fresh, streams, histories = Fresh(freshen), limits.streams(), limits.histories()
    add_observer, add_flows, add_peer = (
        observer_pb2_grpc.add_ObserverServicer_to_server,
        flows_pb2_grpc.add_FlowsServicer_to_server,
        peer_pb2_grpc.add_PeerServicer_to_server,
    )
    add_observer(ObserverService(observer, fresh, streams, histories), server)  # type: ignore[no-untyped-call]
    add_flows(FlowsService(observer, fresh, streams, histories), server)  # type: ignore[no-untyped-call]
    add_peer(PeerService(nodes, addressing, streams), server)  # type: ignore[no-untyped-call]
    healths = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    reflection.enable_server_reflection([*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    bind(server, addressing.listen, tls)
    await server.start()
    for name in HEALTH_NAMES:
        await healths.set(name, health_pb2.HealthCheckResponse.SERVING)
    return server
