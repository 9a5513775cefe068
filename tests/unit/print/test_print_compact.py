"""Compact lines: the samples of Hubble's own printer test."""

from __future__ import annotations

import pytest
from print_samples import lost, response

from flows.cli.print import clock
from flows.cli.print.cells import exchange_cells, loss_cells
from flows.cli.print.color import COLOR
from flows.cli.print.compact import compact
from flows.cli.print.style import Style
from flows.proto.observer_pb2 import GetFlowsResponse

STYLE = Style(time=clock.formatter("StampMilli"))
NODE = Style(time=clock.formatter("StampMilli"), node_name=True, policy_names=True)
VERDICT = {"event_type": {"type": 5}, "is_reply": None}
POLICIES = [
    {"name": "my-policy", "kind": "CiliumNetworkPolicy"},
    {"name": "no-kind"},
    {"name": "my-policy-2", "kind": "CiliumClusterwideNetworkPolicy"},
]
NAMES = "my-policy (CiliumNetworkPolicy), my-policy-2 (CiliumClusterwideNetworkPolicy)"
NO_DIRECTION = "TRAFFIC_DIRECTION_UNKNOWN"
REPLY = "2.2.2.2:8080 (ID:12345) <- 1.1.1.1:31793 (health)"
ENDS = "1.1.1.1:31793 (health) {} 2.2.2.2:8080 (ID:12345)"
EITHER = ENDS.format("<>")


@pytest.mark.parametrize(
    ("style", "changes", "line"),
    [
        (STYLE, {}, f": {ENDS.format('->')} Policy denied DROPPED (TCP Flags: SYN)"),
        (STYLE, {"is_reply": None}, f": {ENDS.format('<>')} Policy denied DROPPED (TCP Flags: SYN)"),
        (
            NODE,
            {"is_reply": True},
            f" [k8s1]: {REPLY} Policy denied DROPPED (TCP Flags: SYN)",
        ),
        (
            NODE,
            VERDICT
            | {"verdict": "FORWARDED", "traffic_direction": "INGRESS", "policy_match_type": 1}
            | {"ingress_allowed_by": POLICIES},
            f" [k8s1]: {EITHER} policy-verdict:L3-Only INGRESS ALLOWED BY {NAMES} (TCP Flags: SYN)",
        ),
        (
            STYLE,
            VERDICT | {"traffic_direction": "EGRESS", "egress_denied_by": POLICIES},
            f": {ENDS.format('<>')} policy-verdict:none EGRESS DENIED (TCP Flags: SYN)",
        ),
        (
            STYLE,
            VERDICT | {"verdict": "AUDIT", "policy_match_type": 7},
            f": {ENDS.format('<>')} policy-verdict:unknown {NO_DIRECTION} AUDITED (TCP Flags: SYN)",
        ),
        (
            STYLE,
            {"ip_trace_id": {"trace_id": 1234}, "auth_type": "SPIRE"},
            f": {ENDS.format('->')} Policy denied DROPPED (IP Trace ID: 1234; TCP Flags: SYN; Auth: SPIRE)",
        ),
        (
            STYLE,
            {"IP": None, "ethernet": {"source": "0a:00::01", "destination": "0a:00::02"}},
            ": 0a:00::01 (health) -> 0a:00::02 (ID:12345) Policy denied DROPPED (TCP Flags: SYN)",
        ),
        (STYLE, {"IP": None}, ":  (health) ->  (ID:12345) Policy denied DROPPED (TCP Flags: SYN)"),
        (
            STYLE,
            {
                "IP": {"source": "fd00::1", "destination": "fd00::2"},
                "source": {},
                "l4": {"UDP": {"source_port": 53}},
            },
            ": [fd00::1]:53 (unknown) -> fd00::2 (ID:12345) Policy denied DROPPED (TCP Flags: SYN)",
        ),
        (
            STYLE,
            {
                "source": {"pod_name": "p", "namespace": "a"},
                "source_service": {"name": "s", "namespace": "b"},
            },
            ": b/p:31793 (unknown) -> 2.2.2.2:8080 (ID:12345) Policy denied DROPPED (TCP Flags: SYN)",
        ),
        (
            STYLE,
            {"source_service": {"name": "s", "namespace": "b"}, "destination_names": ["x.org", "y.org"]},
            ": b/s:31793 (health) -> x.org,y.org:8080 (ID:12345) Policy denied DROPPED (TCP Flags: SYN)",
        ),
    ],
)
def test_a_flow_is_one_line(style: Style, changes: dict[str, object], line: str) -> None:
    assert compact(exchange_cells(response(**changes), style)) == f"Jan  1 00:20:34.567{line}"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"event_type": {"type": 4, "sub_type": 12}}, "from-crypto"),
        ({"event_type": {"type": 4, "sub_type": 99}}, "99"),
        ({"event_type": {"type": 1, "sub_type": 159}}, "159, 0"),
        ({"event_type": {"type": 3}, "debug_capture_point": "DBG_CAPTURE_DELIVERY"}, "DBG_CAPTURE_DELIVERY"),
        ({"event_type": {"type": 7}, "sock_xlate_point": 3}, "pre-xlate-rev"),
        ({"event_type": {"type": 7}}, "SOCK_XLATE_POINT_UNKNOWN"),
        ({"event_type": {"type": 2}}, "UNKNOWN"),
        ({"l7": {"type": "REQUEST", "dns": {"observation_source": "proxy"}}}, "dns-request proxy"),
        ({"l7": {"type": "RESPONSE", "dns": {}}}, "dns-response "),
        ({"l7": {"type": "SAMPLE", "kafka": {}}}, "kafka-sample"),
        ({"l7": {}}, "l7-unknown_l7_type"),
    ],
)
def test_the_type_tells_what_happened(changes: dict[str, object], kind: str) -> None:
    assert dict(exchange_cells(response(**changes), STYLE))["TYPE"] == kind


def test_values_of_a_later_version_are_shown_as_numbers() -> None:
    flow = response(verdict=99, event_type={"type": 5}, traffic_direction=9)
    cells = dict(exchange_cells(flow, STYLE))
    assert (cells["VERDICT"], cells["TYPE"]) == ("99", "policy-verdict:none 9")


def test_colours_nest_as_in_hubble() -> None:
    cells = dict(exchange_cells(response(), Style(time=STYLE.time, palette=COLOR)))
    assert cells["LEFT"] == "\x1b[36m1.1.1.1:\x1b[33m31793\x1b[0m\x1b[0m"
    assert cells["VERDICT"] == "\x1b[31mDROPPED\x1b[0m"


def test_lost_events_tell_how_many_where_and_when() -> None:
    period = {"first": "1970-01-01T00:20:30.567Z", "last": "1970-01-01T00:20:38.567Z"}
    line = "Jan  1 00:20:34.567 EVENTS LOST: HUBBLE_RING_BUFFER CPU(5) 1"
    assert compact(loss_cells(lost(), STYLE)) == line
    assert compact(loss_cells(lost(**period), STYLE)) == (f"{line} (first: Jan  1 00:20:30.567, last: Jan  1 00:20:38.567)")


def test_a_response_without_anything_is_still_a_line() -> None:
    empty = GetFlowsResponse()
    empty.flow.SetInParent()
    assert compact(exchange_cells(empty, STYLE)) == "N/A:  (unknown) <>  (unknown) UNKNOWN VERDICT_UNKNOWN ()"
