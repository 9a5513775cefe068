"""The answer of `flows status` in each format."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from flows.cli.print.status import duration, status_compact, status_dict, status_table
from flows.proto.observer_pb2 import ServerStatusResponse

FULL = {
    "num_flows": 2771,
    "max_flows": 8190,
    "seen_flows": 2771,
    "uptime_ns": 301515181665,
    "num_connected_nodes": 2,
    "num_unavailable_nodes": 12,
    "unavailable_nodes": ["b", "a\x1b[2J"],
    "version": "hubble-relay v1.15.0",
    "flows_rate": 23.456,
}


def answer(**changes: object) -> ServerStatusResponse:
    return json_format.ParseDict(FULL | changes, ServerStatusResponse())


def test_compact_is_hubbles() -> None:
    assert status_compact(answer()).splitlines() == [
        "Current/Max Flows: 2,771/8,190 (33.83%)",
        "Flows/s: 23.46",
        "Connected Nodes: 2/14",
        "Unavailable Nodes: 12",
        "  - a^[[2J",
        "  - b",
        "  - and 10 more...",
    ]


def test_compact_falls_back_to_the_mean_rate_and_leaves_nodes_out() -> None:
    agent = ServerStatusResponse(seen_flows=100, uptime_ns=8_000_000_000)
    assert status_compact(agent) == "Current/Max Flows: 0/0\nFlows/s: 12.50\n"
    assert status_compact(ServerStatusResponse()) == "Current/Max Flows: 0/0\nFlows/s: N/A\n"


def test_dict_aligns_names_to_the_right() -> None:
    lines = status_dict(answer()).splitlines()
    assert lines[0] == "          NUM FLOWS: 2,771"
    assert lines[4:] == [
        "             UPTIME: 5m1.515181665s",
        "NUM CONNECTED NODES: 2",
        " NUM UNAVAIL. NODES: 12",
        "            VERSION: hubble-relay v1.15.0",
    ]


def test_table_has_a_header_and_one_row() -> None:
    header, row = status_table(ServerStatusResponse(version="v")).splitlines()
    assert header.split("   ")[0] == "NUM FLOWS"
    assert row.split() == ["0", "0", "0", "N/A", "0s", "N/A", "N/A", "v"]


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1000, "1µs"),
        (1_500_000, "1.5ms"),
        (10**10, "10s"),
        (10**11, "1m40s"),
        (10**13, "2h46m40s"),
        (36 * 10**11, "1h0m0s"),
        ((1 << 63) - 1, "2562047h47m16.854775807s"),
        (1 << 63, "9223372036854775808ns"),
    ],
)
def test_durations_are_written_as_go_writes_them(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text
