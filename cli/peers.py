"""Peers: `flows watch peers`, the nodes that a server's peer.Peer service tells of, and their changes."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from flows.cli.outlet import until_reader_gone
from flows.cli.print.escape import escape
from flows.cli.print.event import enum_name
from flows.cli.route import connection
from flows.cli.servers import ServerError
from flows.proto import peer_pb2

if TYPE_CHECKING:
    from typing import TextIO

    from flows.cli.options import ServerOptions
    from flows.cli.servers import Server


def watch_peers(server: Server | None, options: ServerOptions) -> None:
    """Prints a line per change until the server ends. Raises ServerError."""

    async def watch() -> None:
        await until_reader_gone(sys.stdout, asyncio.create_task(_print(server, options, sys.stdout)))

    asyncio.run(watch())


async def _print(server: Server | None, options: ServerOptions, out: TextIO) -> None:
    async with connection(server, options) as client:
        try:
            async with aclosing(client.peers()) as changes:
                async for change in changes:
                    out.write(peer_line(change))
                    out.flush()
        except ServerError as error:
            if error.code != "UNIMPLEMENTED":
                raise
            raise ServerError(client.server, "it does not tell of peers: ask an agent, or a relay of flows") from error


def peer_line(change: peer_pb2.ChangeNotification) -> str:
    """As `hubble watch peers` prints it, newline included."""
    name = f" (TLS.ServerName: {escape(change.tls.server_name)})" if change.HasField("tls") else ""
    kind = enum_name(peer_pb2.ChangeNotificationType, change.type)
    return f"{kind:<12} {escape(change.address)} {escape(change.name)}{name}\n"
