"""Cells: a response of GetFlows as a list of (column, value), which is what the formats for people take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.print.endpoint import hosts, identities
from flows.cli.print.escape import escape
from flows.cli.print.event import enum_name, event_type, summary, verdict
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from flows.cli.print.style import Style
    from flows.proto.flow_pb2 import LostEvent
    from flows.proto.observer_pb2 import GetFlowsResponse

# A column's name and its value: escaped, painted, ready to be written.
Cell = tuple[str, str]


def flow_cells(response: GetFlowsResponse, style: Style) -> list[Cell]:
    """A flow's columns in a table or dict, source first."""
    flow = response.flow
    source, destination = hosts(flow, style)
    return [
        *_head(style, style.time(flow.time if flow.HasField("time") else None), flow.node_name),
        ("SOURCE", source),
        ("DESTINATION", destination),
        ("TYPE", event_type(flow)),
        ("VERDICT", verdict(flow, style)),
        ("SUMMARY", summary(flow, style)),
    ]


def exchange_cells(response: GetFlowsResponse, style: Style) -> list[Cell]:
    """A flow's columns on a compact line: the client stays left, the arrow tells which way this went."""
    flow = response.flow
    (left, right), (left_id, right_id), arrow = hosts(flow, style), identities(flow, style), "->"
    if not flow.HasField("is_reply"):
        arrow = "<>"
    elif flow.is_reply.value:
        left, left_id, arrow, right, right_id = right, right_id, "<-", left, left_id
    return [
        *_head(style, style.time(flow.time if flow.HasField("time") else None), flow.node_name),
        ("LEFT", left),
        ("LEFT ID", left_id),
        ("ARROW", arrow),
        ("RIGHT", right),
        ("RIGHT ID", right_id),
        ("TYPE", event_type(flow)),
        ("VERDICT", verdict(flow, style)),
        ("SUMMARY", summary(flow, style)),
    ]


def lost_cells(response: GetFlowsResponse, style: Style) -> list[Cell]:
    """Lost events in a table; in a dict, too, but without the column DESTINATION."""
    lost = response.lost_events
    return [
        *_head(style, _response_time(response, style), response.node_name),
        ("SOURCE", _lost_source(lost)),
        ("DESTINATION", "-"),
        ("TYPE", "EVENTS LOST"),
        ("VERDICT", "-"),
        ("SUMMARY", f"CPU({lost.cpu.value}) - {lost.num_events_lost}"),
    ]


def loss_cells(response: GetFlowsResponse, style: Style) -> list[Cell]:
    """Lost events on a compact line, with the period in which they were lost where the server tells it."""
    lost = response.lost_events
    cells = [
        ("TIMESTAMP", _response_time(response, style)),
        ("LOST BY", _lost_source(lost)),
        ("CPU", str(lost.cpu.value)),
        ("COUNT", str(lost.num_events_lost)),
    ]
    if lost.HasField("first") and lost.HasField("last"):
        cells.append(("SUMMARY", f"first: {style.time(lost.first)}, last: {style.time(lost.last)}"))
    return cells


def _head(style: Style, time: str, node: str) -> list[Cell]:
    return [("TIMESTAMP", time), ("NODE", escape(node))] if style.node_name else [("TIMESTAMP", time)]


def _response_time(response: GetFlowsResponse, style: Style) -> str:
    return style.time(response.time if response.HasField("time") else None)


def _lost_source(lost: LostEvent) -> str:
    return enum_name(flow_pb2.LostEventSource, lost.source)
