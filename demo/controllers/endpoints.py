"""Services -> EndpointSlices and Endpoints: which pod addresses and ports serve each Service now."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from flows.demo.api.clock import now_text
from flows.demo.controllers.pods import is_deleting, is_finished, is_ready, owned, owner_reference

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
Ports = tuple[tuple[str, str, int, str], ...]
"""(name, protocol, number, application protocol) of each port of a slice."""
SLICE_SIZE = 100
"""Endpoints in one slice, the real controller's default."""
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
_ZONE = "topology.kubernetes.io/zone"
_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


def reconcile_endpoints(storage: Storage) -> None:
    """Bring slices and Endpoints of every Service with a selector in line."""
    zones = {n["metadata"]["name"]: (n["metadata"].get("labels") or {}).get(_ZONE) for n in storage.list("nodes")}
    pods: dict[str, list[Json]] = defaultdict(list)
    for pod in storage.list("pods"):
        if not is_finished(pod) and pod.get("status", {}).get("podIP"):
            pods[pod["metadata"]["namespace"]].append(pod)
    for service in storage.list("services"):
        spec = service["spec"]
        if not spec.get("selector") or spec["type"] == "ExternalName" or is_deleting(service):
            continue
        chosen = [pod for pod in pods[service["metadata"]["namespace"]] if _selected(spec["selector"], pod)]
        _write_slices(storage, service, chosen, zones)
        _write_endpoints(storage, service, chosen)


def _selected(selector: Json, pod: Json) -> bool:
    return selector.items() <= (pod["metadata"].get("labels") or {}).items()


def addresses(pod: Json, family: str) -> list[str]:
    """A pod's addresses of a family, `IPv4` or `IPv6`."""
    status = pod["status"]
    listed = [entry["ip"] for entry in status.get("podIPs") or ()] or [status["podIP"]]
    return [text for text in listed if f"IPv{ipaddress.ip_address(text).version}" == family]


def resolve_ports(service: Json, pod: Json) -> Ports:
    """The Service's ports as numbers of this pod; a named target port that the pod lacks is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = _target(port, pod)
        if number is not None:
            found.append((port.get("name", ""), port["protocol"], number, port.get("appProtocol", "")))
    return tuple(found)


def _target(port: Json, pod: Json) -> int | None:
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for offered in container.get("ports") or ():
            if offered.get("name") == target and offered.get("protocol", "TCP") == port["protocol"]:
                return int(offered["containerPort"])
    return None


def _endpoint(service: Json, pod: Json, texts: list[str], zones: dict[str, str | None]) -> Json:
    metadata, spec = pod["metadata"], pod["spec"]
    deleting, ready = is_deleting(pod), is_ready(pod)
    serving = ready or bool(service["spec"].get("publishNotReadyAddresses"))
    target = {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}
    endpoint: Json = {"addresses": texts}
    endpoint["conditions"] = {"ready": serving and not deleting, "serving": ready, "terminating": deleting}
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = spec["hostname"]
    endpoint |= {"targetRef": target, "nodeName": spec.get("nodeName", "")}
    if zone := zones.get(spec.get("nodeName", "")):
        endpoint["zone"] = zone
    return endpoint


def _desired(service: Json, pods: list[Json], zones: dict[str, str | None]) -> list[tuple[str, Ports, list[Json]]]:
    """(family, ports, endpoints) of each slice; a family without endpoints has one empty slice."""
    slices = []
    for family in service["spec"].get("ipFamilies") or ["IPv4"]:
        groups: dict[Ports, list[Json]] = defaultdict(list)
        for pod in pods:
            if texts := addresses(pod, family):
                groups[resolve_ports(service, pod)].append(_endpoint(service, pod, texts[:1], zones))
        for ports, endpoints in sorted(groups.items()) or [((), [])]:
            starts = range(0, max(1, len(endpoints)), SLICE_SIZE)
            slices += [(family, ports, endpoints[first : first + SLICE_SIZE]) for first in starts]
    return slices


def _slice_labels(service: Json) -> Json:
    own = {MANAGED_BY: MANAGER, SERVICE_NAME: service["metadata"]["name"]}
    if service["spec"].get("clusterIP") == "None":
        own["service.kubernetes.io/headless"] = ""
    return {**(service["metadata"].get("labels") or {}), **own}


def _port_objects(ports: Ports) -> list[Json]:
    return [
        {"name": name, "protocol": protocol, "port": number} | ({"appProtocol": application} if application else {})
        for name, protocol, number, application in ports
    ]


def _write_slices(storage: Storage, service: Json, pods: list[Json], zones: dict[str, str | None]) -> None:
    existing = owned(storage, "endpointslices", service)
    labels = _slice_labels(service)
    for family, ports, endpoints in _desired(service, pods, zones):
        body = {"addressType": family, "endpoints": endpoints, "ports": _port_objects(ports)}
        reused = _take(existing, body)
        if reused is None:
            storage.create("endpointslices", {"metadata": _slice_metadata(service, labels), **body})
        elif any(reused[key] != value for key, value in body.items()) or reused["metadata"]["labels"] != labels:
            annotations = {_TRIGGER: now_text()}
            metadata = {**reused["metadata"], "labels": labels, "annotations": annotations}
            storage.update("endpointslices", {"metadata": metadata, **body})
    for surplus in existing:
        storage.delete("endpointslices", surplus["metadata"]["namespace"], surplus["metadata"]["name"])


def _slice_metadata(service: Json, labels: Json) -> Json:
    metadata = service["metadata"]
    made = {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"], "labels": labels}
    return made | {"annotations": {_TRIGGER: now_text()}, "ownerReferences": [owner_reference(service)]}


def _take(existing: list[Json], body: Json) -> Json | None:
    """Take the slice to reuse out of `existing`: same family, same ports if there is one."""
    family = [item for item in existing if item["addressType"] == body["addressType"]]
    same = [item for item in family if item["ports"] == body["ports"]]
    if not family:
        return None
    chosen = (same or family)[0]
    existing.remove(chosen)
    return chosen


# The older Endpoints object: first family only, ready and not ready apart.


def _write_endpoints(storage: Storage, service: Json, pods: list[Json]) -> None:
    metadata = service["metadata"]
    family = (service["spec"].get("ipFamilies") or ["IPv4"])[0]
    subsets: dict[Ports, Json] = defaultdict(dict)
    for pod in pods:
        for text in addresses(pod, family)[:1]:
            field = "addresses" if is_ready(pod) and not is_deleting(pod) else "notReadyAddresses"
            entry = {"ip": text, "nodeName": pod["spec"].get("nodeName", ""), "targetRef": _pod_reference(pod)}
            subsets[resolve_ports(service, pod)].setdefault(field, []).append(entry)
    body = [{**entry, "ports": _port_objects(ports)} for ports, entry in sorted(subsets.items())]
    labels = {**(metadata.get("labels") or {}), "endpoints.kubernetes.io/managed-by": "endpoint-controller"}
    fresh = {"name": metadata["name"], "namespace": metadata["namespace"], "labels": labels}
    current = storage.get("endpoints", metadata["namespace"], metadata["name"])
    if current is None:
        storage.create("endpoints", {"metadata": fresh, "subsets": body})
    elif current.get("subsets") != body:
        storage.update("endpoints", {**current, "subsets": body})


def _pod_reference(pod: Json) -> Json:
    metadata = pod["metadata"]
    return {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}
