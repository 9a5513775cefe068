"""NetworkPolicies as nftables text."""

from __future__ import annotations

from typing import Any

import pytest
from demo_objects import pod

from flows.demo.node import policy

Json = dict[str, Any]
NAMESPACES = [
    {"metadata": {"name": "demo", "labels": {"team": "a"}}},
    {"metadata": {"name": "other", "labels": {"team": "b"}}},
]
SERVER = pod("server", ["10.244.1.2", "fd00:10:244:1::2"], app="server")
CLIENT = pod("client", ["10.244.2.2", "fd00:10:244:2::2"], node="node-2", app="client")
STRANGER = pod("stranger", ["10.244.3.2"], namespace="other", node="node-3", app="client")
PODS = [SERVER, CLIENT, STRANGER]


def network_policy(**spec: Any) -> Json:
    return {"metadata": {"name": "p", "namespace": "demo"}, "spec": {"podSelector": {"matchLabels": {"app": "server"}}, **spec}}


def text(node: str = "node-1", **spec: Any) -> str:
    return policy.ruleset(node, [network_policy(**spec)], PODS, NAMESPACES)


def chain(ruleset: str, name: str) -> list[str]:
    inside = ruleset.split(f"  chain {name} {{\n", 1)[1].split("\n  }", 1)[0]
    return [line.strip() for line in inside.split("\n")]


RULES: list[tuple[Json, list[str]]] = [
    ({}, ["drop"]),
    ({"ingress": [{}]}, ["accept", "drop"]),
    (
        {"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]},
        ["ip saddr { 10.244.2.2 } accept", "ip6 saddr { fd00:10:244:2::2 } accept", "drop"],
    ),
    (
        {"ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}]},
        ["ip saddr { 10.244.3.2 } accept", "drop"],
    ),
    (
        {"ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}]}]},
        ["ip saddr { 10.244.2.2, 10.244.3.2 } accept", "ip6 saddr { fd00:10:244:2::2 } accept", "drop"],
    ),
    (
        {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]},
        ["ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } accept", "drop"],
    ),
    ({"ingress": [{"ports": [{"port": 80}]}]}, ["meta l4proto tcp th dport 80 accept", "drop"]),
    (
        {"ingress": [{"ports": [{"port": 80, "endPort": 90, "protocol": "UDP"}]}]},
        ["meta l4proto udp th dport 80-90 accept", "drop"],
    ),
    ({"ingress": [{"ports": [{"port": "http"}]}]}, ["meta l4proto tcp th dport { 8080 } accept", "drop"]),
    ({"ingress": [{"ports": [{"port": "nope"}]}]}, ["drop"]),
    ({"ingress": [{"ports": [{"protocol": "SCTP"}]}]}, ["meta l4proto sctp accept", "drop"]),
    ({"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]}]}, ["drop"]),
]


@pytest.mark.parametrize(("spec", "lines"), RULES)
def test_allowing_rules_come_before_the_drop(spec: Json, lines: list[str]) -> None:
    assert chain(text(policyTypes=["Ingress"], **spec), "ingress-uid-server") == lines


def test_every_address_of_a_selected_pod_is_restricted() -> None:
    jumps = chain(text(), "ingress-forward")
    assert "ip daddr 10.244.1.2 jump ingress-uid-server" in jumps
    assert "ip6 daddr fd00:10:244:1::2 jump ingress-uid-server" in jumps


def test_answers_pass_before_anything_is_judged() -> None:
    assert chain(text(), "ingress-forward")[1] == "ct state established,related accept"


def test_a_node_restricts_only_its_own_pods() -> None:
    assert "uid-server" not in text(node="node-2")


def test_egress_is_judged_by_the_source() -> None:
    spec: Json = {"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}], "ports": [{"port": "http"}]}]}
    ruleset = text(**spec)
    assert "ip saddr 10.244.1.2 jump egress-uid-server" in chain(ruleset, "egress-forward")
    assert "ip saddr 10.244.1.2 jump egress-uid-server" in chain(ruleset, "egress-input")
    assert chain(ruleset, "egress-uid-server")[0] == (
        "ip daddr { 10.244.1.2, 10.244.2.2 } meta l4proto tcp th dport { 8080 } accept"
    )
    assert "ingress-uid-server" not in ruleset


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({}, True),
        (None, False),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "db"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "x"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_label_selectors(selector: Json | None, *, fits: bool) -> None:
    assert policy.selects(selector, {"app": "web"}) is fits
