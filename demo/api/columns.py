"""The columns of `kubectl get`, by resource."""

from __future__ import annotations

from typing import Any

from flows.demo.api import cells
from flows.demo.api.durations import UNKNOWN, age

Json = dict[str, Any]


class Column:
    """One column: heading, what fills it, and whether only `-o wide` shows it."""

    def __init__(self, name: str, cell: cells.Cell, *, type_: str = "string", wide: bool = False) -> None:
        self.name, self.cell, self.type, self.wide = name, cell, type_, wide

    def definition(self) -> Json:
        """Its `columnDefinitions` entry."""
        format_ = "name" if self.name == "Name" else ""
        priority = 1 if self.wide else 0
        entry = {"name": self.name, "type": self.type, "format": format_, "description": self.name}
        return entry | {"priority": priority}


def _plain(name: str, path: str, empty: Any = cells.NONE, *, wide: bool = False) -> Column:
    return Column(name, cells.at(path, empty), wide=wide)


def _number(name: str, path: str) -> Column:
    return Column(name, cells.count(path), type_="integer")


def _selector(path: str) -> Column:
    return Column("Selector", lambda obj: cells.selector_text(cells.at(path, None)(obj)), wide=True)


def _containers(path: str = "spec.template.spec") -> list[Column]:
    def joined(field: str) -> cells.Cell:
        return lambda obj: ",".join(str(item.get(field, "")) for item in (cells.at(path, {})(obj).get("containers") or ()))

    return [Column("Containers", joined("name"), wide=True), Column("Images", joined("image"), wide=True)]


NAME = Column("Name", cells.at("metadata.name"))
AGE = Column("Age", lambda obj: age(obj["metadata"].get("creationTimestamp")))


def _info(name: str, field: str) -> Column:
    return _plain(name, f"status.nodeInfo.{field}", UNKNOWN, wide=True)


_POD = [
    NAME,
    Column("Ready", cells.pod_ready),
    Column("Status", cells.pod_reason),
    Column("Restarts", cells.restarts),
    AGE,
    _plain("IP", "status.podIP", wide=True),
    _plain("Node", "spec.nodeName", wide=True),
    _plain("Nominated Node", "status.nominatedNodeName", wide=True),
    Column("Readiness Gates", cells.gates, wide=True),
]

_BINDING = [
    NAME,
    Column("Role", cells.role),
    AGE,
    Column("Users", cells.subjects("User"), wide=True),
    Column("Groups", cells.subjects("Group"), wide=True),
    Column("ServiceAccounts", cells.subjects("ServiceAccount"), wide=True),
]
_SUSPEND = Column("Suspend", lambda obj: str(bool(obj["spec"].get("suspend"))), type_="string")
_CREATED = Column("Created At", cells.at("metadata.creationTimestamp"))

COLUMNS: dict[str, list[Column]] = {
    "pods": _POD,
    "deployments": [
        NAME,
        Column("Ready", cells.of("status.readyReplicas", "spec.replicas")),
        _number("Up-to-date", "status.updatedReplicas"),
        _number("Available", "status.availableReplicas"),
        AGE,
        *_containers(),
        _selector("spec.selector"),
    ],
    "replicasets": [
        NAME,
        _number("Desired", "spec.replicas"),
        _number("Current", "status.replicas"),
        _number("Ready", "status.readyReplicas"),
        AGE,
        *_containers(),
        _selector("spec.selector"),
    ],
    "statefulsets": [NAME, Column("Ready", cells.of("status.readyReplicas", "spec.replicas")), AGE, *_containers()],
    "daemonsets": [
        NAME,
        _number("Desired", "status.desiredNumberScheduled"),
        _number("Current", "status.currentNumberScheduled"),
        _number("Ready", "status.numberReady"),
        _number("Up-to-date", "status.updatedNumberScheduled"),
        _number("Available", "status.numberAvailable"),
        Column("Node Selector", cells.node_selector),
        AGE,
        *_containers(),
        _selector("spec.selector"),
    ],
    "jobs": [
        NAME,
        Column("Status", cells.job_status),
        Column("Completions", cells.completions),
        Column("Duration", cells.job_duration),
        AGE,
        *_containers(),
        _selector("spec.selector"),
    ],
    "cronjobs": [
        NAME,
        _plain("Schedule", "spec.schedule"),
        _plain("Timezone", "spec.timeZone"),
        _SUSPEND,
        Column("Active", cells.active_jobs, type_="integer"),
        Column("Last Schedule", cells.last_schedule),
        AGE,
        *_containers("spec.jobTemplate.spec.template.spec"),
    ],
    "services": [
        NAME,
        _plain("Type", "spec.type"),
        _plain("Cluster-IP", "spec.clusterIP"),
        Column("External-IP", cells.external_ip),
        Column("Port(s)", cells.ports),
        AGE,
        Column("Selector", cells.service_selector, wide=True),
    ],
    "endpoints": [NAME, Column("Endpoints", cells.endpoints), AGE],
    "endpointslices": [
        NAME,
        _plain("AddressType", "addressType"),
        Column("Ports", cells.slice_ports),
        Column("Endpoints", cells.slice_addresses),
        AGE,
    ],
    "nodes": [
        NAME,
        Column("Status", cells.node_status),
        Column("Roles", cells.node_roles),
        AGE,
        _plain("Version", "status.nodeInfo.kubeletVersion", ""),
        Column("Internal-IP", cells.node_address("InternalIP"), wide=True),
        Column("External-IP", cells.node_address("ExternalIP"), wide=True),
        _info("OS-Image", "osImage"),
        _info("Kernel-Version", "kernelVersion"),
        _info("Container-Runtime", "containerRuntimeVersion"),
    ],
    "namespaces": [NAME, _plain("Status", "status.phase"), AGE],
    "configmaps": [NAME, Column("Data", cells.length("data"), type_="integer"), AGE],
    "secrets": [NAME, _plain("Type", "type"), Column("Data", cells.length("data"), type_="integer"), AGE],
    "serviceaccounts": [NAME, Column("Secrets", cells.length("secrets"), type_="integer"), AGE],
    "networkpolicies": [
        NAME,
        Column("Pod-Selector", lambda obj: cells.selector_text(obj["spec"].get("podSelector"))),
        AGE,
    ],
    "events": [
        Column("Last Seen", cells.last_seen),
        _plain("Type", "type", ""),
        _plain("Reason", "reason", ""),
        Column("Object", cells.event_object),
        Column("Source", lambda obj: (obj.get("source") or {}).get("component", ""), wide=True),
        _plain("Message", "message", ""),
        Column("Count", cells.at("count", 1), type_="integer", wide=True),
        Column("Name", cells.at("metadata.name"), wide=True),
    ],
    "leases": [NAME, _plain("Holder", "spec.holderIdentity", ""), AGE],
    "rolebindings": _BINDING,
    "clusterrolebindings": _BINDING,
    "roles": [NAME, _CREATED],
    "clusterroles": [NAME, _CREATED],
}
