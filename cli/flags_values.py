"""Values of filter flags: from a flag's text to the value of a FlowFilter field. All raise FilterError."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flows.flow.columns import TCP_FLAGS
from flows.flow.filter.errors import FilterError, UnsupportedError, nearest, one_of
from flows.flow.filter.event_type import EVENT_TYPES, SUB_TYPES
from flows.flow.filter.identity import RESERVED
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

_U32 = (1 << 32) - 1
_U64 = (1 << 64) - 1


def enum(enum: Any, field: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text not in enum.keys():  # noqa: SIM118 (a protobuf enum is no mapping)
            raise one_of(field, text, [name for name in enum.keys() if not name.endswith("UNKNOWN")])  # noqa: SIM118
        number: int = enum.Value(text)
        return number

    return parse


def _number(field: str, text: str, highest: int) -> int:
    """A decimal number of a protobuf field."""
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) > highest:
        raise FilterError(field, text, f"expected a number from 0 to {highest}")
    return int(text)


def direction(text: str) -> int:
    choices = {"ingress": flow_pb2.INGRESS, "egress": flow_pb2.EGRESS}
    if text.lower() not in choices:
        raise one_of("traffic_direction", text, choices)
    return choices[text.lower()]


_IP_VERSIONS = {
    "none": flow_pb2.IP_NOT_USED,
    **dict.fromkeys(("v4", "4", "ipv4", "ip4"), flow_pb2.IPv4),
    **dict.fromkeys(("v6", "6", "ipv6", "ip6"), flow_pb2.IPv6),
}


def ip_version(text: str) -> int:
    if text.lower() not in _IP_VERSIONS:
        raise FilterError("ip_version", text, "expected v4, v6 or none", nearest(text, _IP_VERSIONS))
    return _IP_VERSIONS[text.lower()]


def identity(text: str) -> int:
    """A reserved name, or a number as Go writes it (decimal, 0x, 0o, 0b)."""
    if text in RESERVED:
        return RESERVED[text]
    go_octal = re.sub(r"^0(?=[0-7])", "0o", text)
    if re.fullmatch(r"[0-9][0-9A-Za-z_]{0,40}", text):
        try:
            number = int(go_octal, 0)
        except ValueError:
            number = _U32 + 1
        if number <= _U32:
            return number
    expected = f"expected one of {', '.join(RESERVED)} or a numeric value"
    raise FilterError("identity", text, expected, nearest(text, RESERVED))


def event_type(text: str) -> flow_pb2.EventTypeFilter:
    name, colon, sub = text.partition(":")
    number = EVENT_TYPES[name] if name in EVENT_TYPES else _type_number(name, text)
    if not colon:
        return flow_pb2.EventTypeFilter(type=number)
    named = SUB_TYPES.get(next((known for known, value in EVENT_TYPES.items() if value == number), ""), {})
    if sub not in named and not re.fullmatch(r"[0-9]{1,9}", sub):
        expected = f"expected a sub-type that is a number{' or one of ' if named else ''}{', '.join(named)}"
        close = nearest(sub, named)
        raise FilterError("event_type", text, expected, f"{name}:{close}" if close else "")
    sub_type = named[sub] if sub in named else int(sub)
    return flow_pb2.EventTypeFilter(type=number, match_sub_type=True, sub_type=sub_type)


def _type_number(name: str, text: str) -> int:
    if re.fullmatch(r"[0-9]{1,9}", name):
        return int(name)
    expected = f"expected TYPE[:SUBTYPE], TYPE a number or one of {', '.join(EVENT_TYPES)}"
    raise FilterError("event_type", text, expected, nearest(name, EVENT_TYPES))


def tcp_flags(text: str) -> flow_pb2.TCPFlags:
    names = text.upper().split(",")
    unknown = next((name for name in names if name not in TCP_FLAGS), None)
    if unknown is not None:
        expected = f"unknown tcp flag {unknown!r}: expected a comma-separated list of {', '.join(TCP_FLAGS)}"
        inside = [flag for flag in TCP_FLAGS if flag in unknown]
        raise FilterError("tcp_flags", text, expected, ",".join(inside) or nearest(unknown, TCP_FLAGS))
    return flow_pb2.TCPFlags(**dict.fromkeys(names, True))


def workload(text: str) -> flow_pb2.Workload:
    kind, slash, name = text.partition("/")
    if "/" in name:
        expected = "expected name, Kind/name or Kind/"
        raise FilterError("workload", text, expected, "/".join(text.split("/")[:2]))
    return flow_pb2.Workload(kind=kind, name=name) if slash else flow_pb2.Workload(name=text)


def header(text: str) -> flow_pb2.HTTPHeader:
    key, colon, value = text.partition(":")
    if not colon:
        close = f"{text.replace('=', ':', 1)}" if "=" in text else ""
        raise FilterError("http_header", text, "expected name:value", close)
    return flow_pb2.HTTPHeader(key=key, value=value)


def ip_trace_id(text: str) -> int:
    number = _number("ip_trace_id", text, _U64)
    if number == 0:
        raise FilterError("ip_trace_id", text, "must be greater than 0", "1")
    return number


def interface(text: str) -> flow_pb2.NetworkInterface:
    return flow_pb2.NetworkInterface(name=text)


def cel(text: str) -> str:
    raise UnsupportedError("experimental.cel_expression", text)


def namespace(text: str) -> str:
    if not re.fullmatch(r"([a-z0-9]([-a-z0-9]*[a-z0-9])?)?", text):
        clean = re.sub(r"[^-a-z0-9]", "", text.partition("/")[0].lower()).strip("-")
        raise FilterError("namespace", text, "expected the name of a namespace", clean)
    return text
