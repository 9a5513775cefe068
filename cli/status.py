"""Status: `flows status` and `flows list namespaces`: the questions that servers answer at once."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, TypeVar

from flows.cli.print.escape import escape
from flows.cli.print.jsonlines import json_line
from flows.cli.print.status import status_compact, status_dict, status_table
from flows.cli.print.table import table
from flows.cli.servers import ServerError
from flows.proto import observer_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from flows.cli.client import Client
    from flows.cli.options import ServerOptions
    from flows.cli.servers import Server

Answer = TypeVar("Answer")

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


def print_status(servers: Sequence[Server], options: ServerOptions, output: str) -> None:
    """Prints health and status of each server. Raises ServerError if one does not answer or is ill."""
    for server, status in zip(servers, _ask(servers, options, _healthy_status), strict=True):
        if output == "compact":
            print(f"Healthcheck (via {escape(server.address)}): Ok")
        sys.stdout.write(STATUS_FORMATS[output](status))


def print_namespaces(servers: Sequence[Server], options: ServerOptions, output: str) -> None:
    """Prints the namespaces of which the servers hold flows, sorted. Raises ServerError."""
    merged = observer_pb2.GetNamespacesResponse()
    for answer in _ask(servers, options, lambda client: client.namespaces()):
        merged.namespaces.extend(answer.namespaces)
    found = sorted({(each.cluster, each.namespace) for each in merged.namespaces})
    sys.stdout.write(NAMESPACE_FORMATS[output](found))


async def _healthy_status(client: Client) -> observer_pb2.ServerStatusResponse:
    if not await client.healthy():
        raise ServerError(client.server, "not healthy")
    return await client.status()


def _ask(
    servers: Sequence[Server], options: ServerOptions, question: Callable[[Client], Awaitable[Answer]]
) -> list[Answer]:
    """Each server's answer, asked all at once."""
    from flows.cli.client import connect  # noqa: PLC0415 - gRPC takes a while to load

    async def ask() -> list[Answer]:
        async with connect(servers, options) as clients:
            return await asyncio.gather(*(question(client) for client in clients))

    return asyncio.run(ask())
