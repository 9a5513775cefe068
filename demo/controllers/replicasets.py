"""ReplicaSet -> Pods: as many pods as asked for, strays adopted, those that no longer match let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.demo.api.selectors import object_selector
from flows.demo.controllers.pods import (
    controller_uid,
    create_pod,
    delete_pod,
    deletion_rank,
    is_active,
    is_deleting,
    is_ready,
    owner_reference,
    write_status,
)

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
BURST = 500
"""Pods made or removed in one round, as in the real controller."""


def reconcile_replica_sets(storage: Storage) -> None:
    """Bring the pods of every ReplicaSet in line."""
    for replica_set in storage.list("replicasets"):
        _reconcile(storage, replica_set)


def _reconcile(storage: Storage, replica_set: Json) -> None:
    pods = _claim(storage, replica_set)
    active = [pod for pod in pods if is_active(pod)]
    wanted = replica_set["spec"]["replicas"]
    if not is_deleting(replica_set):
        for _ in range(min(wanted - len(active), BURST)):
            if create_pod(storage, replica_set, replica_set["spec"]["template"]) is None:
                break
        surplus = max(0, len(active) - wanted)
        for pod in sorted(active, key=deletion_rank)[: min(surplus, BURST)]:
            delete_pod(storage, replica_set, pod)
    _write_status(storage, replica_set)


def _claim(storage: Storage, replica_set: Json) -> list[Json]:
    """Pods of the set after adopting and releasing by the selector."""
    metadata = replica_set["metadata"]
    selects = object_selector(replica_set["spec"]["selector"])
    mine = []
    for pod in storage.list("pods", metadata["namespace"]):
        matches = selects(pod["metadata"].get("labels") or {})
        owner = controller_uid(pod)
        if owner == metadata["uid"] and not matches and not is_deleting(pod):
            _set_owners(storage, pod, [r for r in _owners(pod) if r["uid"] != owner])
        elif owner == metadata["uid"]:
            mine.append(pod)
        elif not owner and matches and is_active(pod) and not is_deleting(replica_set):
            mine.append(_set_owners(storage, pod, [*_owners(pod), owner_reference(replica_set)]))
    return mine


def _owners(pod: Json) -> list[Json]:
    return list(pod["metadata"].get("ownerReferences") or ())


def _set_owners(storage: Storage, pod: Json, owners: list[Json]) -> Json:
    return storage.update("pods", {**pod, "metadata": {**pod["metadata"], "ownerReferences": owners}})


def _write_status(storage: Storage, replica_set: Json) -> None:
    metadata = replica_set["metadata"]
    mine = [p for p in storage.list("pods", metadata["namespace"]) if controller_uid(p) == metadata["uid"]]
    active = [pod for pod in mine if is_active(pod)]
    template = (replica_set["spec"]["template"]["metadata"].get("labels") or {}).items()
    ready = sum(map(is_ready, active))
    status = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(template <= (p["metadata"].get("labels") or {}).items() for p in active),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "terminatingReplicas": sum(map(is_deleting, mine)),
        "observedGeneration": metadata["generation"],
    }
    needed = ("replicas", "terminatingReplicas", "observedGeneration")
    shown = {key: value for key, value in status.items() if value or key in needed}
    write_status(storage, "replicasets", replica_set, shown)
