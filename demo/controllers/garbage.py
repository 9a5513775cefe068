"""Garbage collection: what lost its owners goes; foreground and orphan deletions are carried out."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from flows.demo.api.kinds import KINDS
from flows.demo.controllers.pods import is_deleting

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
Placed = tuple[str, Json]
"""(resource, object)."""
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


def collect_garbage(storage: Storage) -> None:
    """Delete dependents without owners, and finish deletions that wait for their dependents."""
    alive: set[str] = set()
    dependents: dict[str, list[Placed]] = defaultdict(list)
    waiting: list[Placed] = []
    for kind in KINDS:
        for obj in storage.list(kind.plural):
            metadata = obj["metadata"]
            alive.add(metadata["uid"])
            for reference in metadata.get("ownerReferences") or ():
                dependents[reference["uid"]].append((kind.plural, obj))
            if is_deleting(obj) and {FOREGROUND, ORPHAN} & set(metadata.get("finalizers") or ()):
                waiting.append((kind.plural, obj))
    for resource, obj in waiting:
        _finish(storage, resource, obj, dependents[obj["metadata"]["uid"]])
    for uid in dependents.keys() - alive:
        for resource, obj in dependents[uid]:
            _drop(storage, resource, obj, alive)


def _finish(storage: Storage, resource: str, obj: Json, dependents: list[Placed]) -> None:
    finalizers = obj["metadata"]["finalizers"]
    uid = obj["metadata"]["uid"]
    if ORPHAN in finalizers:
        for kind, dependent in dependents:
            _disown(storage, kind, dependent, uid)
        _unblock(storage, resource, obj, ORPHAN)
        return
    for kind, dependent in dependents:
        if not is_deleting(dependent):
            _delete(storage, kind, dependent, {"propagationPolicy": "Foreground"})
    if not any(storage.get(kind, *_place(dependent)) for kind, dependent in dependents):
        _unblock(storage, resource, obj, FOREGROUND)


def _place(obj: Json) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _unblock(storage: Storage, resource: str, obj: Json, finalizer: str) -> None:
    left = [name for name in obj["metadata"]["finalizers"] if name != finalizer]
    storage.update(resource, {**obj, "metadata": {**obj["metadata"], "finalizers": left}})


def _disown(storage: Storage, resource: str, obj: Json, uid: str) -> None:
    current = storage.get(resource, *_place(obj))
    if current is not None:
        owners = [item for item in current["metadata"].get("ownerReferences") or () if item["uid"] != uid]
        storage.update(resource, {**current, "metadata": {**current["metadata"], "ownerReferences": owners}})


def _drop(storage: Storage, resource: str, obj: Json, alive: set[str]) -> None:
    """Delete an object all of whose owners are gone; with an owner left, only the dead references go."""
    owners = obj["metadata"]["ownerReferences"]
    if any(reference["uid"] in alive for reference in owners):
        for reference in owners:
            if reference["uid"] not in alive:
                _disown(storage, resource, obj, reference["uid"])
    elif not is_deleting(obj):
        _delete(storage, resource, obj, {})


def _delete(storage: Storage, resource: str, obj: Json, options: Json) -> None:
    current = storage.get(resource, *_place(obj))
    if current is not None and current["metadata"]["uid"] == obj["metadata"]["uid"]:
        storage.request_deletion(resource, *_place(obj), options)
