"""Observe: `flows observe`, from options to printed flows."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import TYPE_CHECKING, TextIO

from flows.cli.merge import merge
from flows.cli.options import Format, UsageError
from flows.cli.outlet import flush_regularly, reader_gone
from flows.cli.print.printer import Printer
from flows.cli.servers import ServerError
from flows.proto import observer_pb2, relay_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from flows.cli.client import Client
    from flows.cli.options import ObserveOptions
    from flows.cli.servers import Server

# The node name under which this CLI reports about its servers, where a relay's own would stand.
REPORTER = "flows"


def observe_file(options: ObserveOptions) -> None:
    """Prints what `--input-file` holds. Raises ReplayError, FilterError, or OSError of standard output."""
    from flows.cli.replay import replay  # noqa: PLC0415 - NumPy and the filters are for files only

    printer = Printer(options.output, sys.stdout, sys.stderr)
    try:
        for response in replay(options, _warn):
            printer.write(response)
    finally:
        printer.close()


def observe_servers(options: ObserveOptions, servers: Sequence[Server]) -> None:
    """Prints what the servers answer. Raises ServerError if none could, or OSError of standard output."""
    if options.selection.follow and options.output.format is Format.TABLE:
        raise UsageError("--output table: a table ends, --follow does not: use compact, dict or json")
    with _screen(options, servers) as (out, err):
        asyncio.run(_observe(options, servers, out, err))


def _warn(message: str) -> None:
    print(f"flows: {message}", file=sys.stderr)


def _screen(options: ObserveOptions, servers: Sequence[Server]) -> AbstractContextManager[tuple[TextIO, TextIO]]:
    """The streams to write to: standard ones, or for a person who watches, the same with a line of status."""
    watched = options.selection.follow and options.output.format is Format.COMPACT and sys.stdout.isatty()
    if not watched or os.environ.get("TERM") in {"dumb", "unknown"}:
        return nullcontext((sys.stdout, sys.stderr))
    from flows.cli.live import live  # noqa: PLC0415 - rich takes a while to load

    return live(sys.stdout, sys.stderr, len(servers))


async def _observe(options: ObserveOptions, servers: Sequence[Server], out: TextIO, err: TextIO) -> None:
    printer = Printer(options.output, out, err)
    tasks = [
        asyncio.create_task(_print(options, servers, printer)),
        asyncio.create_task(flush_regularly(out)),
        asyncio.create_task(reader_gone(out)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        printer.close()


async def _print(options: ObserveOptions, servers: Sequence[Server], printer: Printer) -> None:
    from flows.cli.client import connect  # noqa: PLC0415 - gRPC takes a while to load

    failures: list[ServerError] = []
    async with connect(servers, options.server) as clients:
        streams = [_responses(client, options, failures, alone=len(servers) == 1) for client in clients]
        async with aclosing(merge(streams, options.selection)) as merged:
            async for response in merged:
                printer.write(response)
    if len(failures) == len(servers):
        raise failures[0]


async def _responses(
    client: Client, options: ObserveOptions, failures: list[ServerError], *, alone: bool
) -> AsyncGenerator[observer_pb2.GetFlowsResponse, None]:
    """A server's responses; where others go on, its failure becomes a node status at the end."""
    try:
        async for response in client.get_flows(options.request()):
            yield response
    except ServerError as error:
        failures.append(error)
        if not alone:
            yield _failed(error)


def _failed(error: ServerError) -> observer_pb2.GetFlowsResponse:
    response = observer_pb2.GetFlowsResponse(
        node_name=REPORTER,
        node_status=relay_pb2.NodeStatusEvent(
            state_change=relay_pb2.NODE_ERROR, node_names=[error.server.address], message=error.cause
        ),
    )
    response.time.FromNanoseconds(time.time_ns())
    return response
