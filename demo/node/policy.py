"""NetworkPolicy enforcement: one nftables table per node, for the pods of that node (networking.k8s.io/v1).

A pod that some policy selects for a direction may only do what one of those policies allows; all else it asks
for is dropped. Answers always pass. What a node's own processes send to its pods passes too, as the kubelet's
probes must.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from flows.demo import layout
from flows.demo.node.services import PROTOCOLS, parsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Json = dict[str, Any]
TABLE = f"{layout.PREFIX}policy"
FAMILIES = {4: ("ip", "ipv4_addr", "icmp"), 6: ("ip6", "ipv6_addr", "icmpv6")}
# direction -> (policyTypes word, spec key, peers' key, header field of the pod, header field of its peer)
DIRECTIONS = {
    "ingress": ("Ingress", "ingress", "from", "daddr", "saddr"),
    "egress": ("Egress", "egress", "to", "saddr", "daddr"),
}


def selects(selector: Json | None, labels: dict[str, str]) -> bool:
    """Whether a label selector (matchLabels and matchExpressions; empty selects all, None nothing) fits labels."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _expression(row, labels) for row in selector.get("matchExpressions") or []
    )


def _expression(row: Json, labels: dict[str, str]) -> bool:
    key, values = row["key"], row.get("values") or []
    return {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[row["operator"]]


def ruleset(node: str, policies: Sequence[Json], pods: Sequence[Json], namespaces: Sequence[Json]) -> str:
    """The table's text for one node; loading it replaces the table that is there in one transaction."""
    world = _World(pods, namespaces)
    local = [pod for pod in world.pods if pod["spec"].get("nodeName") == node]
    chains = [text for direction in DIRECTIONS for text in _direction(direction, local, policies, world)]
    head = f"table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n"
    return head + "\n".join(chains) + "\n}\n"


class _World:
    """The pods with a network of their own, and the namespaces' labels."""

    def __init__(self, pods: Iterable[Json], namespaces: Iterable[Json]) -> None:
        self.pods = [p for p in pods if not p["spec"].get("hostNetwork") and addresses(p)]
        self.labels = {n["metadata"]["name"]: n["metadata"].get("labels") or {} for n in namespaces}

    def peers(self, peer: Json, namespace: str) -> list[str]:
        """Addresses (CIDRs) of one `from` or `to` entry that is not an ipBlock."""
        in_namespaces = peer.get("namespaceSelector")
        of_pods = peer.get("podSelector", {})
        return [
            address
            for pod in self.pods
            if (
                selects(in_namespaces, self.labels.get(pod["metadata"]["namespace"], {}))
                if in_namespaces is not None
                else pod["metadata"]["namespace"] == namespace
            )
            and selects(of_pods, pod["metadata"].get("labels") or {})
            for address in addresses(pod)
        ]


def addresses(pod: Json) -> list[str]:
    """A pod's addresses, empty once it has ended."""
    status = pod.get("status") or {}
    if status.get("phase") in {"Succeeded", "Failed"}:
        return []
    return list(parsed(row.get("ip") for row in status.get("podIPs") or []))


def _direction(direction: str, local: Sequence[Json], policies: Sequence[Json], world: _World) -> Iterator[str]:
    """The chains of one direction: a jump per restricted pod address, and a chain per restricted pod."""
    field = DIRECTIONS[direction][3]
    jumps: list[str] = []
    for pod in local:
        selecting = [p for p in policies if _applies(p, direction, pod)]
        if not selecting:
            continue
        chain = f"{direction}-{pod['metadata']['uid']}"
        rules = [rule for policy in selecting for rule in _allows(policy, direction, world, pod)]
        yield _chain(chain, [*dict.fromkeys(rules), "drop"])
        jumps += [f"{FAMILIES[_version(a)][0]} {field} {a} jump {chain}" for a in addresses(pod)]
    hooks = {"ingress": ["forward"], "egress": ["forward", "input"]}[direction]
    neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
    for hook in hooks:
        # After kube-proxy's translation of the destination, so that rules speak of pods, not of Services.
        start = [f"type filter hook {hook} priority {0 if direction == 'ingress' else -1}"]
        yield _chain(f"{direction}-{hook}", [*start, "ct state established,related accept", neighbours, *jumps])


def _applies(policy: Json, direction: str, pod: Json) -> bool:
    spec = policy["spec"]
    word = DIRECTIONS[direction][0]
    kinds = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    same = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return same and word in kinds and selects(spec.get("podSelector", {}), pod["metadata"].get("labels") or {})


def _allows(policy: Json, direction: str, world: _World, pod: Json) -> Iterator[str]:
    """The accepting rules of one policy for one pod."""
    _, key, peers_key, _, peer_field = DIRECTIONS[direction]
    for rule in policy["spec"].get(key) or []:
        peers, ports = rule.get(peers_key) or [], rule.get("ports") or []
        port_texts = [text for port in ports if (text := _port(port, direction, world, pod))] if ports else [""]
        for who in _peer_texts(peers, peer_field, world, policy["metadata"]["namespace"]) if peers else [""]:
            for what in port_texts:
                yield f"{who}{what}accept"


def _peer_texts(peers: Sequence[Json], field: str, world: _World, namespace: str) -> Iterator[str]:
    found: list[str] = []
    for peer in peers:
        if block := peer.get("ipBlock"):
            cidr, *but = map(_network, [block["cidr"], *(block.get("except") or [])])
            word = FAMILIES[_version(cidr)][0]
            excluded = f"{word} {field} != {{ {', '.join(but)} }} " if but else ""
            yield f"{word} {field} {cidr} {excluded}"
        else:
            found += world.peers(peer, namespace)
    for version, (word, _, _) in FAMILIES.items():
        of_family = sorted({a for a in found if _version(a) == version})
        if of_family:
            yield f"{word} {field} {{ {', '.join(of_family)} }} "


def _port(port: Json, direction: str, world: _World, pod: Json) -> str:
    """`meta l4proto tcp th dport 80 `; empty for what no packet can match."""
    protocol = port.get("protocol", "TCP")
    if protocol not in PROTOCOLS:
        return ""
    text = f"meta l4proto {protocol.lower()} "
    wanted = port.get("port")
    if wanted is None:
        return text
    if isinstance(wanted, int):
        last = int(port.get("endPort") or wanted)
        return f"{text}th dport {wanted} " if last == wanted else f"{text}th dport {wanted}-{last} "
    # A name means the destination's port: the pod's own for ingress, any peer's for egress.
    holders = [pod] if direction == "ingress" else world.pods
    numbers = sorted({n for holder in holders for n in _named_ports(holder, wanted, protocol)})
    return f"{text}th dport {{ {', '.join(map(str, numbers))} }} " if numbers else ""


def _named_ports(pod: Json, name: str, protocol: str) -> Iterator[int]:
    for container in pod["spec"]["containers"]:
        for row in container.get("ports") or []:
            if row.get("name") == name and row.get("protocol", "TCP") == protocol:
                yield int(row["containerPort"])


def _network(text: str) -> str:
    """A CIDR in its usual form; ValueError for anything else, which must not become a part of a rule."""
    return str(ipaddress.ip_network(text, strict=False))


def _version(address: str) -> int:
    return ipaddress.ip_network(address, strict=False).version


def _chain(name: str, lines: Sequence[str]) -> str:
    return f"  chain {name} {{\n    " + "\n    ".join(lines) + "\n  }"
