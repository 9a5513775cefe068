"""Nothing from outside reaches a terminal as a control character."""

from __future__ import annotations

import io
import json
import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cli.options import Color, Format, OutputOptions
from flows.cli.print.escape import escape, go_quote
from flows.cli.print.printer import Printer
from flows.cli.print.status import status_compact, status_dict, status_table
from flows.proto import flow_pb2
from flows.proto.observer_pb2 import GetFlowsResponse, ServerStatusResponse

BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
NASTY = st.text(
    st.sampled_from("\x00\x07\x1b[]\r\n\t\x7f\x9b\u202e\u2028ab./<>") | st.characters(codec="utf-8"),
    max_size=8,
)


# Values of enums, known and unknown.
NUMBERS: st.SearchStrategy[Any] = st.integers(0, 9)


def controls(text: str) -> set[str]:
    return {char for char in text if unicodedata.category(char) in {"Cc", "Zl", "Zp"} or char in BIDI}


@st.composite
def nasty_responses(draw: st.DrawFn) -> GetFlowsResponse:
    def text() -> str:
        return draw(NASTY)

    response = GetFlowsResponse(node_name=text())
    kind = draw(st.sampled_from(["flow", "node_status", "lost_events"]))
    getattr(response, kind).SetInParent()
    if kind == "node_status":
        response.node_status.state_change = draw(NUMBERS)
        response.node_status.node_names.extend([text(), text()])
        response.node_status.message = text()
    if kind == "flow":
        flow = response.flow
        flow.CopyFrom(flow_pb2.Flow(Summary=text(), node_name=text(), verdict=draw(NUMBERS)))
        flow.event_type.type = draw(st.sampled_from([1, 3, 4, 5, 7, 129]))
        flow.auth_type = draw(NUMBERS)
        flow.traffic_direction = draw(NUMBERS)
        for policies in (flow.egress_allowed_by, flow.ingress_denied_by):
            policies.add(name=text(), kind=text())
        if draw(st.booleans()):
            flow.IP.source, flow.IP.destination = text(), text()
            flow.source.pod_name, flow.source.namespace = text(), text()
            flow.destination_service.name = text()
            flow.destination_names.append(text())
            flow.l4.TCP.source_port = draw(st.integers(0, 70000))
        elif draw(st.booleans()):
            flow.ethernet.source = text()
        if draw(st.booleans()):
            flow.l7.dns.observation_source = text()
    return response


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@settings(max_examples=150)
@given(nasty_responses(), st.sampled_from([Format.COMPACT, Format.DICT, Format.TABLE, Format.JSON]))
def test_no_control_character_reaches_the_terminal(response: GetFlowsResponse, layout: Format) -> None:
    options = OutputOptions(format=layout, color=Color.NEVER, print_node_name=True, print_policy_names=True, debug=True)
    out, err = Terminal(), Terminal()
    printer = Printer(options, out, err)
    for _ in range(2):
        printer.write(response)
    printer.close()
    assert controls(out.getvalue() + err.getvalue()) <= {"\n"}
    lines = (out.getvalue() + err.getvalue()).count("\n")
    assert lines <= {Format.DICT: 17, Format.TABLE: 3}.get(layout, 2)


@settings(max_examples=50)
@given(nasty_responses())
def test_the_only_escape_sequences_are_our_colours(response: GetFlowsResponse) -> None:
    plain, painted = Terminal(), Terminal()
    options = OutputOptions(color=Color.NEVER)
    Printer(options, plain, Terminal()).write(response)
    Printer(replace(options, color=Color.ALWAYS), painted, Terminal()).write(response)
    text = painted.getvalue()
    for code in (0, 31, 32, 33, 35, 36):
        text = text.replace(f"\x1b[{code}m", "")
    assert text == plain.getvalue()


@given(NASTY, NASTY)
def test_status_is_escaped(name: str, version: str) -> None:
    status = ServerStatusResponse(unavailable_nodes=[name], version=version)
    status.num_unavailable_nodes.value = 1
    for text in (status_compact(status), status_dict(status), status_table(status)):
        assert controls(text) <= {"\n"}


@given(NASTY)
def test_json_on_a_terminal_is_the_same_value(text: str) -> None:
    streams = [Terminal(), io.StringIO()]
    for stream in streams:
        Printer(OutputOptions(format=Format.JSON), stream, stream).write(GetFlowsResponse(flow=flow_pb2.Flow(Summary=text)))
    on_terminal, in_pipe = (json.loads(stream.getvalue()) for stream in streams)
    assert on_terminal == in_pipe


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 日本", "plain äöü 日本"),
        ("\x1b[31mred\r", "^[[31mred\\r"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x00\x7f\x9b", "^@^?\\x9b"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("soft\u00adhyphen\u200d", "soft\u00adhyphen\u200d"),
    ],
)
def test_control_characters_become_visible(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("text", "quoted"),
    [('say "hi"\\', r'"say \"hi\"\\"'), ("\a\x01\u202e\U000e0001é", r'"\a\x01\u202e\U000e0001é"')],
)
def test_go_quotes(text: str, quoted: str) -> None:
    assert go_quote(text) == quoted
