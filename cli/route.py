"""Route: the way to the server: directly, or through a port-forward; and who goes it."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from flows.cli.login import Caller, check_privacy
from flows.cli.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flows.cli.client import Client
    from flows.cli.login import Login
    from flows.cli.options import ServerOptions


class Route:
    """Connects to one server, as often as needed, with the credentials of the moment."""

    def __init__(self, server: Server, options: ServerOptions, caller: Caller, broken: Callable[[], str] = str) -> None:
        """broken: why there is no way, as dial() takes it. Raises UsageError if a token must not go this way."""
        self.server, self._options, self._caller, self._broken = server, options, caller, broken
        check_privacy(server, options)

    async def login(self, *, fresh: bool = False) -> Login:
        """Who we are now. fresh: read and ask everything again. Raises UsageError."""
        return await asyncio.to_thread(self._caller.login, fresh=fresh)

    async def client(self) -> Client:
        """A new connection. Raises ServerError, UsageError."""
        # Its C core would write notes of its own to standard error: "Got goaway". What matters comes as an exception.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from flows.cli.client import dial  # noqa: PLC0415 - gRPC takes a while to load

        return await dial(self.server, self._options, await self.login(), self._broken)


@asynccontextmanager
async def route(server: Server | None, options: ServerOptions) -> AsyncIterator[Route]:
    """The way to the server, or with None to the relay of a cluster (-P). Raises UsageError, PortForwardError."""
    caller = Caller(options)
    if server is not None:
        yield Route(server, options, caller)
        return
    from flows.cli.portforward import port_forward  # noqa: PLC0415 - with the Kubernetes client

    async with port_forward(options, caller) as forward:
        label = f"{forward.name} (port-forward)"
        yield Route(Server(f"127.0.0.1:{forward.port}", options.tls, label), options, caller, lambda: forward.failure)


@asynccontextmanager
async def connection(server: Server | None, options: ServerOptions) -> AsyncIterator[Client]:
    """One connection for one question, closed at the end."""
    async with route(server, options) as way:
        client = await way.client()
        try:
            yield client
        finally:
            await client.close()
