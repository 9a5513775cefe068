"""Each field of FlowFilter: what it matches, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from flows.flow.filter import FilterError, compile_filters
from flows.flow.filter.fields import FIELDS
from flows.flow.table import MessageTable
from flows.proto.extension_pb2 import FlowExtension
from flows.proto.flow_pb2 import Flow, FlowFilter


def flow(**fields: Any) -> Flow:
    return json_format.ParseDict(fields, Flow())


def matches(message: Flow, **fields: Any) -> bool:
    wanted = json_format.ParseDict(fields, FlowFilter())
    return bool(compile_filters([wanted])(MessageTable([message]))[0])


def pod(name: str = "web-1", namespace: str = "shop", **more: Any) -> dict[str, Any]:
    return {"pod_name": name, "namespace": namespace, **more}


TCP = {"TCP": {"source_port": 1, "destination_port": 80, "flags": {"SYN": True, "ACK": True}}}
HTTP = {
    "http": {
        "code": 404,
        "method": "GET",
        "url": "http://a.b:80/x%20y?q=1",
        "headers": [{"key": "K", "value": "V"}],
    }
}

MATCHES = [
    ({"source": pod()}, {"source_pod": ["shop/web"]}),
    ({"source": pod()}, {"source_pod": ["shop/"]}),
    ({"source": pod()}, {"source_pod": ["/web-"]}),
    ({"source": pod()}, {"source_pod": ["/"]}),
    ({"source": pod(namespace="default")}, {"source_pod": ["web"]}),
    ({"destination": pod()}, {"destination_pod": ["other/", "shop/web-1"]}),
    ({"destination_service": {"name": "db", "namespace": "shop"}}, {"destination_service": ["shop/d"]}),
    (
        {"source": pod(workloads=[{"kind": "Job", "name": "x"}, {"kind": "CronJob", "name": "y"}])},
        {"source_workload": [{"name": "y"}]},
    ),
    ({"source": pod(workloads=[{"kind": "Job", "name": "x"}])}, {"source_workload": [{"kind": "Job"}]}),
    ({"source": {"identity": 0}}, {"source_identity": [0]}),
    ({"source": {"cluster_name": "west"}}, {"source_cluster_name": ["west"]}),
    ({"source": {"labels": ["k8s:app=web"]}}, {"source_label": ["app in (web)"]}),
    ({"node_labels": ["zone=a"]}, {"node_labels": ["zone"]}),
    ({"node_name": "node-1"}, {"node_name": ["default/node-*"]}),
    ({"node_name": "west/node-1"}, {"node_name": ["west/"]}),
    ({"source_names": ["a.example.com"]}, {"source_fqdn": ["*.EXAMPLE.com."]}),
    ({"IP": {"source": "10.0.0.7"}}, {"source_ip": ["10.0.0.9/28"]}),
    ({"IP": {"destination": "fd00::7"}}, {"destination_ip": ["FD00:0::7"]}),
    ({"IP": {"source_xlated": "1.1.1.1"}}, {"source_ip_xlated": ["1.1.1.1"]}),
    ({"IP": {"ipVersion": "IPv6"}}, {"ip_version": ["IPv4", "IPv6"]}),
    ({}, {"ip_version": ["IP_NOT_USED"]}),
    ({"IP": {"encrypted": True}}, {"encrypted": [True]}),
    ({}, {"encrypted": [False]}),
    ({"l4": TCP}, {"destination_port": ["0080"]}),
    ({"l4": {"UDP": {}}}, {"source_port": ["0"]}),
    ({"l4": TCP}, {"tcp_flags": [{"SYN": True}]}),
    ({"l4": TCP}, {"tcp_flags": [{}]}),
    ({"l4": {"ICMPv6": {}}}, {"protocol": ["ICMP"]}),
    ({"l4": {"VRRP": {}}}, {"protocol": ["tcp", "vrrp"]}),
    ({"l7": {"dns": {"query": "a.b."}}}, {"protocol": ["dns"]}),
    ({"l7": {"dns": {"query": "a.b."}}}, {"dns_query": [r"\.b"]}),
    ({"l7": HTTP}, {"http_status_code": ["4+"]}),
    ({"l7": HTTP, "event_type": {"type": 129}}, {"http_status_code": ["404"], "event_type": [{"type": 129}]}),
    ({"l7": HTTP}, {"http_method": ["get"]}),
    ({"l7": HTTP}, {"http_path": ["^/x y$"]}),
    ({"l7": HTTP}, {"http_url": ["q=1"]}),
    ({"l7": HTTP}, {"http_header": [{"key": "K", "value": "V"}]}),
    ({"event_type": {"type": 4, "sub_type": 3}}, {"event_type": [{"match_sub_type": True, "sub_type": 3}]}),
    ({"event_type": {"type": 4}}, {"event_type": [{"type": 4, "match_sub_type": True}]}),
    ({"verdict": "DROPPED"}, {"verdict": ["DROPPED"]}),
    ({"drop_reason_desc": "POLICY_DENIED"}, {"drop_reason_desc": ["POLICY_DENIED"]}),
    ({"traffic_direction": "EGRESS"}, {"traffic_direction": ["EGRESS"]}),
    ({"is_reply": True}, {"reply": [True]}),
    ({"verdict": "DROPPED"}, {"reply": [False]}),
    ({"interface": {"index": 3, "name": "eth0"}}, {"interface": [{"name": "eth0"}]}),
    ({"interface": {"index": 3, "name": "eth0"}}, {"interface": [{"index": 3}]}),
    ({"uuid": "u"}, {"uuid": ["u"]}),
    ({"trace_context": {"parent": {"trace_id": "t"}}}, {"trace_id": ["t"]}),
    ({"ip_trace_id": {"trace_id": "18446744073709551615"}}, {"ip_trace_id": ["18446744073709551615"]}),
    ({}, {}),
]

MISMATCHES = [
    ({"source": pod()}, {"source_pod": ["web"]}),
    ({"source": pod()}, {"source_pod": ["shop/eb"]}),
    ({"source": {"labels": ["reserved:world"]}}, {"source_pod": ["/"]}),
    ({"source": pod()}, {"source_service": ["/"]}),
    ({"source": pod()}, {"source_workload": [{}]}),
    ({}, {"source_identity": [0]}),
    ({"source": {"cluster_name": "westeros"}}, {"source_cluster_name": ["west"]}),
    ({"node_name": "west/node-1"}, {"node_name": ["default/node-1"]}),
    ({}, {"node_name": ["*"]}),
    ({"source_names": ["a_b.example.com"]}, {"source_fqdn": ["*.example.com"]}),
    ({"IP": {"source": "nonsense"}}, {"source_ip": ["::/0", "0.0.0.0/0"]}),
    ({"l4": {"ICMPv4": {}}}, {"source_port": ["0"]}),
    ({"l4": TCP}, {"tcp_flags": [{"SYN": True, "RST": True}]}),
    ({"l4": {"UDP": {}}}, {"tcp_flags": [{}]}),
    ({"l7": {"http": {"method": "GET"}}}, {"http_status_code": ["4+"]}),
    ({"l7": HTTP}, {"http_header": [{"key": "k", "value": "V"}]}),
    ({"l7": {"http": {"url": "a b"}}}, {"http_path": [""]}),
    ({}, {"event_type": [{}]}),
    ({}, {"reply": [False]}),
    ({"is_reply": False}, {"reply": [True]}),
    ({}, {"interface": [{}]}),
    ({"trace_context": {"parent": {"trace_id": "t"}}}, {"trace_id": [""]}),
]


@pytest.mark.parametrize(("given", "wanted"), MATCHES, ids=str)
def test_a_flow_that_matches(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert matches(flow(**given), **wanted)


@pytest.mark.parametrize(("given", "wanted"), MISMATCHES, ids=str)
def test_a_flow_that_does_not_match(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert not matches(flow(**given), **wanted)


@pytest.mark.parametrize(
    ("wanted", "nearest"),
    [
        ({"source_ip": ["10.0.0.300"]}, "10.0.0.255"),
        ({"source_ip": ["10.0.0.0/40"]}, "10.0.0.0/32"),
        ({"source_ip": ["10.0.0.0/255.0.0.0"]}, "10.0.0.0"),
        ({"source_ip": ["fe80::1%eth0"]}, "fe80::1"),
        ({"source_port": ["70000"]}, "65535"),
        ({"source_port": ["https"]}, "443"),
        ({"protocol": ["tcq"]}, "tcp"),
        ({"source_label": ["a in (b"]}, "a in (b)"),
        ({"source_label": ["a=b,"]}, "a=b"),
        ({"source_fqdn": ["a.b.."]}, "a.b"),
        ({"source_fqdn": ["exa mple.com"]}, "example.com"),
        ({"source_pod": ["a/b/c"]}, "a/b"),
        ({"source_pod": [""]}, ""),
        ({"node_name": ["a/b/c"]}, ""),
        ({"http_path": ["("]}, r"\("),
        ({"http_status_code": ["600"]}, "599"),
        ({"http_status_code": ["04"]}, "1+"),
        ({"http_method": ["GET"], "event_type": [{"type": 1}]}, ""),
        ({"uuid": [""]}, ""),
        ({"ip_trace_id": ["0"]}, ""),
        ({"source_cluster_name": [""]}, ""),
        ({"experimental": {"cel_expression": ["true"]}}, ""),
    ],
    ids=str,
)
def test_a_bad_value_names_its_field_and_the_nearest_good_one(wanted: dict[str, Any], nearest: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filters([], [json_format.ParseDict(wanted, FlowFilter())])
    assert next(iter(wanted)) in str(caught.value)
    assert caught.value.nearest == nearest
    if nearest:
        repaired = {next(iter(wanted)): [nearest]}
        compile_filters([json_format.ParseDict(repaired, FlowFilter())])


def test_every_field_of_flow_filter_has_a_row() -> None:
    assert set(FIELDS) == set(FlowFilter.DESCRIPTOR.fields_by_name)


def test_a_service_also_matches_the_pods_that_it_selects() -> None:
    message, extension = flow(destination=pod()), FlowExtension()
    extension.destination.services.add(namespace="shop", name="web")
    message.extensions.Pack(extension)
    assert matches(message, destination_service=["shop/web"])
    assert not matches(message, source_service=["shop/web"])


def test_a_damaged_extension_is_as_none() -> None:
    message = flow(destination=pod())
    message.extensions.Pack(FlowExtension())
    message.extensions.value = b"\xff\xff"
    assert not matches(message, destination_service=["/"])
