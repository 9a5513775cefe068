"""What happens to an object on its way into the store: names, defaults, rules, generation, deletion marks."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.demo.api import errors, validation
from flows.demo.api.defaults import apply_defaults
from flows.demo.api.kinds import Kind, kind_of
from flows.demo.api.services import assign_addresses, assign_node_ports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.demo.api.addresses import ServiceAddresses
    from flows.demo.api.history import Key

Json = dict[str, Any]
SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of generated names: no vowels, so no words (`apimachinery/pkg/util/rand`)."""
MAX_GENERATED_PREFIX = 58
_SERVER_FIELDS = ("uid", "resourceVersion", "creationTimestamp", "generation", "selfLink")
_DELETION_FIELDS = ("deletionTimestamp", "deletionGracePeriodSeconds")
PERMANENT_NAMESPACES = ("default", "kube-public", "kube-system")
_METADATA = (
    *("name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers"),
    "managedFields",
)
_ORPHAN, _FOREGROUND = "orphan", "foregroundDeletion"
_PROPAGATION = {"Orphan": _ORPHAN, "Foreground": _FOREGROUND}


def random_suffix(length: int = 5) -> str:
    """Letters that end a generated name."""
    return "".join(secrets.choice(SUFFIX_LETTERS) for _ in range(length))


def new_metadata(kind: Kind, given: Json) -> Json:
    """Metadata of a new object: a name from `generateName`, a namespace where there must be one."""
    metadata = {key: value for key, value in given.items() if key not in (*_SERVER_FIELDS, *_DELETION_FIELDS)}
    if not metadata.get("name"):
        prefix = metadata.get("generateName", "")
        metadata["name"] = prefix[:MAX_GENERATED_PREFIX] + random_suffix() if prefix else ""
    if kind.namespaced:
        metadata["namespace"] = metadata.get("namespace") or "default"
    else:
        metadata.pop("namespace", None)
    return metadata


def ordered_metadata(metadata: Json) -> Json:
    """Metadata with its fields in the order of the Go type, as people are used to read them."""
    return {name: metadata[name] for name in _METADATA if name in metadata}


def admit_namespace(kind: Kind, obj: Json, namespaces: Mapping[Key, Json]) -> None:
    """Refuse what would live in a namespace that does not exist (404) or is going away (403)."""
    if not kind.namespaced:
        return
    name = obj["metadata"]["namespace"]
    namespace = namespaces.get(("", name))
    if namespace is None:
        raise errors.not_found(kind_of("namespaces"), name)
    if "deletionTimestamp" in namespace["metadata"]:
        why = f"unable to create new content in namespace {name} because it is being terminated"
        raise errors.forbidden(kind, obj["metadata"]["name"], why)


def admit_create(kind: Kind, obj: Json, addresses: ServiceAddresses) -> None:
    """Fill in and check a new object in place. Raises 422."""
    apply_defaults(kind.plural, obj)
    causes = validation.check_create(kind, obj)
    if not causes and kind.plural == "services":
        causes = assign_addresses(obj, addresses, None) or assign_node_ports(obj, addresses, None)
    if causes:
        raise errors.invalid(kind, obj["metadata"]["name"], causes)


def admit_update(kind: Kind, fresh: Json, old: Json, addresses: ServiceAddresses) -> Json:
    """The object to store for an update: the server's own fields kept, filled in and checked. Raises 422."""
    merged: Json = {"kind": old["kind"], "apiVersion": old["apiVersion"]}
    merged |= {key: value for key, value in fresh.items() if key not in merged}
    merged["metadata"] = _kept_metadata(fresh["metadata"], old["metadata"])
    if kind.has_status:
        merged["status"] = old.get("status", {})
    apply_defaults(kind.plural, merged)
    causes: list[errors.Cause] = []
    if kind.plural == "services":
        causes = assign_addresses(merged, addresses, old) or assign_node_ports(merged, addresses, old)
    causes = validation.check_update(kind, merged, old) or causes
    if causes:
        raise errors.invalid(kind, old["metadata"]["name"], causes)
    if kind.generation and _desired(merged) != _desired(old):
        merged["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return merged


def _kept_metadata(fresh: Json, old: Json) -> Json:
    metadata = {key: value for key, value in fresh.items() if key not in (*_SERVER_FIELDS, *_DELETION_FIELDS)}
    kept = (*_SERVER_FIELDS, *_DELETION_FIELDS, "generateName")
    if "managedFields" in old:
        metadata.setdefault("managedFields", old["managedFields"])
    return metadata | {key: old[key] for key in kept if key in old}


def _desired(obj: Json) -> Json:
    return {key: value for key, value in obj.items() if key not in {"metadata", "status"}}


def mark_deleted(kind: Kind, obj: Json, options: Json) -> Json | None:
    """The object with its deletion mark, or None when it may go at once. Raises 409 for a failed precondition."""
    metadata = obj["metadata"]
    if kind.plural == "namespaces" and metadata["name"] in PERMANENT_NAMESPACES:
        raise errors.forbidden(kind, metadata["name"], "this namespace may not be deleted")
    _check_preconditions(kind, metadata, options.get("preconditions") or {})
    finalizer = _PROPAGATION.get(options.get("propagationPolicy") or "")
    if finalizer and "deletionTimestamp" not in metadata:
        metadata["finalizers"] = [*metadata.get("finalizers", ()), finalizer]
    grace = _grace(kind, obj, options.get("gracePeriodSeconds"))
    if not grace and not metadata.get("finalizers") and kind.plural != "namespaces":
        return None
    _stamp(kind, obj, grace)
    return obj


def _check_preconditions(kind: Kind, metadata: Json, wanted: Json) -> None:
    for field, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(field) and wanted[field] != metadata[field]:
            why = f"Precondition failed: {label} in precondition: {wanted[field]}, {label} in object meta: {metadata[field]}"
            raise errors.conflict(kind, metadata["name"], why)


def _grace(kind: Kind, obj: Json, asked: int | None) -> int:
    """Seconds a kubelet gets to stop a pod; 0 for other kinds, and for pods that no kubelet runs."""
    if kind.plural != "pods" or not obj["spec"].get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
        return 0
    return max(0, obj["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)


def _stamp(kind: Kind, obj: Json, grace: int) -> None:
    metadata = obj["metadata"]
    shorter = grace < metadata.get("deletionGracePeriodSeconds", grace + 1)
    if "deletionTimestamp" not in metadata or (kind.plural == "pods" and shorter):
        end = datetime.now(UTC) + timedelta(seconds=grace)
        metadata["deletionTimestamp"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata["deletionGracePeriodSeconds"] = grace
        if kind.generation:
            metadata["generation"] = metadata.get("generation", 0) + 1
    if kind.plural == "namespaces":
        metadata.pop("deletionGracePeriodSeconds", None)
        obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}


def deletion_done(kind: Kind, fresh: Json, old: Json) -> bool:
    """Whether an update took the last finalizer off an object that waits for its deletion."""
    if "deletionTimestamp" not in fresh["metadata"] or not old["metadata"].get("finalizers"):
        return False
    if fresh["metadata"].get("finalizers") or kind.plural == "namespaces":
        return False
    return kind.plural != "pods" or not fresh["metadata"].get("deletionGracePeriodSeconds")
