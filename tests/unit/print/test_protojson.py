"""protojson: Go's text for messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from google.protobuf import any_pb2, duration_pb2, json_format, timestamp_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.protojson import to_json
from flows.proto import extension_pb2, flow_pb2, observer_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message


def packed(message: Message) -> any_pb2.Any:
    holder = any_pb2.Any()
    holder.Pack(message)
    return holder


def number_of_a_later_version() -> flow_pb2.Flow:
    return flow_pb2.Flow.FromString(b"\x10\x4d")  # verdict 77


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (flow_pb2.Flow(), "{}"),
        (
            flow_pb2.Flow(verdict="DROPPED", uuid="u", Summary="<a>&\u2028"),
            r'{"uuid":"u","verdict":"DROPPED","Summary":"\u003ca\u003e\u0026\u2028"}',
        ),
        (number_of_a_later_version(), '{"verdict":77}'),
        (flow_pb2.Flow(is_reply=wrappers_pb2.BoolValue()), '{"is_reply":false}'),
        (flow_pb2.Flow(socket_cookie=1 << 63), '{"socket_cookie":"9223372036854775808"}'),
        (flow_pb2.Flow(Summary='"\\\x01\n\x7f'), '{"Summary":"\\"\\\\\\u0001\\n\x7f"}'),
        (flow_pb2.Flow(source_names=["b", "a"]), '{"source_names":["b","a"]}'),
        (flow_pb2.LostEvent(cpu=wrappers_pb2.Int32Value(value=0)), '{"cpu":0}'),
        (
            observer_pb2.GetFlowsRequest(field_mask={"paths": ["l4.TCP", "source.pod_name"]}),
            '{"field_mask":"l4.TCP,source.podName"}',
        ),
        (wrappers_pb2.UInt64Value(value=7), '"7"'),
        (wrappers_pb2.BytesValue(value=b"\xff\x00"), '"/wA="'),
        (any_pb2.Any(), "{}"),
        (any_pb2.Any(type_url="x/unknown.Type", value=b"a"), '{"@type":"x/unknown.Type","value":"YQ=="}'),
        (any_pb2.Any(type_url="x/flow.Flow", value=b"\xff"), '{"@type":"x/flow.Flow","value":"/w=="}'),
        (
            flow_pb2.Flow(extensions=packed(extension_pb2.FlowExtension(source=extension_pb2.EndpointDetail(evidence="CGROUP")))),
            '{"extensions":{"@type":"type.googleapis.com/flows.v1.FlowExtension","source":{"evidence":"CGROUP"}}}',
        ),
        (
            packed(duration_pb2.Duration(seconds=1)),
            '{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}',
        ),
    ],
)  # fmt: skip
def test_messages(message: Message, text: str) -> None:
    assert to_json(message) == text


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [
        (0, 0, '"1970-01-01T00:00:00Z"'),
        (1, 500_000_000, '"1970-01-01T00:00:01.500Z"'),
        (1, 1000, '"1970-01-01T00:00:01.000001Z"'),
        (-1, 1, '"1969-12-31T23:59:59.000000001Z"'),
        (-62135596800, 0, '"0001-01-01T00:00:00Z"'),
        (253402300800, 5, '{"seconds":"253402300800","nanos":5}'),
    ],
)
def test_timestamps_have_0_3_6_or_9_digits(seconds: int, nanos: int, text: str) -> None:
    assert to_json(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)) == text


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [(3, 0, '"3s"'), (0, 250_000_000, '"0.250s"'), (-1, -1, '"-1.000000001s"'), (0, 1000, '"0.000001s"')],
)
def test_durations(seconds: int, nanos: int, text: str) -> None:
    assert to_json(duration_pb2.Duration(seconds=seconds, nanos=nanos)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (23.456, "23.456"),
        (3.0, "3"),
        (-0.5, "-0.5"),
        (1e-6, "0.000001"),
        (1.5e-5, "0.000015"),
        (1.5e-7, "1.5e-7"),
        (1e20, "100000000000000000000"),
        (-1.25e17, "-125000000000000000"),
        (1e21, "1e+21"),
        (2.5e-10, "2.5e-10"),
        (float("nan"), '"NaN"'),
        (float("-inf"), '"-Infinity"'),
    ],
)
def test_doubles_are_written_as_go_writes_them(value: float, text: str) -> None:
    assert to_json(wrappers_pb2.DoubleValue(value=value)) == text


def test_floats_are_as_short_as_their_precision() -> None:
    assert [to_json(wrappers_pb2.FloatValue(value=value)) for value in (0.1, 16777216, 1e-7)] == [
        "0.1",
        "16777216",
        "1e-7",
    ]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_keep_their_value(value: float) -> None:
    text = to_json(wrappers_pb2.DoubleValue(value=value))
    assert float(json.loads(text)) == value


@given(st.text(st.characters(codec="utf-8")))
def test_text_keeps_its_value(text: str) -> None:
    assert json.loads(to_json(flow_pb2.Flow(Summary=text))).get("Summary", "") == text


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.integers(0, 2**64 - 1),
    st.lists(st.text(st.characters(codec="utf-8"))),
)
def test_what_is_written_can_be_read(time: datetime, number: int, names: list[str]) -> None:
    flow = flow_pb2.Flow(socket_cookie=number, destination_names=names)
    flow.time.FromDatetime(time)
    assert json_format.Parse(to_json(flow), flow_pb2.Flow()) == flow
