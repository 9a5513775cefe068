"""The wire: a bridge between the nodes' network namespaces, and the routes that make it a cluster network."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING

from flows.demo import layout
from flows.demo.errors import DemoError
from flows.demo.node import netns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.demo.layout import NodeLayout

BRIDGE = "br0"


def check_free(routes: Sequence[str]) -> None:
    """Raise DemoError if a route of the machine (destinations in CIDR form) overlaps the nodes' networks."""
    for wanted in (layout.NODE_NET, layout.NODE_NET6):
        network = ipaddress.ip_network(wanted)
        for route in routes:
            taken = ipaddress.ip_network(route, strict=False)
            if taken.prefixlen and taken.version == network.version and taken.overlaps(network):
                raise DemoError(f"the demo's network {wanted} is routed on this machine ({taken}): remove it")


def machine_routes() -> list[str]:
    """Destinations of the machine's routes, default routes left out."""
    found = []
    for family in ("-4", "-6"):
        rows = json.loads(netns.run(["ip", "-j", family, "route", "show"]) or "[]")
        found += [row["dst"] for row in rows if row.get("dst", "default") != "default"]
    return found


def build(nodes: Sequence[NodeLayout]) -> None:
    """Make the wire and the nodes' namespaces. They must not exist yet."""
    check_free(machine_routes())
    for name in [layout.WIRE_NETNS, *(n.netns for n in nodes)]:
        netns.create(name, netns.FORWARDING)
    netns.ip_batch(layout.WIRE_NETNS, wire_lines(nodes))
    netns.ip_batch(None, machine_lines())
    netns.ip_batch(layout.WIRE_NETNS, [f"link set machine master {BRIDGE} up"])
    for node in nodes:
        netns.ip_batch(node.netns, node_lines(node, nodes))
    netns.ip_batch(layout.WIRE_NETNS, pod_routes(nodes))


def wire_lines(nodes: Sequence[NodeLayout]) -> list[str]:
    """`ip` commands that make the bridge, its address (where the API listens) and a cable to each node."""
    lines = [
        f"link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0",
        f"addr add {layout.API_ADDRESS}/24 dev {BRIDGE}",
        f"addr add {layout.API_ADDRESS6}/64 dev {BRIDGE} nodad",
        f"link set {BRIDGE} up",
    ]
    for node in nodes:
        lines.append(f"link add {node.name} type veth peer name eth0 netns {node.netns}")
        lines.append(f"link set {node.name} master {BRIDGE} up")
    return lines


def machine_lines() -> list[str]:
    """`ip` commands that give the machine itself an address on the wire."""
    return [
        f"link add {layout.MACHINE_LINK} type veth peer name machine netns {layout.WIRE_NETNS}",
        f"addr add {layout.MACHINE_ADDRESS}/24 dev {layout.MACHINE_LINK}",
        f"addr add {layout.MACHINE_ADDRESS6}/64 dev {layout.MACHINE_LINK} nodad",
        f"link set {layout.MACHINE_LINK} up",
    ]


def node_lines(node: NodeLayout, nodes: Sequence[NodeLayout]) -> list[str]:
    """`ip` commands inside a node: its address, the other nodes' pods, and a default route.

    The default route leads to the wire, which answers "network unreachable" for the world; without one a
    Service address of the node's own processes would be refused before nftables could translate it.
    """
    return [
        f"addr add {node.address}/24 dev eth0",
        f"addr add {node.address6}/64 dev eth0 nodad",
        "link set eth0 up",
        f"route add default via {layout.API_ADDRESS}",
        f"route add ::/0 via {layout.API_ADDRESS6}",
        *pod_routes([n for n in nodes if n != node]),
    ]


def pod_routes(nodes: Sequence[NodeLayout]) -> list[str]:
    """`ip` commands that lead each node's pods' addresses to that node."""
    lines = []
    for node in nodes:
        lines.append(f"route add {node.pod_net} via {node.address}")
        lines.append(f"route add {node.pod_net6} via {node.address6}")
    return lines
