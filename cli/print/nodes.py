"""Node status: what a server says about the nodes behind it, or this CLI about its servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.print.dicts import record
from flows.cli.print.escape import escape, go_quote
from flows.cli.print.event import enum_name
from flows.proto import relay_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.cli.print.style import Style
    from flows.proto.observer_pb2 import GetFlowsResponse
    from flows.proto.relay_pb2 import NodeStatusEvent

# Hubble's: a list of nodes longer than this many characters is cut, with "(and N more)".
NAMES_CUT_OFF = 50
# The others are only informational: shown with --debug.
FAULTS = frozenset({relay_pb2.NODE_ERROR, relay_pb2.NODE_UNAVAILABLE})

_SENTENCES: Mapping[int, str] = {
    relay_pb2.NODE_CONNECTED: "Receiving flows from {count} nodes: {names}",
    relay_pb2.NODE_UNAVAILABLE: "{count} nodes are unavailable: {names}",
    relay_pb2.NODE_GONE: "{count} nodes removed from cluster: {names}",
    relay_pb2.NODE_ERROR: "Error {message} on {count} nodes: {names}",
}
_UNKNOWN = "unknown node status event: {state} {message} {names}"


def node_line(response: GetFlowsResponse, style: Style) -> str:
    """One line, as in compact and table output, newline included."""
    status = response.node_status
    sentence = _SENTENCES.get(status.state_change, _UNKNOWN).format(
        count=len(status.node_names),
        names=cut_names(status.node_names),
        message=escape(go_quote(status.message)),
        state=_state(status),
    )
    return f"{_time(response, style)} [{escape(response.node_name)}]: {sentence}\n"


def node_record(response: GetFlowsResponse, style: Style) -> str:
    """Four lines, as in dict output."""
    status = response.node_status
    return record(
        [
            ("TIMESTAMP", _time(response, style)),
            ("STATE", _state(status)),
            ("NODES", cut_names(status.node_names)),
            ("MESSAGE", escape(go_quote(status.message)) if status.message else "N/A"),
        ]
    )


def cut_names(names: Sequence[str]) -> str:
    """The names joined by `, `: at least one, as many as fit in NAMES_CUT_OFF, and how many were left out."""
    length, end = 0, len(names)
    for index, name in enumerate(names):
        length += len(name.encode()) + 2
        if length > NAMES_CUT_OFF and index:
            end = index
            break
    joined = escape(", ".join(names[:end]))
    return joined if end == len(names) else f"{joined} (and {len(names) - end} more)"


def _state(status: NodeStatusEvent) -> str:
    return enum_name(relay_pb2.NodeState, status.state_change)


def _time(response: GetFlowsResponse, style: Style) -> str:
    return style.time(response.time if response.HasField("time") else None)
