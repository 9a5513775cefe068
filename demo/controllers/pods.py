"""What controllers ask of pods and of ownership, and how they make and remove pods."""

from __future__ import annotations

import copy
import json
import logging
from typing import TYPE_CHECKING, Any

from flows.demo.api.admission import SUFFIX_LETTERS
from flows.demo.api.errors import StatusError
from flows.demo.controllers.events import record_event

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
log = logging.getLogger(__name__)


def owner_reference(owner: Json) -> Json:
    """The reference by which an object belongs to its controller."""
    metadata = owner["metadata"]
    named = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"]}
    return named | {"uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}


def controller_uid(obj: Json) -> str:
    """The uid of an object's controller; empty when it has none."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


def owned(storage: Storage, resource: str, owner: Json) -> list[Json]:
    """Objects of a resource whose controller is `owner`."""
    metadata = owner["metadata"]
    listed = storage.list(resource, metadata.get("namespace"))
    return [obj for obj in listed if controller_uid(obj) == metadata["uid"]]


def is_deleting(obj: Json) -> bool:
    """Whether an object waits for its deletion."""
    return "deletionTimestamp" in obj["metadata"]


def phase(pod: Json) -> str:
    """A pod's phase."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def is_finished(pod: Json) -> bool:
    """Whether a pod ended and will not run again."""
    return phase(pod) in {"Succeeded", "Failed"}


def is_active(pod: Json) -> bool:
    """Whether a pod counts as a replica."""
    return not is_finished(pod) and not is_deleting(pod)


def has_condition(obj: Json, type_: str, status: str = "True") -> bool:
    """Whether an object's condition has a status."""
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(item["type"] == type_ and item["status"] == status for item in conditions)


def is_ready(pod: Json) -> bool:
    """Whether a pod's Ready condition holds."""
    return has_condition(pod, "Ready")


def fnv32a(data: bytes) -> int:
    """The 32-bit FNV-1a hash, with which Kubernetes tells templates apart."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def template_hash(template: Json) -> str:
    """The `pod-template-hash` of a template, in letters that make no words."""
    digits = str(fnv32a(json.dumps(template, sort_keys=True).encode()))
    return "".join(SUFFIX_LETTERS[ord(digit) % len(SUFFIX_LETTERS)] for digit in digits)


def create_pod(storage: Storage, owner: Json, template: Json, *, name: str = "", node: str = "") -> Json | None:
    """Make a pod of a template for its owner; None when the API refuses it (an event says why)."""
    metadata = copy.deepcopy(template.get("metadata") or {})
    parent = owner["metadata"]
    metadata |= {"name": name} if name else {"generateName": f"{parent['name']}-"}
    metadata |= {"namespace": parent["namespace"], "ownerReferences": [owner_reference(owner)]}
    spec = copy.deepcopy(template["spec"]) | ({"nodeName": node} if node else {})
    component = f"{owner['kind'].lower()}-controller"
    try:
        pod = storage.create("pods", {"metadata": metadata, "spec": spec})
    except StatusError as error:
        log.debug("pod of %s %s: %s", owner["kind"], parent["name"], error)
        if error.reason != "Forbidden":
            record_event(storage, owner, "FailedCreate", f"Error creating: {error}", component, type_="Warning")
        return None
    record_event(storage, owner, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", component)
    return pod


def delete_pod(storage: Storage, owner: Json, pod: Json) -> None:
    """Ask for a pod's deletion on behalf of its owner."""
    metadata = pod["metadata"]
    storage.request_deletion("pods", metadata["namespace"], metadata["name"])
    component = f"{owner['kind'].lower()}-controller"
    record_event(storage, owner, "SuccessfulDelete", f"Deleted pod: {metadata['name']}", component)


def deletion_rank(pod: Json) -> tuple[bool, bool, bool, str]:
    """Sort key: the pods to remove first are those that serve least (no node, pending, not ready), then the newest."""
    scheduled = bool(pod["spec"].get("nodeName"))
    created = str(pod["metadata"]["creationTimestamp"])
    inverted = "".join(chr(0x10FFFF - ord(letter)) for letter in created)
    return scheduled, phase(pod) == "Running", is_ready(pod), inverted


def write_status(storage: Storage, resource: str, obj: Json, status: Json) -> None:
    """Write an object's status if it changed and the object is still there."""
    metadata = obj["metadata"]
    current = storage.get(resource, metadata.get("namespace"), metadata["name"])
    if current is not None and current["metadata"]["uid"] == metadata["uid"]:
        fresh = {**current["metadata"]}
        storage.update_status(resource, {"metadata": fresh, "status": status})


def set_condition(conditions: list[Json], condition: Json, now: str) -> list[Json]:
    """Conditions with one of them set; its transition time moves only when its status changes."""
    fresh = []
    found = False
    for old in conditions:
        if old["type"] != condition["type"]:
            fresh.append(old)
            continue
        found = True
        since = old.get("lastTransitionTime", now) if old["status"] == condition["status"] else now
        unchanged = all(old.get(key) == value for key, value in condition.items())
        fresh.append(old if unchanged else {**old, **condition, "lastTransitionTime": since})
    if not found:
        fresh.append({**condition, "lastTransitionTime": now})
    return fresh
