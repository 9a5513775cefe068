"""Which node a pod goes to: a ready one that fits, with the fewest pods of the same owner, then of any."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from flows.demo.api.clock import now_text
from flows.demo.api.selectors import object_selector
from flows.demo.controllers.events import record_event
from flows.demo.controllers.pods import (
    controller_uid,
    has_condition,
    is_active,
    is_deleting,
    is_finished,
    set_condition,
    write_status,
)

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
_COMPONENT = "default-scheduler"


def schedule_pods(storage: Storage) -> None:
    """Give every pod that has none a node; say why when there is none."""
    waiting = [pod for pod in storage.list("pods") if not pod["spec"].get("nodeName") and is_active(pod)]
    if not waiting:
        return
    nodes = storage.list("nodes")
    for pod in waiting:
        if pod["spec"].get("schedulerName") == _COMPONENT:
            _schedule(storage, pod, nodes)


def _schedule(storage: Storage, pod: Json, nodes: list[Json]) -> None:
    placed = [p for p in storage.list("pods") if p["spec"].get("nodeName") and not is_finished(p)]
    reasons: Counter[str] = Counter()
    candidates = []
    for node in nodes:
        if why := unsuitable(pod, node, placed):
            reasons[why] += 1
        else:
            candidates.append(node)
    if not candidates:
        _unschedulable(storage, pod, len(nodes), reasons)
        return
    chosen = min(candidates, key=lambda node: _load(node, pod, placed))["metadata"]["name"]
    _bind(storage, pod, chosen)


def _load(node: Json, pod: Json, placed: list[Json]) -> tuple[int, int, str]:
    name, owner = node["metadata"]["name"], controller_uid(pod)
    here = [p for p in placed if p["spec"]["nodeName"] == name]
    return sum(bool(owner) and controller_uid(p) == owner for p in here), len(here), name


def unsuitable(pod: Json, node: Json, placed: list[Json]) -> str:
    """Why a pod cannot go to a node; empty when it can."""
    spec = pod["spec"]
    if node.get("spec", {}).get("unschedulable"):
        return "node(s) were unschedulable"
    if is_deleting(node) or not has_condition(node, "Ready"):
        return "node(s) were not ready"
    if not tolerates(spec.get("tolerations") or [], node):
        return "node(s) had untolerated taint(s)"
    if not fits(spec, node):
        return "node(s) didn't match Pod's node affinity/selector"
    wanted = _host_ports(spec)
    here = [p for p in placed if p["spec"]["nodeName"] == node["metadata"]["name"]]
    if wanted and any(wanted & _host_ports(p["spec"]) for p in here):
        return "node(s) didn't have free ports for the requested pod ports"
    return ""


def _host_ports(spec: Json) -> set[tuple[int, str]]:
    ports = [port for container in spec["containers"] for port in container.get("ports") or ()]
    return {(port["hostPort"], port.get("protocol", "TCP")) for port in ports if port.get("hostPort")}


def fits(spec: Json, node: Json) -> bool:
    """Whether a node matches a pod's nodeSelector and required node affinity."""
    labels = node["metadata"].get("labels") or {}
    if (spec.get("nodeSelector") or {}).items() - labels.items():
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if affinity is None:
        return True
    return any(_term_matches(term, node, labels) for term in affinity.get("nodeSelectorTerms") or ())


def _term_matches(term: Json, node: Json, labels: Json) -> bool:
    fields = {"metadata.name": node["metadata"]["name"]}
    if not term.get("matchExpressions") and not term.get("matchFields"):
        return False
    by_labels = object_selector({"matchExpressions": term.get("matchExpressions") or []})
    by_fields = object_selector({"matchExpressions": term.get("matchFields") or []})
    return by_labels(labels) and by_fields(fields)


def tolerates(tolerations: list[Json], node: Json) -> bool:
    """Whether each NoSchedule or NoExecute taint of a node is tolerated."""
    taints = node.get("spec", {}).get("taints") or ()
    hard = [taint for taint in taints if taint.get("effect") in {"NoSchedule", "NoExecute"}]
    return all(any(_tolerated(toleration, taint) for toleration in tolerations) for taint in hard)


def _tolerated(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in {None, "", taint["effect"]}:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in {None, "", taint["key"]}
    return (toleration.get("key"), toleration.get("value", "")) == (taint["key"], taint.get("value", ""))


def _bind(storage: Storage, pod: Json, node: str) -> None:
    bound = storage.update("pods", {**pod, "spec": {**pod["spec"], "nodeName": node}})
    _write_condition(storage, bound, {"type": "PodScheduled", "status": "True", "reason": None, "message": None})
    metadata = pod["metadata"]
    text = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}"
    record_event(storage, bound, "Scheduled", text, _COMPONENT)


def _unschedulable(storage: Storage, pod: Json, total: int, reasons: Counter[str]) -> None:
    listed = ", ".join(f"{count} {why}" for why, count in sorted(reasons.items()))
    text = f"0/{total} nodes are available: {listed}." if total else "no nodes available to schedule pods"
    if has_condition(pod, "PodScheduled", "False"):
        told = next(item for item in pod["status"]["conditions"] if item["type"] == "PodScheduled")
        if told.get("message") == text:
            return
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}
    _write_condition(storage, pod, condition)
    record_event(storage, pod, "FailedScheduling", text, _COMPONENT, type_="Warning")


def _write_condition(storage: Storage, pod: Json, condition: Json) -> None:
    old = list(pod.get("status", {}).get("conditions") or ())
    conditions = set_condition(old, {"lastProbeTime": None, **condition}, now_text())
    cleaned = [{k: v for k, v in c.items() if v is not None or k == "lastProbeTime"} for c in conditions]
    write_status(storage, "pods", pod, {**pod.get("status", {}), "conditions": cleaned})
