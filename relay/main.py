"""`flows relay`: put the stations together, run until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from flows.relay import health, log
from flows.relay.access import AccessError, Accesses, accesses
from flows.relay.dialer import Dialer
from flows.relay.discovery.peer_stream import PeerStream
from flows.relay.discovery.static import StaticPeers
from flows.relay.metrics import Metrics
from flows.relay.options import RelayOptions, parse
from flows.relay.pool import Pool
from flows.relay.quota import Quota
from flows.relay.service import serve
from flows.relay.status import Status
from flows.wire.addresses import AddressError, prepare_sockets
from flows.wire.environment import prepare_grpc
from flows.wire.process import limit_arenas, until_signal
from flows.wire.tls import ClientTls, ServerTls, TlsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import grpc.aio
    from grpc_health.v1 import health as grpc_health

    from flows.kube.client import ApiClient
    from flows.relay.discovery.found import Discovery

GRACE_SECONDS = 1.0  # for clients that follow, when the relay stops
ARENAS = 2  # the loop's, and gRPC's threads


class StartError(Exception):
    """The relay cannot start; the text says why, and the cure."""


def main(argv: list[str]) -> int:
    """Run `relay ...` until SIGINT or SIGTERM. Returns the exit status."""
    limit_arenas(ARENAS)
    prepared = prepare_grpc()
    options = parse(argv)
    log.begin()
    raise_file_limit()
    try:
        check_tls(options, prepared=prepared)
        asyncio.run(run(options))
    except (StartError, AccessError, AddressError, TlsError) as error:
        sys.stderr.write(f"flows relay: {error}\n")
        return 1
    return 0


def check_tls(options: RelayOptions, *, prepared: bool) -> None:
    """Raises StartError if TLS is to be spoken and older versions of it could not be ruled out."""
    if not prepared and (options.tls or options.peer_tls):
        raise StartError("gRPC was loaded before it was told to speak nothing below TLS 1.3; start the relay as `flows relay`")


def raise_file_limit() -> None:
    """As many open files as we may: each agent is one, and the usual soft limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def connect_kubernetes(options: RelayOptions) -> ApiClient:
    """A client of the cluster's API. Raises StartError."""
    from flows.kube.client import ApiClient  # noqa: PLC0415 - 18 MB, often for nothing
    from flows.kube.errors import ConfigurationError  # noqa: PLC0415

    try:
        return ApiClient(options.kubeconfig, options.context, "flows-relay")
    except ConfigurationError as error:
        raise StartError(f"{error}; or give --peers or --peer-service instead of --agents-service") from error


def discoveries(options: RelayOptions, dialer: Dialer) -> list[Discovery]:
    """Where agents are found. Raises StartError."""
    found: list[Discovery] = []
    if options.peers:
        found.append(StaticPeers(options.peers))
    if options.agents_service:
        from flows.relay.discovery.endpoint_slices import EndpointSlices  # noqa: PLC0415 - msgspec's, often for nothing

        found.append(EndpointSlices(connect_kubernetes(options), options.agents_service, options.cluster))
    if options.peer_service:
        found.append(PeerStream(options.peer_service, dialer))
    return found


@contextlib.contextmanager
def admission(options: RelayOptions) -> Iterator[Accesses]:
    """Who may see what, on listeners of each kind. Raises StartError, AccessError."""
    api = connect_kubernetes(options) if options.kubernetes else None
    certificates = options.tls is not None and options.tls.client_ca is not None
    chosen = accesses(api, options.remote, client_certificates=certificates, allow_unauthenticated=options.allow_unauthenticated)
    try:
        yield chosen
    finally:
        chosen.close()
        if api is not None:
            api.close()


@contextlib.contextmanager
def exported(metrics: Metrics, address: str) -> Iterator[None]:
    """Metrics over HTTP while inside. Raises AddressError."""
    if not address:
        yield
        return
    server, thread = metrics.serve(address)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.asynccontextmanager
async def serving(
    options: RelayOptions, pool: Pool, access: Accesses, metrics: Metrics
) -> AsyncIterator[list[grpc_health.aio.HealthServicer]]:
    """One server for listeners of each kind: what a caller may see depends on which it came by. Raises AddressError, TlsError."""
    release = version("flows")
    status, quota = Status(pool, release), Quota()
    tls = ServerTls(options.tls) if options.tls is not None else None
    kinds = (
        (options.sockets, access.sockets, None),
        (options.loopback, access.loopback, None),
        (options.remote, access.remote, tls),
    )
    servers: list[grpc.aio.Server] = []
    healths: list[grpc_health.aio.HealthServicer] = []
    try:
        for addresses, admitting, secured in kinds:
            if addresses:
                server, healthy = await serve(addresses, secured, pool, admitting, status, metrics, release, quota)
                servers.append(server)
                healths.append(healthy)
        yield healths
    finally:
        await asyncio.gather(*(server.stop(GRACE_SECONDS) for server in servers))


async def run(options: RelayOptions) -> None:
    """Start everything, wait for the end, stop everything in reverse order."""
    prepare_sockets(options.listen)
    dialer = Dialer(ClientTls(options.peer_tls) if options.peer_tls else None, options.peer_server_name, options.cluster)
    metrics = Metrics()
    with admission(options) as access, exported(metrics, options.metrics_listen):
        async with (
            Pool(discoveries(options, dialer), dialer) as pool,
            serving(options, pool, access, metrics) as healths,
        ):
            metrics.watch(pool)
            tasks = [asyncio.create_task(work) for work in (health.keep(healths, pool), log.report(pool))]
            logging.getLogger("flows.relay").info("serving on %s", ", ".join(options.listen))
            await until_signal()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
