"""Objects of the API as the demo's unit tests need them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def service(name: str, ips: list[str], ports: list[Json], namespace: str = "demo", **spec: Any) -> Json:
    first = ips[0] if ips else "None"
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": first, "clusterIPs": ips or ["None"], "ports": ports, **spec},
    }


def endpoint_slice(service_name: str, addresses: list[str], ports: list[Json], **endpoint: Any) -> Json:
    return {
        "metadata": {"namespace": "demo", "labels": {"kubernetes.io/service-name": service_name}},
        "addressType": "IPv6" if addresses and ":" in addresses[0] else "IPv4",
        "endpoints": [{"addresses": [address], **endpoint} for address in addresses],
        "ports": ports,
    }


def pod(name: str, ips: list[str], namespace: str = "demo", node: str = "node-1", **labels: str) -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip} for ip in ips]},
    }
