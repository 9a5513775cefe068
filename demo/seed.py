"""What is in the API of a new cluster before anybody applies anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.demo import layout
from flows.demo.api.bootstrap import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.demo.api.storage import Storage

Json = dict[str, Any]


def seed(storage: Storage) -> None:
    """Create what kube-apiserver creates at its first start, unless it is there."""
    bootstrap(storage)
    for resource, obj in objects():
        metadata = obj["metadata"]
        if storage.get(resource, metadata.get("namespace"), metadata["name"]) is None:
            storage.create(resource, obj)


def objects() -> Iterator[tuple[str, Json]]:
    """(resource, object) of the Service by which pods reach the API."""
    ports = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": layout.API_PORT}]
    yield (
        "services",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver"}},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": layout.KUBERNETES_SERVICE,
                "clusterIPs": [layout.KUBERNETES_SERVICE, layout.KUBERNETES_SERVICE6],
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack",
                "ports": ports,
            },
        },
    )
    for family, address in (("IPv4", layout.API_ADDRESS), ("IPv6", layout.API_ADDRESS6)):
        yield "endpointslices", _endpoint_slice(family, address)


def _endpoint_slice(family: str, address: str) -> Json:
    """One family's slice behind the Service, which has no selector and so none made by a controller."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes" if family == "IPv4" else "kubernetes-ipv6",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": family,
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": layout.API_PORT, "protocol": "TCP"}],
    }
