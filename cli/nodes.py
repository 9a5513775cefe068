"""Nodes: `flows list nodes`, which only a relay can answer."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from flows.cli.print.escape import escape
from flows.cli.print.status import duration
from flows.cli.print.table import table
from flows.cli.route import connection
from flows.cli.servers import ServerError
from flows.flow.protojson import to_json
from flows.proto import relay_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flows.cli.options import ServerOptions
    from flows.cli.servers import Server
    from flows.proto.observer_pb2 import Node

_ABSENT = "N/A"
_STATES: Mapping[int, str] = {
    relay_pb2.NODE_CONNECTED: "Connected",
    relay_pb2.NODE_UNAVAILABLE: "Unavailable",
    relay_pb2.NODE_GONE: "Gone",
    relay_pb2.NODE_ERROR: "Error",
}
_COLUMNS = ("NAME", "STATUS", "AGE", "FLOWS/S", "CURRENT/MAX-FLOWS")
_MORE = ("VERSION", "ADDRESS", "TLS")


def print_nodes(server: Server | None, options: ServerOptions, output: str) -> None:
    """Prints the nodes behind a relay, sorted by name. Raises ServerError."""
    nodes = asyncio.run(_ask(server, options))
    sys.stdout.write(NODE_FORMATS[output](sorted(nodes, key=lambda node: node.name)))


async def _ask(server: Server | None, options: ServerOptions) -> Sequence[Node]:
    async with connection(server, options) as client:
        try:
            return (await client.nodes()).nodes
        except ServerError as error:
            if error.code != "UNIMPLEMENTED":
                raise
            cure = "name one with --server, or use -P"
            raise ServerError(client.server, "an agent knows no nodes but its own: ask a relay", cure=cure) from error


def _row(node: Node) -> list[str]:
    seconds = (node.uptime_ns + 500_000_000) // 1_000_000_000
    fill = f"{node.num_flows}/{node.max_flows} ({node.num_flows / node.max_flows * 100:6.2f}%)" if node.max_flows else _ABSENT
    return [
        escape(node.name),
        _STATES.get(node.state, "Unknown"),
        duration(seconds * 1_000_000_000) if seconds else _ABSENT,
        f"{node.seen_flows / seconds:.2f}" if seconds else _ABSENT,
        fill,
    ]


def _wide_row(node: Node) -> list[str]:
    tls = ("Enabled" if node.tls.enabled else "Disabled") if node.HasField("tls") else _ABSENT
    return [*_row(node), escape(node.version) or _ABSENT, escape(node.address), tls]


def _json(nodes: Sequence[Node]) -> str:
    """Hubble's: protojson of each, indented. ASCII only, so that it is safe on a terminal."""
    return json.dumps([json.loads(to_json(node)) for node in nodes], indent=2) + "\n"


NODE_FORMATS: Mapping[str, Callable[[Sequence[Node]], str]] = {
    "table": lambda nodes: table(_COLUMNS, [_row(node) for node in nodes]),
    "wide": lambda nodes: table([*_COLUMNS, *_MORE], [_wide_row(node) for node in nodes]),
    "json": _json,
}
