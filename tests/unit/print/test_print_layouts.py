"""Dict, table, node status and time formats."""

from __future__ import annotations

import io

import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from print_samples import lost, response

from flows.cli.options import Format, OutputOptions
from flows.cli.print import clock
from flows.cli.print.nodes import cut_names
from flows.cli.print.printer import Printer
from flows.proto.observer_pb2 import GetFlowsResponse


def printed(options: OutputOptions, *responses: GetFlowsResponse) -> tuple[str, str]:
    """Standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    printer = Printer(options, out, err)
    for each in responses:
        printer.write(each)
    printer.close()
    return out.getvalue(), err.getvalue()


def node(state: str, *names: str, message: str = "") -> GetFlowsResponse:
    status = {"state_change": state, "node_names": names, "message": message}
    data = {"node_status": status, "node_name": "relay", "time": "1970-01-01T00:20:34.567Z"}
    return json_format.ParseDict(data, GetFlowsResponse())


def test_table_is_as_wide_as_its_widest_value() -> None:
    options = OutputOptions(format=Format.TABLE, print_node_name=True)
    out, err = printed(options, response(Summary="UDP", event_type={"type": 4}), lost())
    assert err == ""
    assert out.splitlines() == [
        "TIMESTAMP             NODE   SOURCE               DESTINATION    TYPE          VERDICT   SUMMARY",
        "Jan  1 00:20:34.567   k8s1   1.1.1.1:31793        2.2.2.2:8080   to-endpoint   DROPPED   UDP",
        "Jan  1 00:20:34.567          HUBBLE_RING_BUFFER   -              EVENTS LOST   -         CPU(5) - 1",
    ]


def test_table_of_nothing_is_nothing() -> None:
    assert printed(OutputOptions(format=Format.TABLE)) == ("", "")


def test_dict_puts_a_rule_between_records_and_node_status() -> None:
    out, err = printed(OutputOptions(format=Format.DICT), node("NODE_ERROR", "a", message='no "x"'), lost())
    assert err.splitlines()[1:] == ["      STATE: NODE_ERROR", "      NODES: a", r'    MESSAGE: "no \"x\""']
    assert out.splitlines() == [
        "------------",
        "  TIMESTAMP: Jan  1 00:20:34.567",
        "     SOURCE: HUBBLE_RING_BUFFER",
        "       TYPE: EVENTS LOST",
        "    VERDICT: -",
        "    SUMMARY: CPU(5) - 1",
    ]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (node("NODE_UNAVAILABLE", "a", "b"), "2 nodes are unavailable: a, b"),
        (node("NODE_ERROR", "a", message="it\nbroke"), r'Error "it\nbroke" on 1 nodes: a'),
        (node("NODE_CONNECTED", "a", "b"), "Receiving flows from 2 nodes: a, b"),
        (node("NODE_GONE", "a"), "1 nodes removed from cluster: a"),
    ],
)
def test_node_status_is_a_line_on_standard_error(event: GetFlowsResponse, line: str) -> None:
    assert printed(OutputOptions(debug=True), event) == ("", f"Jan  1 00:20:34.567 [relay]: {line}\n")


def test_only_faults_of_nodes_are_shown_without_debug() -> None:
    assert printed(OutputOptions(), node("NODE_CONNECTED", "a")) == ("", "")


def test_silent_errors_hides_node_status() -> None:
    assert printed(OutputOptions(silent_errors=True), node("NODE_ERROR", "a")) == ("", "")


def test_legacy_json_is_the_bare_message() -> None:
    options = OutputOptions(format=Format.JSON_LEGACY)
    out, err = printed(options, response(), lost(), node("NODE_ERROR", "a"))
    assert [line[:20] for line in out.splitlines()] == ['{"time":"1970-01-01T', '{"source":"HUBBLE_RI']
    assert err == ""


def test_long_lists_of_nodes_are_cut() -> None:
    assert cut_names([f"node-{n:04}" for n in range(20)]) == "node-0000, node-0001, node-0002, node-0003 (and 16 more)"
    assert cut_names(["n" * 80, "b"]) == f"{'n' * 80} (and 1 more)"


@pytest.mark.parametrize(
    ("layout", "nanos", "text"),
    [
        ("StampMilli", 7_999_999, "Nov  2 03:04:05.007"),
        ("YearMonthDay", 0, "2026-11-02"),
        ("YearMonthDayHour", 0, "2026-11-02T03Z"),
        ("YearMonthDayHourMinute", 0, "2026-11-02T03:04Z"),
        ("RFC3339", 999_999_999, "2026-11-02T03:04:05Z"),
        ("RFC3339Milli", 0, "2026-11-02T03:04:05Z"),
        ("RFC3339Milli", 120_999_999, "2026-11-02T03:04:05.12Z"),
        ("RFC3339Micro", 123_456_999, "2026-11-02T03:04:05.123456Z"),
        ("RFC3339Nano", 123_456_780, "2026-11-02T03:04:05.12345678Z"),
        ("RFC1123Z", 0, "Mon, 02 Nov 2026 03:04:05 +0000"),
    ],
)
def test_time_formats(layout: str, nanos: int, text: str) -> None:
    assert clock.formatter(layout)(Timestamp(seconds=1793588645, nanos=nanos)) == text


@pytest.mark.parametrize("time", [None, Timestamp(nanos=-1), Timestamp(nanos=10**9), Timestamp(seconds=1 << 60)])
def test_a_time_that_is_not_valid_is_not_available(time: Timestamp | None) -> None:
    assert clock.formatter("RFC3339")(time) == "N/A"
