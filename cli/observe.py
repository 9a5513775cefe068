"""Observe: `flows observe`, from options to printed flows."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import TYPE_CHECKING, TextIO

from google.protobuf.timestamp_pb2 import Timestamp

from flows.cli.options import Format, UsageError
from flows.cli.outcome import Outcome
from flows.cli.outlet import flush_regularly, until_reader_gone
from flows.cli.print.coverage import conclusion, coverage_json, skew
from flows.cli.print.escape import escape, escape_json
from flows.cli.print.printer import Printer
from flows.cli.route import route
from flows.cli.stream import FlowStream
from flows.proto import flows_pb2

if TYPE_CHECKING:
    from flows.cli.options import ObserveOptions
    from flows.cli.servers import Server


def observe_file(options: ObserveOptions) -> Outcome:
    """Prints what `--input-file` holds. Raises ReplayError, FilterError, or OSError of standard output."""
    from flows.cli.replay import replay  # noqa: PLC0415 - NumPy and the filters are for files only

    printer, outcome = Printer(options.output, sys.stdout, sys.stderr), Outcome()
    told: list[flows_pb2.Coverage] = []
    try:
        for response in replay(options, _warn, told.append, outcome.count):
            printer.write(response)
            outcome.count(response)
    finally:
        printer.close()
    if told or not outcome.faulty:  # a file is all there is, but for what was missing when it was written
        outcome.coverage = flows_pb2.Coverage(complete=all(each.complete for each in told))
    return outcome


def observe_server(options: ObserveOptions, server: Server | None) -> Outcome:
    """Prints what the server answers; None: the cluster's relay (-P). Raises ServerError, or OSError of standard output."""
    if options.selection.follow and options.output.format is Format.TABLE:
        raise UsageError("--output table: a table ends, --follow does not: use compact, dict or json")
    with _screen(options, server) as (out, err):
        return asyncio.run(_observe(options, server, out, err))


def _warn(message: str) -> None:
    print(f"flows: {message}", file=sys.stderr)


def _screen(options: ObserveOptions, server: Server | None) -> AbstractContextManager[tuple[TextIO, TextIO]]:
    """The streams to write to: standard ones, or for a person who watches, the same with a line of status."""
    watched = options.selection.follow and options.output.format is Format.COMPACT and sys.stdout.isatty()
    if not watched or os.environ.get("TERM") in {"dumb", "unknown"}:
        return nullcontext((sys.stdout, sys.stderr))
    from flows.cli.live import live  # noqa: PLC0415 - rich takes a while to load

    return live(sys.stdout, sys.stderr, escape(str(server)) if server else "the cluster's relay")


async def _observe(options: ObserveOptions, server: Server | None, out: TextIO, err: TextIO) -> Outcome:
    printer, outcome = Printer(options.output, out, err), Outcome()
    flushing = asyncio.create_task(flush_regularly(out))
    try:
        await until_reader_gone(out, asyncio.create_task(_print(options, server, printer, outcome, err)), flushing)
    finally:
        printer.close()
    _conclude(options, outcome, out, err)
    return outcome


async def _print(options: ObserveOptions, server: Server | None, printer: Printer, outcome: Outcome, err: TextIO) -> None:
    def tell(message: str) -> None:
        if not options.output.silent_errors:
            err.write(f"flows: {escape(message)}\n")
            err.flush()

    async with route(server, options.server) as way:
        stream = FlowStream(way, options.request(), tell)
        async with aclosing(stream.responses()) as responses:
            async for response in responses:
                printer.write(response)
                outcome.count(response)
        outcome.coverage, outcome.unreadable = stream.coverage, stream.unreadable


def _conclude(options: ObserveOptions, outcome: Outcome, out: TextIO, err: TextIO) -> None:
    """What the end of the answer says: on standard output for programs, else below the flows for people."""
    coverage, output = outcome.coverage, options.output
    if output.format is Format.JSON and coverage is not None:
        now = Timestamp()
        now.FromNanoseconds(time.time_ns())
        line = coverage_json(coverage, now)
        out.write(escape_json(line[:-1]) + "\n" if out.isatty() else line)
    if output.format in {Format.JSON, Format.JSON_LEGACY} or output.silent_errors or options.selection.follow:
        return
    out.flush()
    if text := conclusion(outcome.flows, coverage, time.time_ns()):
        err.write(f"{text}\n")
    if output.debug and coverage is not None and (text := skew(coverage.nodes)):
        err.write(f"clocks: {text}\n")
