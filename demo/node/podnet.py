"""A pod's network: namespace, cable to the node, addresses; what the CNI plugins ptp and host-local do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.demo import layout
from flows.demo.errors import DemoError
from flows.demo.node import netns

if TYPE_CHECKING:
    from flows.demo.layout import NodeLayout

FIRST_HOST, LAST_HOST = 2, 254  # .1 is the gateway, .255 the broadcast address of the node's /24


@dataclass(slots=True)
class AddressPool:
    """Host numbers of one node's pod network. A freed number comes back last, so that a name rarely
    changes hands at once.
    """

    node: NodeLayout
    _next: int = FIRST_HOST
    _taken: set[int] = field(default_factory=set)

    def take(self) -> int:
        for offset in range(LAST_HOST - FIRST_HOST + 1):
            host = FIRST_HOST + (self._next - FIRST_HOST + offset) % (LAST_HOST - FIRST_HOST + 1)
            if host not in self._taken:
                self._taken.add(host)
                self._next = host + 1
                return host
        raise DemoError(f"{self.node.name}: no address is left in {self.node.pod_net}")

    def free(self, host: int) -> None:
        self._taken.discard(host)


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """Where one pod lives on the network: a namespace of its own, one address of each family."""

    node: NodeLayout
    netns: str
    link: str
    host: int

    @property
    def addresses(self) -> list[str]:
        return [self.node.pod_address(self.host), self.node.pod_address6(self.host)]


def name_netns(namespace: str, pod: str, uid: str) -> str:
    """Name of a pod's network namespace; it is a file name, so a long pod name is cut."""
    return f"{layout.PREFIX}{namespace}-{pod}"[:200] + f"-{uid[:8]}"


def attach(net: PodNetwork) -> None:
    """Make the pod's namespace and connect it to its node."""
    netns.create(net.netns, netns.LEAF)
    netns.ip_batch(net.node.netns, node_lines(net))
    netns.ip_batch(net.netns, pod_lines(net))


def detach(net: PodNetwork) -> None:
    """Remove the pod's namespace; its cable and the node's route to it go with it.

    The cable is removed by name first: a namespace lives on while some process or open file is in it.
    """
    if netns.path(net.netns).exists():
        netns.ip_batch(net.node.netns, [f"link del {net.link}"])
        netns.remove(net.netns)


def node_lines(net: PodNetwork) -> list[str]:
    """`ip` commands on the node's side: every cable bears the gateway's address, and a route leads to each pod."""
    address, address6 = net.addresses
    return [
        f"link add {net.link} type veth peer name eth0 netns {net.netns}",
        f"addr add {net.node.gateway}/32 dev {net.link}",
        f"addr add {net.node.gateway6}/128 dev {net.link} nodad",
        f"link set {net.link} up",
        f"route add {address}/32 dev {net.link}",
        f"route add {address6}/128 dev {net.link}",
    ]


def pod_lines(net: PodNetwork) -> list[str]:
    """`ip` commands inside the pod: all it reaches, it reaches through its node."""
    address, address6 = net.addresses
    return [
        f"addr add {address}/32 dev eth0",
        f"addr add {address6}/128 dev eth0 nodad",
        "link set eth0 up",
        f"route add {net.node.gateway}/32 dev eth0",
        f"route add default via {net.node.gateway} dev eth0",
        f"route add {net.node.gateway6}/128 dev eth0",
        f"route add ::/0 via {net.node.gateway6} dev eth0",
    ]
