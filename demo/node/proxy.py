"""kube-proxy: Services as one nftables table per node, in the shape of kube-proxy's own nftables mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.demo import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flows.demo.node.services import ServicePort

TABLE = f"{layout.PREFIX}proxy"
MASQUERADE_MARK = "0x4000"  # kube-proxy's

# family -> nft's word for its header, its address type
FAMILIES = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}


def ruleset(ports: Sequence[ServicePort]) -> str:
    """The table's text: loading it replaces the table that is there in one transaction."""
    sections: list[str] = []
    for family in FAMILIES:
        sections += _sets(family, [p for p in ports if p.family == family])
    sections.append(_set("map", "node-ports", "inet_proto . inet_service : verdict", _node_port_elements(ports)))
    sections += [chain for port in ports if port.endpoints for chain in _service_chains(port)]
    sections += _node_port_chains(ports)
    sections += _hooks()
    body = "\n".join(sections)
    return f"table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{body}\n}}\n"


def _sets(family: int, ports: Sequence[ServicePort]) -> list[str]:
    kind = FAMILIES[family][1]
    served = [f"{_key(p)} : goto {_chain(p)}" for p in ports if p.endpoints]
    unserved = [_key(p) for p in ports if not p.endpoints]
    hairpin = sorted({f"{address} . {address}" for p in ports for address, _ in p.endpoints})
    return [
        _set("map", f"service-ips{family}", f"{kind} . inet_proto . inet_service : verdict", served),
        _set("set", f"no-endpoints{family}", f"{kind} . inet_proto . inet_service", unserved),
        _set("set", f"cluster-ips{family}", kind, sorted({p.address for p in ports})),
        _set("set", f"hairpin{family}", f"{kind} . {kind}", hairpin),
    ]


def _node_port_elements(ports: Iterable[ServicePort]) -> list[str]:
    """A node port is one key for both families: its chain tells them apart."""
    chains = {
        (p.protocol, p.node_port): f"goto node-port-{p.protocol}-{p.node_port}" for p in ports if p.node_port and p.endpoints
    }
    return [f"{protocol} . {port} : {verdict}" for (protocol, port), verdict in sorted(chains.items())]


def _set(what: str, name: str, kind: str, elements: Sequence[str]) -> str:
    inside = f"\n    elements = {{ {', '.join(elements)} }}" if elements else ""
    return f"  {what} {name} {{\n    type {kind}{inside}\n  }}"


def _key(port: ServicePort) -> str:
    return f"{port.address} . {port.protocol} . {port.port}"


def _chain(port: ServicePort) -> str:
    return f"service{port.family}-{port.namespace}-{port.name}-{port.protocol}-{port.port}"


def _service_chains(port: ServicePort) -> list[str]:
    word = FAMILIES[port.family][0]
    choices = ", ".join(f"{i} : {address} . {number}" for i, (address, number) in enumerate(port.endpoints))
    pick = f"jhash {word} saddr" if port.sticky else "numgen random"
    rule = f"meta l4proto {port.protocol} dnat {word} to {pick} mod {len(port.endpoints)} map {{ {choices} }}"
    return [f"  chain {_chain(port)} {{\n    {rule}\n  }}"]


def _node_port_chains(ports: Iterable[ServicePort]) -> list[str]:
    """A packet to a node's own port may go to another node's pod, whose answer must come back this way:
    masquerade.
    """
    rules: dict[str, list[str]] = {}
    for port in ports:
        if port.node_port and port.endpoints:
            mark = f"meta mark set meta mark or {MASQUERADE_MARK}"
            family = "ipv4" if port.family == 4 else "ipv6"
            rule = f"meta nfproto {family} {mark} goto {_chain(port)}"
            rules.setdefault(f"node-port-{port.protocol}-{port.node_port}", []).append(rule)
    return [f"  chain {name} {{\n    " + "\n    ".join(lines) + "\n  }" for name, lines in sorted(rules.items())]


def _hooks() -> list[str]:
    chains = {
        "services": [
            "ip daddr . meta l4proto . th dport vmap @service-ips4",
            "ip6 daddr . meta l4proto . th dport vmap @service-ips6",
            "ip daddr 127.0.0.0/8 return",
            "fib daddr type local meta l4proto . th dport vmap @node-ports",
        ],
        "no-endpoints": [
            "ip daddr . meta l4proto . th dport @no-endpoints4 reject",
            "ip6 daddr . meta l4proto . th dport @no-endpoints6 reject",
            "ip daddr @cluster-ips4 reject",
            "ip6 daddr @cluster-ips6 reject",
        ],
        "nat-prerouting": ["type nat hook prerouting priority -100", "jump services"],
        "nat-output": ["type nat hook output priority -100", "jump services"],
        "nat-postrouting": [
            "type nat hook postrouting priority 100",
            f"meta mark and {MASQUERADE_MARK} == {MASQUERADE_MARK} masquerade",
            "ct status dnat ip saddr . ip daddr @hairpin4 masquerade",
            "ct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade",
        ],
        "filter-forward": ["type filter hook forward priority -90", "ct state new jump no-endpoints"],
        "filter-output": ["type filter hook output priority -90", "ct state new jump no-endpoints"],
    }
    return [f"  chain {name} {{\n    " + "\n    ".join(lines) + "\n  }" for name, lines in chains.items()]
