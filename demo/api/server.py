"""The HTTPS server: sockets, certificate and life of the API."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from aiohttp import web

from flows.demo.api.answering import MAX_BODY, Api
from flows.demo.api.bootstrap import bootstrap
from flows.demo.api.portforward import Connect, nowhere
from flows.demo.api.watching import BOOKMARK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flows.demo.api.pki import Pki
    from flows.demo.api.storage import Storage

SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


class RunningServer:
    """The server on its sockets; tests and the demo may stop and start listening to play an outage."""

    def __init__(self, api: Api, sockets: Sequence[socket.socket], names: Sequence[str]) -> None:
        self.api = api
        self._sockets = list(sockets)
        self._context = api.pki.server_context(names)
        self._runner: web.AppRunner | None = None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(address, port) of each TCP socket."""
        return [sock.getsockname()[:2] for sock in self._sockets if sock.family != socket.AF_UNIX]

    @property
    def url(self) -> str:
        """`https://ADDRESS:PORT` of the first socket."""
        address, port = self.addresses[0]
        return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"

    async def listen(self) -> None:
        """Take connections (again)."""
        if self._runner is not None:
            return
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self.api.handle)
        app.on_response_prepare.append(_without_server_header)
        # Cancellation ends the watch of a client that went away.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await self._runner.setup()
        for sock in self._sockets:
            sock.listen(128)
            await web.SockSite(self._runner, sock.dup(), ssl_context=self._context).start()

    async def stop_listening(self) -> None:
        """Refuse connections and end those that are open; the addresses stay ours."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        for sock in self._sockets:
            # Closing the copy that asyncio has would leave the kernel accepting for this one.
            sock.shutdown(socket.SHUT_RDWR)
        await runner.cleanup()

    async def close(self) -> None:
        """Stop for good."""
        await self.stop_listening()
        for sock in self._sockets:
            sock.close()


async def _without_server_header(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)


def bind_unix(path: Path) -> socket.socket:
    """A Unix socket bound to a path that only its owner can use. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(0o600)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def bind(address: str, port: int) -> socket.socket:
    """A TCP socket bound to an address; port 0 takes a free one. Raises OSError that names the address."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot bind the API server to {address} port {port}: {error.strerror}") from error
    sock.setblocking(False)
    return sock


async def start_api(
    storage: Storage,
    host_addresses: Sequence[str],
    port: int,
    pki: Pki,
    *,
    sockets: Sequence[socket.socket] = (),
    names: Sequence[str] = (),
    bookmark_seconds: float = BOOKMARK_SECONDS,
    connect: Connect = nowhere,
) -> RunningServer:
    """Serve `storage` over HTTPS on addresses of this network namespace and on bound `sockets`, also Unix ones.

    The certificate is good for `host_addresses`, the names and addresses of the `kubernetes` Service, localhost, and
    `names` (more DNS names or addresses, such as those where a front passes on to us). `connect` leads into pods.
    Creates what every cluster has (namespaces, roles) when it is missing.
    """
    bootstrap(storage)
    bound = [*(bind(address, port) for address in host_addresses), *sockets]
    service = [str(network.network_address + 1) for network in storage.addresses.networks.values()]
    all_names = [*SERVICE_NAMES, "localhost", "127.0.0.1", "::1", *host_addresses, *service, *names]
    server = RunningServer(Api(storage, pki, bookmark_seconds, connect), bound, all_names)
    await server.listen()
    return server
