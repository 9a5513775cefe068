"""DaemonSet -> Pods: one on every node that fits."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from flows.demo.controllers.pods import (
    create_pod,
    delete_pod,
    is_active,
    is_deleting,
    is_finished,
    is_ready,
    owned,
    template_hash,
    write_status,
)
from flows.demo.controllers.scheduler import fits, tolerates
from flows.demo.controllers.statefulsets import REVISION_LABEL

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
_TOLERATED = ("not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")


def reconcile_daemon_sets(storage: Storage) -> None:
    """Bring the pods of every DaemonSet in line."""
    nodes = storage.list("nodes")
    for daemon_set in storage.list("daemonsets"):
        eligible = {node["metadata"]["name"] for node in nodes if _eligible(daemon_set, node)}
        if not is_deleting(daemon_set):
            _place(storage, daemon_set, eligible)
            _update(storage, daemon_set, len(eligible))
        _write_status(storage, daemon_set, eligible)


def _tolerations(spec: Json) -> list[Json]:
    own = [{"key": f"node.kubernetes.io/{name}", "operator": "Exists"} for name in _TOLERATED]
    return [*(spec.get("tolerations") or ()), *own]


def _eligible(daemon_set: Json, node: Json) -> bool:
    spec = daemon_set["spec"]["template"]["spec"]
    if spec.get("nodeName") and spec["nodeName"] != node["metadata"]["name"]:
        return False
    return fits(spec, node) and tolerates(_tolerations(spec), node)


def _place(storage: Storage, daemon_set: Json, eligible: set[str]) -> None:
    placed: set[str] = set()
    for pod in owned(storage, "pods", daemon_set):
        node = pod["spec"].get("nodeName", "")
        surplus = node not in eligible or node in placed or is_finished(pod)
        if surplus and not is_deleting(pod):
            delete_pod(storage, daemon_set, pod)
        if is_active(pod) or is_deleting(pod):
            placed.add(node)
    template = copy.deepcopy(daemon_set["spec"]["template"])
    template["metadata"].setdefault("labels", {})[REVISION_LABEL] = _revision(daemon_set)
    template["spec"]["tolerations"] = _tolerations(template["spec"])
    for node in sorted(eligible - placed):
        create_pod(storage, daemon_set, template, node=node)


def _revision(daemon_set: Json) -> str:
    return template_hash(daemon_set["spec"]["template"])


def _is_current(daemon_set: Json, pod: Json) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get(REVISION_LABEL) == _revision(daemon_set))


def _update(storage: Storage, daemon_set: Json, wanted: int) -> None:
    """Replace pods of an old template, at most `maxUnavailable` not serving at a time."""
    strategy = daemon_set["spec"]["updateStrategy"]
    if strategy["type"] != "RollingUpdate":
        return
    limit = str(strategy.get("rollingUpdate", {}).get("maxUnavailable", 1))
    allowed = math.ceil(int(limit[:-1]) * wanted / 100) if limit.endswith("%") else int(limit)
    pods = owned(storage, "pods", daemon_set)
    serving = [pod for pod in pods if is_active(pod) and is_ready(pod)]
    budget = max(1, allowed) - (wanted - len(serving))
    for pod in pods:
        if is_deleting(pod) or _is_current(daemon_set, pod):
            continue
        if not is_ready(pod) or budget > 0:
            budget -= is_ready(pod)
            delete_pod(storage, daemon_set, pod)


def _write_status(storage: Storage, daemon_set: Json, eligible: set[str]) -> None:
    pods = [pod for pod in owned(storage, "pods", daemon_set) if is_active(pod)]
    placed = {pod["spec"].get("nodeName") for pod in pods}
    ready = sum(map(is_ready, pods))
    status = {
        "currentNumberScheduled": len(placed & eligible),
        "numberMisscheduled": len(placed - eligible),
        "desiredNumberScheduled": len(eligible),
        "numberReady": ready,
        "observedGeneration": daemon_set["metadata"]["generation"],
        "updatedNumberScheduled": sum(_is_current(daemon_set, pod) for pod in pods),
        "numberAvailable": ready,
        "numberUnavailable": len(eligible) - ready,
    }
    optional = ("updatedNumberScheduled", "numberAvailable", "numberUnavailable")
    shown = {key: value for key, value in status.items() if value or key not in optional}
    write_status(storage, "daemonsets", daemon_set, shown)
