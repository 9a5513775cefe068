"""`Table` answers for `kubectl get`: the columns users know, one row of cells for each object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.demo.api.clock import parse_time

if TYPE_CHECKING:
    from flows.demo.api.kinds import Kind

Json = dict[str, Any]
Cell = Callable[[Json], Any]
NONE, UNKNOWN = "<none>", "<unknown>"


class Column:
    """One column: heading, what fills it, and whether only `-o wide` shows it."""

    def __init__(self, name: str, cell: Cell, *, type_: str = "string", wide: bool = False) -> None:
        self.name, self.cell, self.type, self.wide = name, cell, type_, wide

    def definition(self) -> Json:
        """Its `columnDefinitions` entry."""
        format_ = "name" if self.name == "Name" else ""
        priority = 1 if self.wide else 0
        entry = {"name": self.name, "type": self.type, "format": format_, "description": self.name}
        return entry | {"priority": priority}


def age(text: object) -> str:
    """Time since a timestamp, as `kubectl` shortens it (`duration.HumanDuration`)."""
    moment = parse_time(text)
    if moment is None:
        return UNKNOWN
    return human_duration((datetime.now(UTC) - moment).total_seconds())


def human_duration(seconds: float) -> str:
    """`45s`, `3m5s`, `2h`, `4d3h`, `3y20d`: at most two units, fewer as it grows."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    total = max(0, total)
    for below, unit, letter, smaller, small_letter in _DURATIONS:
        if total < below:
            rest = total % unit // smaller if smaller else 0
            return f"{total // unit}{letter}" + (f"{rest}{small_letter}" if rest else "")
    return f"{total // _YEAR}y"


_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY
_DURATIONS = (
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
)
"""(seconds below which a row holds, its unit, its letter, the smaller unit or 0, its letter)."""


def _at(path: str, empty: Any = NONE) -> Cell:
    parts = path.split(".")

    def cell(obj: Json) -> Any:
        value: Any = obj
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else None
        return empty if value is None or value == "" else value

    return cell


def _count(path: str) -> Cell:
    return _at(path, 0)


def _plain(name: str, path: str, empty: Any = NONE, *, wide: bool = False) -> Column:
    return Column(name, _at(path, empty), wide=wide)


def _number(name: str, path: str) -> Column:
    return Column(name, _count(path), type_="integer")


def _length(field: str) -> Cell:
    return lambda obj: len(obj.get(field) or ())


def _selector_text(selector: Json | None) -> str:
    labels = (selector or {}).get("matchLabels") or {}
    terms = [f"{key}={value}" for key, value in sorted(labels.items())]
    for entry in (selector or {}).get("matchExpressions") or ():
        values = ",".join(entry.get("values") or ())
        terms.append(f"{entry['key']} {entry.get('operator', '').lower()} ({values})")
    return ",".join(terms) or NONE


def _selector(path: str) -> Column:
    return Column("Selector", lambda obj: _selector_text(_at(path, None)(obj)), wide=True)


def _containers(path: str = "spec.template.spec") -> list[Column]:
    def joined(field: str) -> Cell:
        return lambda obj: ",".join(str(item.get(field, "")) for item in (_at(path, {})(obj).get("containers") or ()))

    return [Column("Containers", joined("name"), wide=True), Column("Images", joined("image"), wide=True)]


_NAME = Column("Name", _at("metadata.name"))
_AGE = Column("Age", lambda obj: age(obj["metadata"].get("creationTimestamp")))

# Pods


def pod_reason(pod: Json) -> str:
    """The STATUS column: phase, or what says more (`CrashLoopBackOff`, `Terminating`, `Init:0/1`)."""
    status, metadata = pod.get("status", {}), pod["metadata"]
    reason = status.get("reason") or status.get("phase") or "Unknown"
    waiting_init = _init_reason(pod)
    if waiting_init:
        reason = waiting_init
    else:
        for container in reversed(status.get("containerStatuses") or ()):
            reason = _container_reason(container.get("state") or {}) or reason
        if reason == "Completed" and any((c.get("state") or {}).get("running") for c in _statuses(pod)):
            reason = "Running" if _ready_condition(pod) else "NotReady"
    if metadata.get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(reason)


def _statuses(pod: Json) -> Sequence[Json]:
    return pod.get("status", {}).get("containerStatuses") or ()


def _container_reason(state: Json) -> str:
    if waiting := (state.get("waiting") or {}).get("reason"):
        return str(waiting)
    terminated = state.get("terminated")
    if terminated is None:
        return ""
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _init_reason(pod: Json) -> str:
    wanted = len(pod.get("spec", {}).get("initContainers") or ())
    for position, container in enumerate(pod.get("status", {}).get("initContainerStatuses") or ()):
        state = container.get("state") or {}
        if (state.get("terminated") or {}).get("exitCode") == 0:
            continue
        why = _container_reason(state)
        return f"Init:{why}" if why and why != "PodInitializing" else f"Init:{position}/{wanted}"
    return ""


def _ready_condition(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _pod_ready(pod: Json) -> str:
    ready = sum(bool(container.get("ready")) for container in _statuses(pod))
    return f"{ready}/{len(pod.get('spec', {}).get('containers') or ())}"


def _restarts(pod: Json) -> str:
    statuses = _statuses(pod)
    count = sum(container.get("restartCount", 0) for container in statuses)
    ends = [(item.get("lastState") or {}).get("terminated", {}).get("finishedAt") for item in statuses]
    latest = max((text for text in ends if text), default=None)
    return f"{count} ({age(latest)} ago)" if count and latest else str(count)


def _gates(pod: Json) -> str:
    gates = pod.get("spec", {}).get("readinessGates") or ()
    return f"0/{len(gates)}" if gates else NONE


_POD = [
    _NAME,
    Column("Ready", _pod_ready),
    Column("Status", pod_reason),
    Column("Restarts", _restarts),
    _AGE,
    _plain("IP", "status.podIP", wide=True),
    _plain("Node", "spec.nodeName", wide=True),
    _plain("Nominated Node", "status.nominatedNodeName", wide=True),
    Column("Readiness Gates", _gates, wide=True),
]

# Workloads


def _of(ready: str, wanted: str) -> Cell:
    return lambda obj: f"{_count(ready)(obj)}/{_count(wanted)(obj)}"


def _node_selector(obj: Json) -> str:
    labels = _at("spec.template.spec.nodeSelector", {})(obj)
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or NONE


def job_status(job: Json) -> str:
    """`Complete`, `Failed`, `Suspended`, `Terminating` or `Running`."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["status"] == "True" and condition["type"] in {"Complete", "Failed", "Suspended"}:
            return str(condition["type"])
    return "Terminating" if job["metadata"].get("deletionTimestamp") else "Running"


def _job_duration(job: Json) -> str:
    start = parse_time(job.get("status", {}).get("startTime"))
    if start is None:
        return ""
    end = parse_time(job["status"].get("completionTime")) or datetime.now(UTC)
    return human_duration((end - start).total_seconds())


def _completions(job: Json) -> str:
    done = _count("status.succeeded")(job)
    wanted = job["spec"].get("completions")
    return f"{done}/{wanted}" if wanted is not None else f"{done}/1 of {job['spec'].get('parallelism', 1)}"


def _active_jobs(cron_job: Json) -> int:
    return len(cron_job.get("status", {}).get("active") or ())


def _last_schedule(cron_job: Json) -> str:
    text = cron_job.get("status", {}).get("lastScheduleTime")
    return age(text) if text else NONE


# Services and endpoints


def _ports(service: Json) -> str:
    texts = []
    for port in service["spec"].get("ports") or ():
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}")
    return ",".join(texts) or NONE


def _external_ip(service: Json) -> str:
    spec = service["spec"]
    if spec["type"] == "ExternalName":
        return str(spec.get("externalName", NONE))
    listed = list(spec.get("externalIPs") or ())
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    listed += [entry.get("ip") or entry.get("hostname") for entry in ingress]
    return ",".join(listed) or ("<pending>" if spec["type"] == "LoadBalancer" else NONE)


def _service_selector(service: Json) -> str:
    selector = service["spec"].get("selector") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or NONE


def _shortened(texts: Sequence[str], shown: int, empty: str) -> str:
    if not texts:
        return empty
    rest = f" + {len(texts) - shown} more..." if len(texts) > shown else ""
    return ",".join(texts[:shown]) + rest


def _slice_ports(obj: Json) -> str:
    return _shortened([str(port.get("port", "*")) for port in obj.get("ports") or ()], 3, "<unset>")


def _slice_addresses(obj: Json) -> str:
    addresses = [text for endpoint in obj.get("endpoints") or () for text in endpoint.get("addresses", ())]
    return _shortened(addresses, 3, "<unset>")


def _endpoints(obj: Json) -> str:
    texts = []
    for subset in obj.get("subsets") or ():
        for address in subset.get("addresses") or ():
            text = f"[{address['ip']}]" if ":" in address["ip"] else address["ip"]
            texts += [f"{text}:{port['port']}" for port in subset.get("ports") or ()] or [text]
    return _shortened(texts, 3, NONE)


# Nodes


def _node_status(node: Json) -> str:
    conditions = {item["type"]: item["status"] for item in node.get("status", {}).get("conditions") or ()}
    ready = {"True": "Ready", "False": "NotReady"}.get(conditions.get("Ready", ""), "NotReady")
    text = ready if "Ready" in conditions else "Unknown"
    return text + (",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else "")


def _node_roles(node: Json) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    return ",".join(sorted(key[len(prefix) :] for key in labels if key.startswith(prefix))) or NONE


def _node_address(type_: str) -> Cell:
    def cell(node: Json) -> str:
        addresses = node.get("status", {}).get("addresses") or ()
        return next((item["address"] for item in addresses if item["type"] == type_), NONE)

    return cell


def _info(name: str, field: str) -> Column:
    return _plain(name, f"status.nodeInfo.{field}", UNKNOWN, wide=True)


# Events and RBAC


def _last_seen(event: Json) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return age(series or event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp"))


def _event_object(event: Json) -> str:
    target = event.get("involvedObject") or {}
    return f"{str(target.get('kind', '')).lower()}/{target.get('name', '')}"


def _role(obj: Json) -> str:
    return f"{obj['roleRef'].get('kind')}/{obj['roleRef'].get('name')}"


def _subjects(kind: str) -> Cell:
    def cell(obj: Json) -> str:
        found = [item for item in obj.get("subjects") or () if item.get("kind") == kind]
        return ", ".join("/".join(filter(None, (i.get("namespace"), i.get("name")))) for i in found)

    return cell


_BINDING = [
    _NAME,
    Column("Role", _role),
    _AGE,
    Column("Users", _subjects("User"), wide=True),
    Column("Groups", _subjects("Group"), wide=True),
    Column("ServiceAccounts", _subjects("ServiceAccount"), wide=True),
]
_SUSPEND = Column("Suspend", lambda obj: str(bool(obj["spec"].get("suspend"))), type_="string")
_CREATED = Column("Created At", _at("metadata.creationTimestamp"))

COLUMNS: dict[str, list[Column]] = {
    "pods": _POD,
    "deployments": [
        _NAME,
        Column("Ready", _of("status.readyReplicas", "spec.replicas")),
        _number("Up-to-date", "status.updatedReplicas"),
        _number("Available", "status.availableReplicas"),
        _AGE,
        *_containers(),
        _selector("spec.selector"),
    ],
    "replicasets": [
        _NAME,
        _number("Desired", "spec.replicas"),
        _number("Current", "status.replicas"),
        _number("Ready", "status.readyReplicas"),
        _AGE,
        *_containers(),
        _selector("spec.selector"),
    ],
    "statefulsets": [_NAME, Column("Ready", _of("status.readyReplicas", "spec.replicas")), _AGE, *_containers()],
    "daemonsets": [
        _NAME,
        _number("Desired", "status.desiredNumberScheduled"),
        _number("Current", "status.currentNumberScheduled"),
        _number("Ready", "status.numberReady"),
        _number("Up-to-date", "status.updatedNumberScheduled"),
        _number("Available", "status.numberAvailable"),
        Column("Node Selector", _node_selector),
        _AGE,
        *_containers(),
        _selector("spec.selector"),
    ],
    "jobs": [
        _NAME,
        Column("Status", job_status),
        Column("Completions", _completions),
        Column("Duration", _job_duration),
        _AGE,
        *_containers(),
        _selector("spec.selector"),
    ],
    "cronjobs": [
        _NAME,
        _plain("Schedule", "spec.schedule"),
        _plain("Timezone", "spec.timeZone"),
        _SUSPEND,
        Column("Active", _active_jobs, type_="integer"),
        Column("Last Schedule", _last_schedule),
        _AGE,
        *_containers("spec.jobTemplate.spec.template.spec"),
    ],
    "services": [
        _NAME,
        _plain("Type", "spec.type"),
        _plain("Cluster-IP", "spec.clusterIP"),
        Column("External-IP", _external_ip),
        Column("Port(s)", _ports),
        _AGE,
        Column("Selector", _service_selector, wide=True),
    ],
    "endpoints": [_NAME, Column("Endpoints", _endpoints), _AGE],
    "endpointslices": [
        _NAME,
        _plain("AddressType", "addressType"),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_addresses),
        _AGE,
    ],
    "nodes": [
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        _AGE,
        _plain("Version", "status.nodeInfo.kubeletVersion", ""),
        Column("Internal-IP", _node_address("InternalIP"), wide=True),
        Column("External-IP", _node_address("ExternalIP"), wide=True),
        _info("OS-Image", "osImage"),
        _info("Kernel-Version", "kernelVersion"),
        _info("Container-Runtime", "containerRuntimeVersion"),
    ],
    "namespaces": [_NAME, _plain("Status", "status.phase"), _AGE],
    "configmaps": [_NAME, Column("Data", _length("data"), type_="integer"), _AGE],
    "secrets": [_NAME, _plain("Type", "type"), Column("Data", _length("data"), type_="integer"), _AGE],
    "serviceaccounts": [_NAME, Column("Secrets", _length("secrets"), type_="integer"), _AGE],
    "networkpolicies": [
        _NAME,
        Column("Pod-Selector", lambda obj: _selector_text(obj["spec"].get("podSelector"))),
        _AGE,
    ],
    "events": [
        Column("Last Seen", _last_seen),
        _plain("Type", "type", ""),
        _plain("Reason", "reason", ""),
        Column("Object", _event_object),
        Column("Source", lambda obj: (obj.get("source") or {}).get("component", ""), wide=True),
        _plain("Message", "message", ""),
        Column("Count", _at("count", 1), type_="integer", wide=True),
        Column("Name", _at("metadata.name"), wide=True),
    ],
    "leases": [_NAME, _plain("Holder", "spec.holderIdentity", ""), _AGE],
    "rolebindings": _BINDING,
    "clusterrolebindings": _BINDING,
    "roles": [_NAME, _CREATED],
    "clusterroles": [_NAME, _CREATED],
}


def table(kind: Kind, objects: Sequence[Json], metadata: Json, *, include: str = "Metadata", headings: bool = True) -> Json:
    """A `meta.k8s.io/v1` Table; `include` is the `includeObject` option: Metadata, Object or None."""
    columns = COLUMNS.get(kind.plural, [_NAME, _AGE])
    rows = []
    for obj in objects:
        row: Json = {"cells": [column.cell(obj) for column in columns]}
        if include != "None":
            row["object"] = obj if include == "Object" else partial(obj)
        rows.append(row)
    definitions = [column.definition() for column in columns] if headings else None
    made = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return made | {"columnDefinitions": definitions, "rows": rows}


def partial(obj: Json) -> Json:
    """An object's `PartialObjectMetadata`."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
