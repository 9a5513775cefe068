"""Services and their endpoints as plain rows: what kube-proxy's rules and the DNS records are made from."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Json = dict[str, Any]
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
PROTOCOLS = ("TCP", "UDP", "SCTP")
SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service in one address family, with the endpoints that are ready behind it."""

    namespace: str
    name: str
    port_name: str
    address: str  # ClusterIP
    protocol: str  # lower case
    port: int
    node_port: int  # 0: none
    sticky: bool  # sessionAffinity ClientIP
    endpoints: tuple[tuple[str, int], ...]

    @property
    def family(self) -> int:
        return 6 if ":" in self.address else 4


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One ready address behind a Service."""

    address: str
    hostname: str
    ports: tuple[tuple[str, int], ...]  # name, number


def is_headless(service: Json) -> bool:
    return service["spec"].get("clusterIP") in {None, "", "None"}


def endpoints_by_service(slices: Iterable[Json], *, unready: bool = False) -> dict[tuple[str, str], list[Endpoint]]:
    """Ready endpoints by (namespace, Service name); `unready` also takes those that are not ready."""
    found: dict[tuple[str, str], list[Endpoint]] = {}
    for piece in slices:
        metadata = piece["metadata"]
        service = (metadata.get("labels") or {}).get(SERVICE_LABEL)
        if service and piece.get("addressType") != "FQDN":
            found.setdefault((metadata["namespace"], service), []).extend(_slice_endpoints(piece, unready=unready))
    return found


def _slice_endpoints(piece: Json, *, unready: bool) -> Iterator[Endpoint]:
    ports = tuple((port.get("name") or "", int(port["port"])) for port in piece.get("ports") or [] if port.get("port"))
    for endpoint in piece.get("endpoints") or []:
        if unready or (endpoint.get("conditions") or {}).get("ready") is not False:
            hostname = endpoint.get("hostname") or ""
            for address in parsed(endpoint.get("addresses") or []):
                yield Endpoint(address, hostname if LABEL.fullmatch(hostname) else "", ports)


def parsed(addresses: Iterable[Any]) -> Iterator[str]:
    """The IP addresses of a list in their usual form; anything else would become a part of a rule, so it is left out."""
    for address in addresses:
        try:
            yield str(ipaddress.ip_address(str(address)))
        except ValueError:
            continue


def service_ports(services: Iterable[Json], slices: Iterable[Json]) -> list[ServicePort]:
    """A row for each port and ClusterIP of every Service that has one, in a stable order."""
    behind = endpoints_by_service(slices)
    rows: list[ServicePort] = []
    for service in services:
        if is_headless(service) or service["spec"].get("type") == "ExternalName":
            continue
        metadata = service["metadata"]
        endpoints = behind.get((metadata["namespace"], metadata["name"]), [])
        rows += _rows(service, endpoints)
    return sorted(rows, key=lambda row: (row.namespace, row.name, row.family, row.protocol, row.port))


def _rows(service: Json, endpoints: list[Endpoint]) -> Iterator[ServicePort]:
    spec, metadata = service["spec"], service["metadata"]
    for address in parsed(spec.get("clusterIPs") or [spec["clusterIP"]]):
        for port in spec.get("ports") or []:
            if port.get("protocol", "TCP") not in PROTOCOLS:
                continue
            name = port.get("name") or ""
            behind = {
                (endpoint.address, number)
                for endpoint in endpoints
                if (":" in endpoint.address) == (":" in address)
                for port_name, number in endpoint.ports
                if port_name == name
            }
            yield ServicePort(
                metadata["namespace"],
                metadata["name"],
                name,
                address,
                port.get("protocol", "TCP").lower(),
                int(port["port"]),
                int(port.get("nodePort") or 0),
                spec.get("sessionAffinity") == "ClientIP",
                tuple(sorted(behind)),
            )
