"""Printer: writes each response of a GetFlows in the chosen format; node status goes to standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flows.cli.options import Format
from flows.cli.print import clock
from flows.cli.print.cells import Cell, exchange_cells, flow_cells, loss_cells, lost_cells
from flows.cli.print.color import NO_COLOR, palette
from flows.cli.print.compact import compact
from flows.cli.print.dicts import RULE, record
from flows.cli.print.jsonlines import json_line
from flows.cli.print.nodes import FAULTS, node_line, node_record
from flows.cli.print.style import Style
from flows.cli.print.table import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from flows.cli.options import OutputOptions
    from flows.proto.observer_pb2 import GetFlowsResponse


def style_of(options: OutputOptions, out: TextIO) -> Style:
    """The style that the options ask for on this stream. A table has none: they would break its alignment."""
    colors = NO_COLOR if options.format is Format.TABLE else palette(options.color.value, out)
    return Style(
        time=clock.formatter(options.time_format.value),
        palette=colors,
        node_name=options.print_node_name,
        policy_names=options.print_policy_names,
        names=options.ip_translation,
    )


class Layout(Protocol):
    """A format: the text for each kind of response (empty: nothing now), and what is left at the end."""

    def flow(self, response: GetFlowsResponse) -> str: ...
    def lost(self, response: GetFlowsResponse) -> str: ...
    def node(self, response: GetFlowsResponse) -> str: ...
    def end(self) -> str: ...


class Lines:
    """Formats in which each response is text on its own: compact and JSON."""

    def __init__(
        self,
        flow: Callable[[GetFlowsResponse], str],
        lost: Callable[[GetFlowsResponse], str],
        node: Callable[[GetFlowsResponse], str],
    ) -> None:
        self.flow, self.lost, self.node = flow, lost, node

    def end(self) -> str:
        return ""


class Records:
    """Dict: a rule between records, also around node status, which may share a terminal with them."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._rule = ""

    def flow(self, response: GetFlowsResponse) -> str:
        return self._ruled(record(flow_cells(response, self._style)))

    def lost(self, response: GetFlowsResponse) -> str:
        cells = lost_cells(response, self._style)
        return self._ruled(record([cell for cell in cells if cell[0] != "DESTINATION"]))

    def node(self, response: GetFlowsResponse) -> str:
        return self._ruled(node_record(response, self._style))

    def end(self) -> str:
        return ""

    def _ruled(self, text: str) -> str:
        rule, self._rule = self._rule, RULE
        return rule + text


class Rows:
    """Table: rows are kept until the end; node status does not wait."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._rows: list[list[Cell]] = []

    def flow(self, response: GetFlowsResponse) -> str:
        self._rows.append(flow_cells(response, self._style))
        return ""

    def lost(self, response: GetFlowsResponse) -> str:
        self._rows.append(lost_cells(response, self._style))
        return ""

    def node(self, response: GetFlowsResponse) -> str:
        return node_line(response, self._style)

    def end(self) -> str:
        if not self._rows:
            return ""
        rows, self._rows = self._rows, []
        return table([column for column, _ in rows[0]], [[value for _, value in row] for row in rows])


def layout_of(options: OutputOptions, out: TextIO, err: TextIO) -> Layout:
    """The format that the options name, for these streams."""
    style = style_of(options, out)
    if options.format is Format.DICT:
        return Records(style)
    if options.format is Format.TABLE:
        return Rows(style)
    if options.format is Format.COMPACT:
        return Lines(
            flow=lambda response: compact(exchange_cells(response, style)) + "\n",
            lost=lambda response: compact(loss_cells(response, style)) + "\n",
            node=lambda response: node_line(response, style),
        )
    to_out = json_line(out)
    if options.format is Format.JSON_LEGACY:  # Hubble up to 0.10: the bare message, and no node status
        return Lines(lambda it: to_out(it.flow), lambda it: to_out(it.lost_events), lambda _: "")
    return Lines(flow=to_out, lost=to_out, node=json_line(err))


class Printer:
    """Writes responses to two streams. close() writes what the format held back; the streams stay open.

    Raises BrokenPipeError (or another OSError) when the reader of a stream has gone.
    """

    def __init__(self, options: OutputOptions, out: TextIO, err: TextIO) -> None:
        self._options, self._out, self._err = options, out, err
        self._layout = layout_of(options, out, err)

    def write(self, response: GetFlowsResponse) -> None:
        """Writes one response; a kind that this version does not know is left out."""
        kind = response.WhichOneof("response_types")
        if kind == "flow":
            self._out.write(self._layout.flow(response))
        elif kind == "lost_events":
            self._out.write(self._layout.lost(response))
        elif kind == "node_status":
            self._write_node(response)

    def close(self) -> None:
        """Writes what is left and flushes."""
        self._out.write(self._layout.end())
        self._out.flush()

    def _write_node(self, response: GetFlowsResponse) -> None:
        wanted = self._options.debug or response.node_status.state_change in FAULTS
        if wanted and not self._options.silent_errors:
            self._err.write(self._layout.node(response))
