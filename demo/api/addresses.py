"""Which ClusterIPs and node ports are in use: one address of each family a Service asks for."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

Json = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ServiceAddresses:
    """Free and used addresses of the Service CIDRs; the first CIDR's family is the default one."""

    def __init__(self, cidrs: tuple[str, ...]) -> None:
        networks = [ipaddress.ip_network(cidr) for cidr in cidrs]
        self.networks: dict[str, Network] = {f"IPv{network.version}": network for network in networks}
        self._used: set[str] = set()
        self.node_ports: set[int] = set()

    @property
    def families(self) -> list[str]:
        """`IPv4` and `IPv6` in the cluster's order."""
        return list(self.networks)

    def free(self, address: str) -> bool:
        """Whether no Service has the address."""
        return str(ipaddress.ip_address(address)) not in self._used

    def inside(self, address: str) -> bool:
        """Whether the address is in a Service CIDR."""
        parsed = ipaddress.ip_address(address)
        network = self.networks.get(f"IPv{parsed.version}")
        return network is not None and parsed in network

    def choose(self, family: str, owner: str) -> str:
        """A free address; where the search starts depends on `owner`, so a recreated Service often gets its old one.

        Raises RuntimeError when the range is full. The first address is kept for the API itself.
        """
        network = self.networks[family]
        span = min(network.num_addresses, 1 << 16) - 2
        start = int.from_bytes(hashlib.sha256(owner.encode()).digest()[:4], "big")
        for step in range(span - 1):
            candidate = str(network.network_address + 2 + (start + step) % (span - 1))
            if candidate not in self._used:
                return candidate
        raise RuntimeError(f"no free address in the Service range {network}; use a larger one")

    def claim(self, obj: Json) -> None:
        """Mark the addresses of a stored Service as used; other kinds have none."""
        self._used.update(_cluster_ips(obj))
        self.node_ports.update(_node_ports(obj))

    def release(self, obj: Json) -> None:
        """Give the addresses of a Service back."""
        self._used.difference_update(_cluster_ips(obj))
        self.node_ports.difference_update(_node_ports(obj))


def _cluster_ips(obj: Json) -> list[str]:
    if obj.get("kind") != "Service":
        return []
    listed = obj.get("spec", {}).get("clusterIPs") or []
    return [str(ipaddress.ip_address(text)) for text in listed if text and text != "None"]


def _node_ports(obj: Json) -> list[int]:
    if obj.get("kind") != "Service":
        return []
    return [port["nodePort"] for port in obj.get("spec", {}).get("ports", ()) if port.get("nodePort")]
