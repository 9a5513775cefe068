"""The records of the cluster's name server: what CoreDNS answers, as a hosts file for dnsmasq.

Names (Kubernetes DNS specification 1.1): SERVICE.NAMESPACE.svc.cluster.local is the ClusterIPs, or for a
headless Service the addresses behind it, each also as HOSTNAME.SERVICE...;
a-b-c-d.NAMESPACE.pod.cluster.local is that pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.demo import layout
from flows.demo.node import services as svc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Json = dict[str, Any]
RECORDS = layout.DNS_RECORDS / "hosts"


def records(services: Iterable[Json], slices: Iterable[Json], pods: Iterable[Json]) -> str:
    """The hosts file: one `ADDRESS NAME` per line, sorted, each once. The first name of an address is its PTR."""
    slices = list(slices)
    ready = svc.endpoints_by_service(slices)
    everything = svc.endpoints_by_service(slices, unready=True)
    rows: dict[tuple[str, str], None] = {}
    for service in services:
        metadata, spec = service["metadata"], service["spec"]
        behind = everything if spec.get("publishNotReadyAddresses") else ready
        endpoints = behind.get((metadata["namespace"], metadata["name"]), [])
        rows |= dict.fromkeys(_service_records(service, endpoints))
    rows |= dict.fromkeys(record for pod in pods for record in _pod_records(pod))
    return "".join(f"{address} {name}\n" for address, name in rows)


def _service_records(service: Json, endpoints: list[svc.Endpoint]) -> Iterator[tuple[str, str]]:
    metadata, spec = service["metadata"], service["spec"]
    name = f"{metadata['name']}.{metadata['namespace']}.svc.{layout.DOMAIN}"
    if spec.get("type") == "ExternalName":
        return
    if not svc.is_headless(service):
        for address in svc.parsed(spec.get("clusterIPs") or [spec["clusterIP"]]):
            yield address, name
        return
    for endpoint in endpoints:
        if endpoint.hostname:
            yield endpoint.address, f"{endpoint.hostname}.{name}"
        yield endpoint.address, name


def _pod_records(pod: Json) -> Iterator[tuple[str, str]]:
    for address in svc.parsed(row.get("ip") for row in (pod.get("status") or {}).get("podIPs") or []):
        label = address.replace(".", "-").replace(":", "-")
        yield address, f"{label}.{pod['metadata']['namespace']}.pod.{layout.DOMAIN}"


def write(text: str) -> bool:
    """Replace the records file; False if it says the same already."""
    layout.DNS_RECORDS.mkdir(parents=True, exist_ok=True, mode=0o755)
    if RECORDS.exists() and RECORDS.read_text() == text:
        return False
    fresh = RECORDS.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.replace(RECORDS)
    return True
