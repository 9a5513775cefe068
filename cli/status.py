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
    answers, failures = _ask(servers, options, _healthy_status)
    for server, status in answers:
        if output == "compact":
            print(f"Healthcheck (via {escape(server.address)}): Ok")
        sys.stdout.write(STATUS_FORMATS[output](status))
    _raise_first(failures)


def print_namespaces(servers: Sequence[Server], options: ServerOptions, output: str) -> None:
    """Prints the namespaces of which the servers hold flows, sorted. Raises ServerError."""
    merged = observer_pb2.GetNamespacesResponse()
    answers, failures = _ask(servers, options, lambda client: client.namespaces())
    for _, answer in answers:
        merged.namespaces.extend(answer.namespaces)
    found = sorted({(each.cluster, each.namespace) for each in merged.namespaces})
    if answers:
        sys.stdout.write(NAMESPACE_FORMATS[output](found))
    _raise_first(failures)


async def _healthy_status(client: Client) -> observer_pb2.ServerStatusResponse:
    if not await client.healthy():
        raise ServerError(client.server, "not healthy")
    return await client.status()


def _ask(
    servers: Sequence[Server], options: ServerOptions, question: Callable[[Client], Awaitable[Answer]]
) -> tuple[list[tuple[Server, Answer]], list[ServerError]]:
    """The servers' answers, asked all at once, and the failures of those that gave none."""
    from flows.cli.client import connect  # noqa: PLC0415 - gRPC takes a while to load

    async def ask_one(client: Client) -> Answer | ServerError:
        try:
            return await question(client)
        except ServerError as error:
            return error

    async def ask() -> list[Answer | ServerError]:
        async with connect(servers, options) as clients:
            return await asyncio.gather(*map(ask_one, clients))

    answers = list(zip(servers, asyncio.run(ask()), strict=True))
    given = [(server, answer) for server, answer in answers if not isinstance(answer, ServerError)]
    return given, [answer for _, answer in answers if isinstance(answer, ServerError)]


def _raise_first(failures: Sequence[ServerError]) -> None:
    """Those that answered are shown; the exit status and the last line still tell of one that did not."""
    if failures:
        raise failures[0]
