"""Namespaces: what each has from the start, and the removal of all it holds when it goes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.demo.api.kinds import KINDS
from flows.demo.controllers.endpoints import SERVICE_NAME
from flows.demo.controllers.pods import is_deleting

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
API_SERVICE = "kubernetes"
CA_CONFIG = "kube-root-ca.crt"


def reconcile_namespaces(storage: Storage) -> None:
    """Empty namespaces that terminate, and remove them once they are empty."""
    for namespace in storage.list("namespaces"):
        if is_deleting(namespace):
            _empty(storage, namespace["metadata"]["name"])


def _empty(storage: Storage, name: str) -> None:
    left = False
    for kind in KINDS:
        if not kind.namespaced:
            continue
        for obj in storage.list(kind.plural, name):
            if not is_deleting(obj):
                storage.request_deletion(kind.plural, name, obj["metadata"]["name"])
        left = left or bool(storage.list(kind.plural, name))
    if not left:
        storage.delete("namespaces", None, name)


@dataclass(frozen=True)
class ClusterDefaults:
    """What exists without being asked for: the API's own Service, default ServiceAccounts, the CA for pods."""

    api_addresses: tuple[tuple[str, int], ...]
    ca_pem: str

    def reconcile(self, storage: Storage) -> None:
        """Create what is missing."""
        for namespace in storage.list("namespaces"):
            if not is_deleting(namespace):
                self._in_namespace(storage, namespace["metadata"]["name"])
        if self.api_addresses and storage.get("namespaces", None, "default") is not None:
            self._api_service(storage)

    def _in_namespace(self, storage: Storage, name: str) -> None:
        if storage.get("serviceaccounts", name, "default") is None:
            storage.create("serviceaccounts", {"metadata": {"name": "default", "namespace": name}})
        if self.ca_pem and storage.get("configmaps", name, CA_CONFIG) is None:
            metadata = {"name": CA_CONFIG, "namespace": name}
            storage.create("configmaps", {"metadata": metadata, "data": {"ca.crt": self.ca_pem}})

    def _api_service(self, storage: Storage) -> None:
        port = self.api_addresses[0][1]
        families = [f for f in storage.addresses.families if self._of(f)] or storage.addresses.families[:1]
        if storage.get("services", "default", API_SERVICE) is None:
            storage.create("services", self._service(storage, families, port))
        for family in families:
            self._slice(storage, family, port)

    def _of(self, family: str) -> list[str]:
        texts = [address for address, _ in self.api_addresses]
        return sorted(text for text in texts if f"IPv{ipaddress.ip_address(text).version}" == family)

    def _service(self, storage: Storage, families: list[str], port: int) -> Json:
        first = [str(storage.addresses.networks[family].network_address + 1) for family in families]
        metadata = {"name": API_SERVICE, "namespace": "default"}
        metadata["labels"] = {"component": "apiserver", "provider": "kubernetes"}  # type: ignore[assignment]
        policy = "SingleStack" if len(families) == 1 else "RequireDualStack"
        spec = {"clusterIP": first[0], "clusterIPs": first, "ipFamilies": families, "ipFamilyPolicy": policy}
        ports = [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]
        return {"metadata": metadata, "spec": spec | {"ports": ports}}

    def _slice(self, storage: Storage, family: str, port: int) -> None:
        name = API_SERVICE if family == storage.addresses.families[0] else f"{API_SERVICE}-{family.lower()}"
        conditions = {"ready": True}
        endpoints = [{"addresses": [text], "conditions": conditions} for text in self._of(family)]
        body = {"endpoints": endpoints, "ports": [{"name": "https", "protocol": "TCP", "port": port}]}
        current = storage.get("endpointslices", "default", name)
        metadata = {"name": name, "namespace": "default", "labels": {SERVICE_NAME: API_SERVICE}}
        if current is None:
            storage.create("endpointslices", {"metadata": metadata, "addressType": family, **body})
        elif any(current[key] != value for key, value in body.items()):
            storage.update("endpointslices", {**current, **body})
