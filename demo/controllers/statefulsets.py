"""StatefulSet -> Pods with ordinals: `name-0` first, each when those before it are ready; the last goes first."""

from __future__ import annotations

import copy
import re
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

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
REVISION_LABEL = "controller-revision-hash"


def reconcile_stateful_sets(storage: Storage) -> None:
    """Bring the pods of every StatefulSet in line."""
    for stateful_set in storage.list("statefulsets"):
        if not is_deleting(stateful_set):
            _step(storage, stateful_set)
        _write_status(storage, stateful_set)


def revision(stateful_set: Json) -> str:
    """The name of the revision that the present template is."""
    return f"{stateful_set['metadata']['name']}-{template_hash(stateful_set['spec']['template'])}"


def ordinal(pod: Json) -> int:
    """A pod's number; -1 when its name has none."""
    found = re.search(r"-([0-9]{1,9})$", pod["metadata"]["name"])
    return int(found[1]) if found else -1


def _step(storage: Storage, stateful_set: Json) -> None:
    pods = {ordinal(pod): pod for pod in owned(storage, "pods", stateful_set)}
    wanted = stateful_set["spec"]["replicas"]
    start = (stateful_set["spec"].get("ordinals") or {}).get("start", 0)
    ordered = stateful_set["spec"]["podManagementPolicy"] == "OrderedReady"
    for number in range(start, start + wanted):
        pod = pods.get(number)
        if pod is None:
            pod = _create(storage, stateful_set, number)
        elif is_finished(pod) and not is_deleting(pod):
            delete_pod(storage, stateful_set, pod)
        if ordered and (pod is None or not is_active(pod) or not is_ready(pod)):
            return
    surplus = sorted((n for n in pods if not start <= n < start + wanted), reverse=True)
    for number in surplus:
        if not is_deleting(pods[number]):
            delete_pod(storage, stateful_set, pods[number])
        if ordered:
            return
    if not surplus:
        _update(storage, stateful_set, pods)


def _create(storage: Storage, stateful_set: Json, number: int) -> Json | None:
    template = copy.deepcopy(stateful_set["spec"]["template"])
    name = f"{stateful_set['metadata']['name']}-{number}"
    template["metadata"].setdefault("labels", {}).update(
        {
            "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": str(number),
            REVISION_LABEL: revision(stateful_set),
        }
    )
    template["spec"].setdefault("hostname", name)
    if service := stateful_set["spec"].get("serviceName"):
        template["spec"].setdefault("subdomain", service)
    return create_pod(storage, stateful_set, template, name=name)


def _update(storage: Storage, stateful_set: Json, pods: dict[int, Json]) -> None:
    """Replace the highest pod of an old revision, one at a time and only while all others are ready."""
    strategy = stateful_set["spec"]["updateStrategy"]
    if strategy["type"] != "RollingUpdate" or not all(map(is_ready, pods.values())):
        return
    partition = strategy.get("rollingUpdate", {}).get("partition", 0)
    current = revision(stateful_set)
    for number in sorted(pods, reverse=True):
        labels = pods[number]["metadata"].get("labels") or {}
        if number >= partition and labels.get(REVISION_LABEL) != current:
            if not is_deleting(pods[number]):
                delete_pod(storage, stateful_set, pods[number])
            return


def _write_status(storage: Storage, stateful_set: Json) -> None:
    pods = [pod for pod in owned(storage, "pods", stateful_set) if not is_finished(pod)]
    current = revision(stateful_set)
    updated = [p for p in pods if (p["metadata"].get("labels") or {}).get(REVISION_LABEL) == current]
    before = stateful_set.get("status", {}).get("currentRevision") or current
    settled = len(updated) == len(pods) == stateful_set["spec"]["replicas"]
    ready = sum(is_ready(pod) for pod in pods if is_active(pod))
    status: Json = {
        "observedGeneration": stateful_set["metadata"]["generation"],
        "replicas": len(pods),
        "readyReplicas": ready,
        "currentReplicas": len(updated) if settled else len(pods) - len(updated),
        "updatedReplicas": len(updated),
        "currentRevision": current if settled else before,
        "updateRevision": current,
        "collisionCount": 0,
        "availableReplicas": ready,
    }
    kept = ("replicas", "collisionCount", "availableReplicas")
    write_status(storage, "statefulsets", stateful_set, {k: v for k, v in status.items() if v or k in kept})
