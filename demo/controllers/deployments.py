"""Deployment -> ReplicaSets: one for each template, and replicas moved between them as the strategy allows."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from flows.demo.api.clock import now_text
from flows.demo.controllers.events import record_event
from flows.demo.controllers.pods import (
    has_condition,
    is_active,
    is_deleting,
    owned,
    owner_reference,
    set_condition,
    template_hash,
    write_status,
)

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_COMPONENT = "deployment-controller"


def reconcile_deployments(storage: Storage) -> None:
    """Bring the ReplicaSets of every Deployment in line."""
    for deployment in storage.list("deployments"):
        if not is_deleting(deployment):
            _roll_out(storage, deployment)
        _write_status(storage, deployment)


def _roll_out(storage: Storage, deployment: Json) -> None:
    paused = bool(deployment["spec"].get("paused"))
    sets = owned(storage, "replicasets", deployment)
    newest = _with_template(deployment, sets)
    if newest is None and not paused:
        newest = _create(storage, deployment, sets)
    others = [item for item in sets if newest is None or item["metadata"]["uid"] != newest["metadata"]["uid"]]
    if newest is None:
        return
    if paused:
        _scale_paused(storage, deployment, newest, others)
        return
    _revise(storage, deployment, newest, others)
    if deployment["spec"]["strategy"]["type"] == "Recreate":
        _recreate(storage, deployment, newest, others)
    else:
        _roll(storage, deployment, newest, others)
    _forget(storage, deployment, others)


def _with_template(deployment: Json, sets: list[Json]) -> Json | None:
    wanted = deployment["spec"]["template"]
    matching = [item for item in sets if _bare(item["spec"]["template"]) == _bare(wanted)]
    return min(matching, key=lambda item: str(item["metadata"]["creationTimestamp"]), default=None)


def _bare(template: Json) -> Json:
    labels = {k: v for k, v in (template["metadata"].get("labels") or {}).items() if k != HASH_LABEL}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


def _create(storage: Storage, deployment: Json, sets: list[Json]) -> Json:
    spec, metadata = deployment["spec"], deployment["metadata"]
    template = copy.deepcopy(spec["template"])
    digest = template_hash(spec["template"])
    template["metadata"].setdefault("labels", {})[HASH_LABEL] = digest
    selector = copy.deepcopy(spec["selector"])
    selector.setdefault("matchLabels", {})[HASH_LABEL] = digest
    first = not sets or spec["strategy"]["type"] == "Recreate"
    total = sum(item["spec"]["replicas"] for item in sets)
    room = spec["replicas"] + surge_and_unavailable(deployment)[0] - total
    replicas = (0 if total and first else spec["replicas"]) if first else max(0, min(spec["replicas"], room))
    made = storage.create(
        "replicasets",
        {
            "metadata": {
                "name": f"{metadata['name']}-{digest}",
                "namespace": metadata["namespace"],
                "labels": template["metadata"]["labels"],
                "annotations": {REVISION: str(_latest(sets) + 1), **_replica_notes(deployment)},
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {"replicas": replicas, "selector": selector, "template": template},
        },
    )
    if replicas:
        _say_scaled(storage, deployment, made, 0, replicas)
    return made


def _replica_notes(deployment: Json) -> Json:
    replicas = deployment["spec"]["replicas"]
    surge = surge_and_unavailable(deployment)[0]
    prefix = "deployment.kubernetes.io"
    return {f"{prefix}/desired-replicas": str(replicas), f"{prefix}/max-replicas": str(replicas + surge)}


def _revision(item: Json) -> int:
    text = (item["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def _latest(sets: list[Json]) -> int:
    return max(map(_revision, sets), default=0)


def _revise(storage: Storage, deployment: Json, newest: Json, others: list[Json]) -> None:
    """Number the newest ReplicaSet above all others (a rollback makes an old one newest), the Deployment alike."""
    number = _revision(newest)
    if number <= _latest(others):
        number = _latest(others) + 1
        _annotate(storage, "replicasets", newest, str(number))
    _annotate(storage, "deployments", deployment, str(number))


def _annotate(storage: Storage, resource: str, obj: Json, revision: str) -> None:
    current = storage.get(resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
    if current is not None and (current["metadata"].get("annotations") or {}).get(REVISION) != revision:
        annotations = {**(current["metadata"].get("annotations") or {}), REVISION: revision}
        storage.update(resource, {**current, "metadata": {**current["metadata"], "annotations": annotations}})


def surge_and_unavailable(deployment: Json) -> tuple[int, int]:
    """(pods above, pods below the wanted number) that a rolling update may have: percent up, and percent down."""
    replicas = deployment["spec"]["replicas"]
    rolling = deployment["spec"]["strategy"].get("rollingUpdate")
    if rolling is None:
        return 0, replicas
    surge = _resolve(rolling.get("maxSurge", 0), replicas, math.ceil)
    unavailable = _resolve(rolling.get("maxUnavailable", 0), replicas, math.floor)
    return surge, unavailable or (0 if surge else 1)


def _resolve(value: object, replicas: int, rounding: Any) -> int:
    text = str(value)
    if text.endswith("%") and text[:-1].isdecimal():
        return int(rounding(int(text[:-1]) * replicas / 100))
    return max(0, int(text)) if text.isdecimal() else 0


def _roll(storage: Storage, deployment: Json, newest: Json, others: list[Json]) -> None:
    wanted = deployment["spec"]["replicas"]
    surge, unavailable = surge_and_unavailable(deployment)
    total = sum(item["spec"]["replicas"] for item in [newest, *others])
    current = newest["spec"]["replicas"]
    if current > wanted:
        newest = _scale(storage, deployment, newest, wanted)
    elif current < wanted and total < wanted + surge:
        newest = _scale(storage, deployment, newest, current + min(wanted - current, wanted + surge - total))
    _scale_down_old(storage, deployment, newest, others, wanted - unavailable)


def _available(item: Json) -> int:
    return int(item.get("status", {}).get("availableReplicas", 0))


def _scale_down_old(storage: Storage, deployment: Json, newest: Json, others: list[Json], needed: int) -> None:
    """Take pods that do not serve from old ReplicaSets first, then as many that do as `needed` allows."""
    old = [item for item in others if item["spec"]["replicas"]]
    total = newest["spec"]["replicas"] + sum(item["spec"]["replicas"] for item in old)
    missing = newest["spec"]["replicas"] - min(_available(newest), newest["spec"]["replicas"])
    budget = total - needed - missing
    for item in sorted(old, key=lambda entry: str(entry["metadata"]["creationTimestamp"])):
        replicas = item["spec"]["replicas"]
        idle = replicas - min(_available(item), replicas)
        spare = max(0, min(replicas, budget))
        if spare and idle:
            spare = min(spare, idle)
        if spare:
            _scale(storage, deployment, item, replicas - spare)
            budget -= spare


def _recreate(storage: Storage, deployment: Json, newest: Json, others: list[Json]) -> None:
    for item in others:
        if item["spec"]["replicas"]:
            _scale(storage, deployment, item, 0)
    old_pods = [pod for item in others for pod in owned(storage, "pods", item)]
    if not any(is_active(pod) or is_deleting(pod) for pod in old_pods):
        _scale(storage, deployment, newest, deployment["spec"]["replicas"])


def _scale_paused(storage: Storage, deployment: Json, newest: Json, others: list[Json]) -> None:
    if not any(item["spec"]["replicas"] for item in others):
        _scale(storage, deployment, newest, deployment["spec"]["replicas"])


def _scale(storage: Storage, deployment: Json, item: Json, replicas: int) -> Json:
    current = storage.get("replicasets", item["metadata"]["namespace"], item["metadata"]["name"])
    if current is None or current["spec"]["replicas"] == replicas:
        return current or item
    before = current["spec"]["replicas"]
    stored = storage.update("replicasets", {**current, "spec": {**current["spec"], "replicas": replicas}})
    _say_scaled(storage, deployment, item, before, replicas)
    return stored


def _say_scaled(storage: Storage, deployment: Json, item: Json, before: int, after: int) -> None:
    way = "up" if after > before else "down"
    text = f"Scaled {way} replica set {item['metadata']['name']} from {before} to {after}"
    record_event(storage, deployment, "ScalingReplicaSet", text, _COMPONENT)


def _forget(storage: Storage, deployment: Json, others: list[Json]) -> None:
    """Delete the oldest empty ReplicaSets beyond the history limit."""
    empty = [item for item in others if not item["spec"]["replicas"] and not item["status"].get("replicas")]
    surplus = len(empty) - deployment["spec"]["revisionHistoryLimit"]
    for item in sorted(empty, key=_revision)[: max(0, surplus)]:
        storage.request_deletion("replicasets", item["metadata"]["namespace"], item["metadata"]["name"])


def _write_status(storage: Storage, deployment: Json) -> None:
    metadata = deployment["metadata"]
    current = storage.get("deployments", metadata["namespace"], metadata["name"])
    if current is None:
        return
    sets = owned(storage, "replicasets", current)
    newest = _with_template(current, sets)

    def total(field: str, items: list[Json]) -> int:
        return sum(int(item.get("status", {}).get(field, 0)) for item in items)

    wanted = current["spec"]["replicas"]
    counts = {
        "replicas": total("replicas", sets),
        "updatedReplicas": total("replicas", [newest] if newest else []),
        "readyReplicas": total("readyReplicas", sets),
        "availableReplicas": total("availableReplicas", sets),
        "terminatingReplicas": total("terminatingReplicas", sets),
    }
    counts["unavailableReplicas"] = max(0, max(counts["replicas"], wanted) - counts["availableReplicas"])
    status: Json = {"observedGeneration": current["metadata"]["generation"]}
    status |= {key: value for key, value in counts.items() if value or key == "terminatingReplicas"}
    status["conditions"] = _conditions(current, counts, newest)
    write_status(storage, "deployments", current, status)


def _conditions(deployment: Json, counts: dict[str, int], newest: Json | None) -> list[Json]:
    now, name = now_text(), newest["metadata"]["name"] if newest else ""
    wanted = deployment["spec"]["replicas"]
    enough = counts["availableReplicas"] >= wanted - surge_and_unavailable(deployment)[1]
    available = {
        "type": "Available",
        "status": "True" if enough else "False",
        "reason": "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        "message": f"Deployment {'has' if enough else 'does not have'} minimum availability.",
    }
    done = counts["updatedReplicas"] == counts["availableReplicas"] == counts["replicas"] == wanted
    progressing = {
        "type": "Progressing",
        "status": "True",
        "reason": "NewReplicaSetAvailable" if done else "ReplicaSetUpdated",
        "message": f'ReplicaSet "{name}" ' + ("has successfully progressed." if done else "is progressing."),
    }
    old = list(deployment.get("status", {}).get("conditions") or ())
    for condition in (available, progressing):
        if not _holds(deployment, condition):
            old = set_condition(old, {**condition, "lastUpdateTime": now}, now)
    return old


def _holds(deployment: Json, condition: Json) -> bool:
    if not has_condition(deployment, condition["type"], condition["status"]):
        return False
    held = next(i for i in deployment["status"]["conditions"] if i["type"] == condition["type"])
    return all(held.get(key) == value for key, value in condition.items())
