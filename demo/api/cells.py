"""What fills the columns of `kubectl get`: from an object to the text or number of one cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from flows.demo.api.clock import parse_time
from flows.demo.api.durations import age, human_duration

Json = dict[str, Any]
Cell = Callable[[Json], Any]
NONE = "<none>"


def at(path: str, empty: Any = NONE) -> Cell:
    """The value at a path; `empty` where there is none."""
    parts = path.split(".")

    def cell(obj: Json) -> Any:
        value: Any = obj
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else None
        return empty if value is None or value == "" else value

    return cell


def count(path: str) -> Cell:
    """The number at a path; 0 where there is none."""
    return at(path, 0)


def length(field: str) -> Cell:
    """How many entries a field has."""
    return lambda obj: len(obj.get(field) or ())


def selector_text(selector: Json | None) -> str:
    """A LabelSelector as `a=b,c in (d)`."""
    labels = (selector or {}).get("matchLabels") or {}
    terms = [f"{key}={value}" for key, value in sorted(labels.items())]
    for entry in (selector or {}).get("matchExpressions") or ():
        values = ",".join(entry.get("values") or ())
        terms.append(f"{entry['key']} {entry.get('operator', '').lower()} ({values})")
    return ",".join(terms) or NONE


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


def pod_ready(pod: Json) -> str:
    """READY: ready containers of all."""
    ready = sum(bool(container.get("ready")) for container in _statuses(pod))
    return f"{ready}/{len(pod.get('spec', {}).get('containers') or ())}"


def restarts(pod: Json) -> str:
    """RESTARTS: how often, and when last."""
    statuses = _statuses(pod)
    count = sum(container.get("restartCount", 0) for container in statuses)
    ends = [(item.get("lastState") or {}).get("terminated", {}).get("finishedAt") for item in statuses]
    latest = max((text for text in ends if text), default=None)
    return f"{count} ({age(latest)} ago)" if count and latest else str(count)


def gates(pod: Json) -> str:
    """READINESS GATES: none of them is ever met here."""
    gates = pod.get("spec", {}).get("readinessGates") or ()
    return f"0/{len(gates)}" if gates else NONE


# Workloads


def of(ready: str, wanted: str) -> Cell:
    """`2/3` of two numbers."""
    return lambda obj: f"{count(ready)(obj)}/{count(wanted)(obj)}"


def node_selector(obj: Json) -> str:
    """NODE SELECTOR of a workload."""
    labels = at("spec.template.spec.nodeSelector", {})(obj)
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or NONE


def job_status(job: Json) -> str:
    """`Complete`, `Failed`, `Suspended`, `Terminating` or `Running`."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["status"] == "True" and condition["type"] in {"Complete", "Failed", "Suspended"}:
            return str(condition["type"])
    return "Terminating" if job["metadata"].get("deletionTimestamp") else "Running"


def job_duration(job: Json) -> str:
    """DURATION: from start to end, or to now."""
    start = parse_time(job.get("status", {}).get("startTime"))
    if start is None:
        return ""
    end = parse_time(job["status"].get("completionTime")) or datetime.now(UTC)
    return human_duration((end - start).total_seconds())


def completions(job: Json) -> str:
    """COMPLETIONS of a Job."""
    done = count("status.succeeded")(job)
    wanted = job["spec"].get("completions")
    return f"{done}/{wanted}" if wanted is not None else f"{done}/1 of {job['spec'].get('parallelism', 1)}"


def active_jobs(cron_job: Json) -> int:
    """ACTIVE: Jobs of a CronJob that run."""
    return len(cron_job.get("status", {}).get("active") or ())


def last_schedule(cron_job: Json) -> str:
    """LAST SCHEDULE of a CronJob."""
    text = cron_job.get("status", {}).get("lastScheduleTime")
    return age(text) if text else NONE


# Services and endpoints


def ports(service: Json) -> str:
    """PORT(S): port, node port and protocol of each."""
    texts = []
    for port in service["spec"].get("ports") or ():
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}")
    return ",".join(texts) or NONE


def external_ip(service: Json) -> str:
    """EXTERNAL-IP: what is reached from outside."""
    spec = service["spec"]
    if spec["type"] == "ExternalName":
        return str(spec.get("externalName", NONE))
    listed = list(spec.get("externalIPs") or ())
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    listed += [entry.get("ip") or entry.get("hostname") for entry in ingress]
    return ",".join(listed) or ("<pending>" if spec["type"] == "LoadBalancer" else NONE)


def service_selector(service: Json) -> str:
    """SELECTOR of a Service."""
    selector = service["spec"].get("selector") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or NONE


def _shortened(texts: Sequence[str], shown: int, empty: str) -> str:
    if not texts:
        return empty
    rest = f" + {len(texts) - shown} more..." if len(texts) > shown else ""
    return ",".join(texts[:shown]) + rest


def slice_ports(obj: Json) -> str:
    """PORTS of a slice, the first three."""
    return _shortened([str(port.get("port", "*")) for port in obj.get("ports") or ()], 3, "<unset>")


def slice_addresses(obj: Json) -> str:
    """ENDPOINTS of a slice, the first three."""
    addresses = [text for endpoint in obj.get("endpoints") or () for text in endpoint.get("addresses", ())]
    return _shortened(addresses, 3, "<unset>")


def endpoints(obj: Json) -> str:
    """ENDPOINTS: address and port, the first three."""
    texts = []
    for subset in obj.get("subsets") or ():
        for address in subset.get("addresses") or ():
            text = f"[{address['ip']}]" if ":" in address["ip"] else address["ip"]
            texts += [f"{text}:{port['port']}" for port in subset.get("ports") or ()] or [text]
    return _shortened(texts, 3, NONE)


# Nodes


def node_status(node: Json) -> str:
    """STATUS of a node: ready, and whether pods may go there."""
    conditions = {item["type"]: item["status"] for item in node.get("status", {}).get("conditions") or ()}
    ready = {"True": "Ready", "False": "NotReady"}.get(conditions.get("Ready", ""), "NotReady")
    text = ready if "Ready" in conditions else "Unknown"
    return text + (",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else "")


def node_roles(node: Json) -> str:
    """ROLES, from the labels that name them."""
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    return ",".join(sorted(key[len(prefix) :] for key in labels if key.startswith(prefix))) or NONE


def node_address(type_: str) -> Cell:
    """The first address of a type."""

    def cell(node: Json) -> str:
        addresses = node.get("status", {}).get("addresses") or ()
        return next((item["address"] for item in addresses if item["type"] == type_), NONE)

    return cell


# Events and RBAC


def last_seen(event: Json) -> str:
    """LAST SEEN: age of the latest time an event has."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return age(series or event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp"))


def event_object(event: Json) -> str:
    """OBJECT: `pod/name`."""
    target = event.get("involvedObject") or {}
    return f"{str(target.get('kind', '')).lower()}/{target.get('name', '')}"


def role(obj: Json) -> str:
    """ROLE: what a binding gives."""
    return f"{obj['roleRef'].get('kind')}/{obj['roleRef'].get('name')}"


def subjects(kind: str) -> Cell:
    """Subjects of a kind that a binding names."""

    def cell(obj: Json) -> str:
        found = [item for item in obj.get("subjects") or () if item.get("kind") == kind]
        return ", ".join("/".join(filter(None, (i.get("namespace"), i.get("name")))) for i in found)

    return cell
