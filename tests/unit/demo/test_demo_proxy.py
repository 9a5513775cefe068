"""kube-proxy: Services and EndpointSlices as rows, and as nftables text."""

from __future__ import annotations

import pytest
from demo_objects import endpoint_slice, service

from flows.demo.node import proxy
from flows.demo.node.services import service_ports

HTTP = [{"name": "http", "port": 80, "protocol": "TCP"}]
BEHIND = [{"name": "http", "port": 8080, "protocol": "TCP"}]
V4, V6 = ["10.244.1.2", "10.244.2.3"], ["fd00:10:244:1::2"]


def rules(*args: list[dict[str, object]]) -> str:
    return proxy.ruleset(service_ports(*args))


def test_dual_stack_service_gets_a_rule_for_each_family() -> None:
    text = rules(
        [service("svc-b", ["10.96.0.20", "fd00:10:96::20"], HTTP)],
        [endpoint_slice("svc-b", V4, BEHIND), endpoint_slice("svc-b", V6, BEHIND)],
    )
    assert "10.96.0.20 . tcp . 80 : goto service4-demo-svc-b-tcp-80" in text
    assert "fd00:10:96::20 . tcp . 80 : goto service6-demo-svc-b-tcp-80" in text
    assert "dnat ip to numgen random mod 2 map { 0 : 10.244.1.2 . 8080, 1 : 10.244.2.3 . 8080 }" in text
    assert "dnat ip6 to numgen random mod 1 map { 0 : fd00:10:244:1::2 . 8080 }" in text
    assert "10.244.1.2 . 10.244.1.2" in text


def test_loading_replaces_the_table_in_one_transaction() -> None:
    assert rules([], []).startswith(
        "table inet flows-demo-proxy\ndelete table inet flows-demo-proxy\ntable inet flows-demo-proxy {\n"
    )


def test_service_without_endpoints_is_rejected_not_translated() -> None:
    text = rules([service("svc-b", ["10.96.0.20"], HTTP)], [])
    assert "set no-endpoints4 {\n    type ipv4_addr . inet_proto . inet_service\n    elements = { 10.96.0.20 . tcp . 80 }" in text
    assert "dnat" not in text.replace("ct status dnat", "")


def test_endpoint_that_is_not_ready_gets_nothing() -> None:
    slices = [endpoint_slice("svc-b", V4, BEHIND, conditions={"ready": False})]
    (row,) = service_ports([service("svc-b", ["10.96.0.20"], HTTP)], slices)
    assert row.endpoints == ()


def test_unknown_readiness_counts_as_ready() -> None:
    (row,) = service_ports([service("svc-b", ["10.96.0.20"], HTTP)], [endpoint_slice("svc-b", V4, BEHIND, conditions={})])
    assert row.endpoints == (("10.244.1.2", 8080), ("10.244.2.3", 8080))


def test_ports_are_matched_by_name() -> None:
    ports = [*HTTP, {"name": "metrics", "port": 9090, "protocol": "TCP"}]
    behind = [*BEHIND, {"name": "metrics", "port": 9100, "protocol": "TCP"}]
    rows = service_ports([service("svc-b", ["10.96.0.20"], ports)], [endpoint_slice("svc-b", V4[:1], behind)])
    assert [(row.port, row.endpoints) for row in rows] == [
        (80, (("10.244.1.2", 8080),)),
        (9090, (("10.244.1.2", 9100),)),
    ]


@pytest.mark.parametrize(
    "spec",
    [{"type": "ExternalName", "externalName": "example.com"}, {"clusterIP": "None", "clusterIPs": ["None"]}],
)
def test_service_without_cluster_ip_has_no_rule(spec: dict[str, object]) -> None:
    assert service_ports([service("x", [], HTTP) | {"spec": {"ports": HTTP, **spec}}], []) == []


def test_client_ip_affinity_picks_by_source() -> None:
    text = rules([service("a", ["10.96.0.9"], HTTP, sessionAffinity="ClientIP")], [endpoint_slice("a", V4, BEHIND)])
    assert "dnat ip to jhash ip saddr mod 2 map" in text


def test_node_port_is_masqueraded_on_its_way_to_the_same_chain() -> None:
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]
    text = rules([service("a", ["10.96.0.9"], ports)], [endpoint_slice("a", V4, BEHIND)])
    assert "tcp . 30080 : goto node-port-tcp-30080" in text
    assert "meta nfproto ipv4 meta mark set meta mark or 0x4000 goto service4-demo-a-tcp-80" in text


def test_udp_and_tcp_of_one_port_are_two_rules() -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    text = rules(
        [service("dns", ["10.96.0.10"], ports)],
        [endpoint_slice("dns", V4[:1], [{"name": "dns", "port": 53}, {"name": "dns-tcp", "port": 53}])],
    )
    assert "meta l4proto udp dnat ip to" in text
    assert "meta l4proto tcp dnat ip to" in text


def test_output_is_judged_after_translation() -> None:
    # A node's own packet to a ClusterIP passes nat at -100; a reject before that would hit every Service.
    text = rules([], [])
    priorities = [int(word.split("priority ")[1].split()[0]) for word in text.split("\n") if "hook output" in word]
    assert priorities == [-100, -90]


def test_what_is_no_address_never_reaches_a_rule() -> None:
    behind = endpoint_slice("svc-b", ["10.244.1.2", "1.1.1.1; drop", "example.com"], BEHIND)
    text = rules([service("svc-b", ["10.96.0.20"], HTTP)], [behind])
    assert "numgen random mod 1 map { 0 : 10.244.1.2 . 8080 }" in text
    assert "drop" not in text
    assert rules([service("svc-b", ["10.96.0.20"], [{"port": 80, "protocol": "TCP } x"}])], []) == rules([], [])
