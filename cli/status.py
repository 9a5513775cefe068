"""Status: `flows status` and `flows list namespaces`: the questions that servers answer at once."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from flows.cli.print.coverage import skew
from flows.cli.print.escape import escape
from flows.cli.print.jsonlines import json_line
from flows.cli.print.status import status_compact, status_dict, status_table
from flows.cli.print.table import table
from flows.cli.route import connection
from flows.cli.servers import ServerError
from flows.proto import flows_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flows.cli.client import Client
    from flows.cli.options import ServerOptions
    from flows.cli.servers import Server

STATUS_FORMATS: Mapping[str, Callable[[observer_pb2.ServerStatusResponse], str]] = {
    "compact": status_compact,
    "dict": status_dict,
    "json": json_line(sys.stdout),
    "table": status_table,
}


def _namespace_json(found: Sequence[tuple[str, str]]) -> str:
    """Hubble's: an indented list. ASCII only, so that it is safe on a terminal."""
    listed = [{"cluster": cluster, "namespace": name} for cluster, name in found]
    return json.dumps([{key: value for key, value in each.items() if value} for each in listed], indent=2) + "\n"


NAMESPACE_FORMATS: Mapping[str, Callable[[Sequence[tuple[str, str]]], str]] = {
    "table": lambda found: table(["NAMESPACE"], [[escape(name)] for _, name in found]),
    "wide": lambda found: table(["NAMESPACE", "CLUSTER"], [[escape(name), escape(cluster)] for cluster, name in found]),
    "json": _namespace_json,
}


def print_status(server: Server | None, options: ServerOptions, output: str) -> None:
    """Prints health and status of the server. Raises ServerError if it does not answer or is ill."""
    named, status, clocks = asyncio.run(_status(server, options))
    if output == "compact":
        print(f"Healthcheck (via {escape(named)}): Ok")
    sys.stdout.write(STATUS_FORMATS[output](status))
    if output == "compact" and clocks:
        print(f"Clocks: {clocks}")


def print_namespaces(server: Server | None, options: ServerOptions, output: str) -> None:
    """Prints the namespaces of which the server holds flows, sorted. Raises ServerError."""

    async def ask() -> observer_pb2.GetNamespacesResponse:
        async with connection(server, options) as client:
            return await client.namespaces()

    found = sorted({(each.cluster, each.namespace) for each in asyncio.run(ask()).namespaces})
    sys.stdout.write(NAMESPACE_FORMATS[output](found))


async def _status(server: Server | None, options: ServerOptions) -> tuple[str, observer_pb2.ServerStatusResponse, str]:
    """How the server is called, what it says of itself, and with --debug how far its nodes' clocks are off."""
    async with connection(server, options) as client:
        if not await client.healthy():
            raise ServerError(client.server, "not healthy")
        clocks = await _clocks(client) if options.debug else ""
        return str(client.server), await client.status(), clocks


async def _clocks(client: Client) -> str:
    """From the coverage of the smallest query; a server without batches does not tell."""
    request = flows_pb2.FlowsRequest(query=observer_pb2.GetFlowsRequest(number=1))
    try:
        async with aclosing(client.get_batches(request, None)) as batches:
            told = [batch.coverage async for batch in batches if batch.HasField("coverage")]
    except ServerError as error:
        if error.code != "UNIMPLEMENTED":
            raise
        return "not told by this server"
    measured = [node for each in told for node in each.nodes if node.HasField("clock_offset")]
    if not measured:
        return "not measured"
    return skew(measured) or f"{len(measured)} measured, none is off by more than 10 ms"
