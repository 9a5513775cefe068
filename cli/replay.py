"""Replay: flows from a file of JSON lines (`--input-file`), filtered here as a server would."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from google.protobuf import json_format

from flows.cli.limit import limit
from flows.cli.print.escape import escape
from flows.flow.filter import compile_filters
from flows.flow.table import choose
from flows.proto import flows_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flows.cli.options import ObserveOptions
    from flows.flow.filter.selection import Selection

    Response = observer_pb2.GetFlowsResponse

# Bytes read at once: some hundred flows for the filters to work on; a pipe gives what it has.
CHUNK_BYTES = 1 << 18

# A line with one of these is a GetFlowsResponse (or Hubble's ExportEvent); any other is a bare Flow.
_RESPONSE_KEYS = frozenset({"flow", "node_status", "lost_events", "agent_event", "debug_event"})


class ReplayError(Exception):
    """The input file cannot be read or understood: one line with file and line number; exit status 1."""


def replay(
    options: ObserveOptions,
    warn: Callable[[str], None],
    covered: Callable[[flows_pb2.Coverage], None],
    passed_over: Callable[[observer_pb2.GetFlowsResponse], None],
) -> Iterator[observer_pb2.GetFlowsResponse]:
    """The responses in options.input_file that match, in the file's order.

    covered: takes what the file says of coverage; passed_over: lost events and node states that the filters leave out. Raises
    ReplayError for the file, FilterError for filters that cannot be.
    """
    path = options.input_file or "-"
    matches = compile_filters(options.allow, options.deny)
    bound, everything = limit(options.selection), replace(options.selection, number=0)
    for batch in _Reader(path, warn, covered).batches():
        shown = choose(batch, matches, everything)
        for response in _of_streams(batch, shown, everything):
            passed_over(response)
        for response in shown:
            yield from bound.push(response)
            if bound.done:
                return
    yield from bound.end()


def _of_streams(batch: list[Response], shown: list[Response], selection: Selection) -> list[Response]:
    """Lost events and node states of the time that was asked for that are not shown."""
    known = set(map(id, shown))
    others = [each for each in batch if not each.HasField("flow") and id(each) not in known]
    return choose(others, compile_filters(), selection)


class _Reader:
    """Reads and parses the lines of a file; warns once of what it leaves out."""

    def __init__(self, path: str, warn: Callable[[str], None], covered: Callable[[flows_pb2.Coverage], None]) -> None:
        self._path, self._warn, self._warned = path, warn, False
        self._covered = covered

    def batches(self) -> Iterator[list[observer_pb2.GetFlowsResponse]]:
        try:
            with self._open() as file:
                for lines in _lines(file):
                    parsed = [self._parse(number, line) for number, line in lines if line.strip()]
                    yield [response for response in parsed if response is not None]
        except OSError as error:
            raise ReplayError(f"--input-file {escape(self._path)}: {error.strerror}") from error

    def _open(self) -> AbstractContextManager[BinaryIO]:
        return nullcontext(sys.stdin.buffer) if self._path == "-" else Path(self._path).open("rb")

    def _parse(self, number: int, line: bytes) -> observer_pb2.GetFlowsResponse | None:
        """The response of a line; None for one that tells of coverage."""
        try:
            data = json.loads(line)
            if isinstance(data, dict) and isinstance(data.get("coverage"), dict):
                self._covered(json_format.ParseDict(data["coverage"], flows_pb2.Coverage(), ignore_unknown_fields=True))
                return None
            try:
                return _message(data, ignore_unknown_fields=False)
            except json_format.ParseError as error:
                response = _message(data, ignore_unknown_fields=True)
                self._leave_out(number, error)
                return response
        except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
            cause = escape(str(error).partition("\n")[0])
            raise ReplayError(f"{self._where(number)}: not a flow as JSON: {cause}") from error

    def _leave_out(self, number: int, error: json_format.ParseError) -> None:
        if not self._warned:
            self._warned = True
            what = escape(str(error).partition("\n")[0])
            self._warn(f"{self._where(number)}: fields that this version does not know are left out: {what}")

    def _where(self, number: int) -> str:
        return f"--input-file {escape(self._path)}, line {number}"


def _lines(file: BinaryIO) -> Iterator[list[tuple[int, bytes]]]:
    """Whole lines with their numbers, as many at a time as the file gives at once."""
    number, rest = 1, b""
    read = getattr(file, "read1", file.read)
    while chunk := read(CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield list(enumerate(lines, number))
        number += len(lines)
    yield [(number, rest)]


def _message(data: Any, *, ignore_unknown_fields: bool) -> observer_pb2.GetFlowsResponse:
    """A line's JSON as a response; a bare Flow is put into one."""
    if not isinstance(data, dict):
        raise TypeError("expected an object")
    response = observer_pb2.GetFlowsResponse()
    if _RESPONSE_KEYS & data.keys():
        return json_format.ParseDict(data, response, ignore_unknown_fields=ignore_unknown_fields)
    json_format.ParseDict(data, response.flow, ignore_unknown_fields=ignore_unknown_fields)
    response.flow.SetInParent()
    response.node_name = response.flow.node_name
    if response.flow.HasField("time"):
        response.time.CopyFrom(response.flow.time)
    return response
