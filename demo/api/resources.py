"""Requests on resources: list, get, create, update, patch and delete, from decoded input to the answer's object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.demo.api import errors, managed_fields, patches, schema
from flows.demo.api.paging import Continue, key_text, list_options
from flows.demo.api.selectors import parse_fields, parse_labels
from flows.demo.api.targets import Target, is_true

if TYPE_CHECKING:
    from flows.demo.api.history import Key
    from flows.demo.api.kinds import Kind
    from flows.demo.api.storage import Storage, Track

Json = dict[str, Any]
Query = Mapping[str, str]
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
JSON_PATCH, APPLY = "application/json-patch+json", "application/apply-patch+yaml"
PATCH_TYPES = (JSON_PATCH, MERGE, STRATEGIC, APPLY)
_RETURNED = {"pods", "services", "serviceaccounts"}
"""Kinds whose deletion answers with the object instead of a Status."""


@dataclass(frozen=True, slots=True)
class Write:
    """What the options of a write say."""

    manager: str
    dry_run: bool
    strict: bool
    force: bool


def write_options(query: Query, user_agent: str) -> Write:
    """Check the options of a write. Raises StatusError 400 or 422."""
    if query.get("dryRun", "All") not in {"All", ""}:
        text = f'Invalid value: ["{query["dryRun"]}"]: Unsupported value: supported values: "All"'
        raise errors.StatusError(422, "Invalid", f'CreateOptions.meta.k8s.io "" is invalid: dryRun: {text}', {})
    validation = query.get("fieldValidation", "")
    if validation not in {"", "Ignore", "Warn", "Strict"}:
        message = f'fieldValidation parameter must be unset or one of "Ignore", "Warn", "Strict": got "{validation}"'
        raise errors.bad_request(message)
    manager = query.get("fieldManager") or user_agent.partition("/")[0] or "unknown"
    return Write(manager[:128], "dryRun" in query, validation == "Strict", is_true(query.get("force")))


def selection(query: Query, target: Target) -> Callable[[Json], bool]:
    """A predicate over objects from `labelSelector`, `fieldSelector` and, for a watch of one object, its name."""
    requirements = parse_labels(query.get("labelSelector", ""))
    fields = parse_fields(query.get("fieldSelector", ""), target.kind)

    def selects(obj: Json) -> bool:
        labels = obj["metadata"].get("labels") or {}
        named = not target.name or obj["metadata"]["name"] == target.name
        return named and all(item.matches(labels) for item in requirements) and fields(obj)

    return selects


# Reading


def list_page(storage: Storage, target: Target, query: Query) -> tuple[list[Json], Json]:
    """(objects, list metadata) of one page."""
    options = list_options(query, storage.version, storage.history.compacted)
    selects = selection(query, target)
    prefix = f"{target.namespace}/" if target.namespace else ""
    items = [
        (key, obj)
        for key, obj in storage.items(target.kind.plural, options.version)
        if (not target.namespace or key[0] == target.namespace) and key_text(key) >= prefix + options.start
    ]
    # Keys sort by text, as in etcd: "a-b/x" before "a/x".
    items.sort(key=lambda item: key_text(item[0]))
    version = min(options.version or storage.version, storage.version)
    found, rest = _page(items, selects, options.limit)
    metadata: Json = {"resourceVersion": str(version)}
    if rest:
        start = key_text(found[-1][0])[len(prefix) :] + "\0"
        metadata["continue"] = Continue(version, start).encode()
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = rest
    return [obj for _, obj in found], metadata


def _page(items: list[tuple[Key, Json]], selects: Callable[[Json], bool], limit: int) -> tuple[list[tuple[Key, Json]], int]:
    found = [(key, obj) for key, obj in items if selects(obj)]
    if not limit or len(found) <= limit:
        return found, 0
    return found[:limit], len(found) - limit


def list_object(kind: Kind, objects: list[Json], metadata: Json) -> Json:
    """A `PodList` and its like; items do not repeat their kind."""
    items = [{key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}} for obj in objects]
    head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version}
    return head | {"metadata": metadata, "items": items}


def existing(storage: Storage, target: Target) -> Json:
    """The object a URL names. Raises StatusError 404."""
    found = storage.get(target.kind.plural, target.namespace, target.name)
    if found is None:
        raise errors.not_found(target.kind, target.name)
    return found


# Writing


def checked(target: Target, obj: Any, *, strict: bool, complete: bool = True) -> tuple[Json, list[str]]:
    """Decode an object for a target: (object, unknown fields). Raises StatusError 400."""
    kind = target.kind
    if not isinstance(obj, dict):
        raise errors.bad_request("couldn't get version/kind; json parse error: json: cannot unmarshal value")
    given = obj.get("apiVersion") or kind.api_version
    if given != kind.api_version:
        message = f"the API version in the data ({given}) does not match the expected API version ({kind.api_version})"
        raise errors.bad_request(message)
    if (obj.get("kind") or kind.kind) != kind.kind:
        raise errors.bad_request(f"{obj['kind']} in version {kind.version!r} cannot be handled as a {kind.kind}")
    decoded = schema.decode(kind.kind, kind.version, obj, complete=complete)
    if decoded.unknown and strict:
        raise schema.strict_error(kind.kind, kind.version, decoded.unknown)
    made: Json = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {}} | decoded.object
    _check_place(target, made["metadata"])
    return made, decoded.unknown


def _check_place(target: Target, metadata: Json) -> None:
    if target.kind.namespaced and metadata.setdefault("namespace", target.namespace) != target.namespace:
        message = "the namespace of the provided object does not match the namespace sent on the request"
        raise errors.bad_request(message)
    if target.name and metadata.setdefault("name", target.name) != target.name:
        message = f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
        raise errors.bad_request(message)


def _tracker(kind: Kind, write: Write, subresource: str = "") -> Track:
    def track(fresh: Json, old: Json | None) -> None:
        managed_fields.record_update(kind.kind, old, fresh, write.manager, subresource)

    return track


def create(storage: Storage, target: Target, obj: Json, write: Write) -> Json:
    """POST."""
    if obj["metadata"].get("resourceVersion"):
        raise errors.bad_request("resourceVersion should not be set on objects to be created")
    obj["metadata"].pop("managedFields", None)
    track = _tracker(target.kind, write)
    return storage.create(target.kind.plural, obj, dry_run=write.dry_run, track=track)


def replace(storage: Storage, target: Target, obj: Json, write: Write) -> Json:
    """PUT of an object, its status or its scale."""
    plural = target.kind.plural
    if target.subresource == "scale":
        return _rescale(storage, target, obj, write)
    existing(storage, target)
    track = _tracker(target.kind, write, target.subresource)
    store = storage.update_status if target.subresource == "status" else storage.update
    return store(plural, obj, dry_run=write.dry_run, track=track)


def patch(storage: Storage, target: Target, body: Any, media_type: str, write: Write) -> tuple[Json, bool, list[str]]:
    """PATCH: (object, created, unknown fields)."""
    if media_type == APPLY:
        return _apply(storage, target, body, write)
    old = existing(storage, target)
    if target.subresource == "scale":
        merged = _patched("Scale", scale_of(old), body, media_type)
        scale = schema.decode("Scale", "v1", merged).object
        return _rescale(storage, target, scale, write), False, []
    merged = _patched(target.kind.kind, old, body, media_type)
    obj, unknown = checked(target, merged, strict=write.strict)
    return replace(storage, target, obj, write), False, unknown


def _patched(type_name: str, old: Json, body: Any, media_type: str) -> Any:
    if media_type == JSON_PATCH:
        return patches.json_patch(old, body)
    if not isinstance(body, dict):
        raise errors.bad_request("error decoding patch: json: cannot unmarshal value into Go value of type map")
    if media_type == MERGE:
        return patches.merge_patch(old, body)
    return patches.strategic_patch(type_name, old, body)


def _apply(storage: Storage, target: Target, body: Any, write: Write) -> tuple[Json, bool, list[str]]:
    applied, unknown = checked(target, body, strict=write.strict, complete=False)
    if applied["metadata"].pop("managedFields", None):
        raise errors.bad_request("metadata.managedFields must be nil")
    live = storage.get(target.kind.plural, target.namespace, target.name)
    name = target.kind.kind
    merged = managed_fields.apply_patch(name, live, applied, write.manager, force=write.force)
    merged, _ = checked(target, merged, strict=False)
    if live is None:
        return storage.create(target.kind.plural, merged, dry_run=write.dry_run), True, unknown
    store = storage.update_status if target.subresource == "status" else storage.update
    return store(target.kind.plural, merged, dry_run=write.dry_run), False, unknown


# Scale


def scale_of(obj: Json) -> Json:
    """The `autoscaling/v1` Scale of a workload."""
    metadata = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = (obj["spec"].get("selector") or {}).get("matchLabels") or {}
    status = {"replicas": obj.get("status", {}).get("replicas", 0)}
    text = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": obj["spec"].get("replicas", 0)},
        "status": status | ({"selector": text} if text else {}),
    }


def _rescale(storage: Storage, target: Target, scale: Json, write: Write) -> Json:
    old = existing(storage, target)
    metadata = {**old["metadata"]}
    if version := (scale.get("metadata") or {}).get("resourceVersion"):
        metadata["resourceVersion"] = version
    spec = {**old["spec"], "replicas": (scale.get("spec") or {}).get("replicas", 0)}
    changed = {**old, "metadata": metadata, "spec": spec}
    track = _tracker(target.kind, write)
    stored = storage.update(target.kind.plural, changed, dry_run=write.dry_run, track=track)
    return scale_of(stored)


# Deleting


def delete_options(body: Any, query: Query) -> Json:
    """`DeleteOptions` from the body and the query. Raises StatusError 400 or 422."""
    options: Json = {}
    if isinstance(body, dict):
        options = schema.decode("DeleteOptions", "v1", body).object
    if "propagationPolicy" in query:
        options["propagationPolicy"] = query["propagationPolicy"]
    if "gracePeriodSeconds" in query:
        text = query["gracePeriodSeconds"]
        if not text.lstrip("-").isdecimal() or len(text) > 10 or not text.isascii():
            raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        options["gracePeriodSeconds"] = int(text)
    policy = options.get("propagationPolicy", "")
    if options.get("orphanDependents") and not policy:
        options["propagationPolicy"] = "Orphan"
    if policy not in {"", "Orphan", "Background", "Foreground"}:
        text = f'Unsupported value: "{policy}": supported values: "Foreground", "Background", "Orphan", "nil"'
        message = f'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: {text}'
        raise errors.StatusError(422, "Invalid", message, {})
    return options


def delete(storage: Storage, target: Target, options: Json, *, dry_run: bool) -> Json:
    """DELETE of one object: a Status when it is gone, the object when it still has to go."""
    old = existing(storage, target)
    if dry_run or options.get("dryRun"):
        return old
    obj, gone = storage.request_deletion(target.kind.plural, target.namespace, target.name, options)
    if not gone or target.kind.plural in _RETURNED:
        return obj
    details = {"name": target.name} | ({"group": target.kind.group} if target.kind.group else {})
    details |= {"kind": target.kind.plural, "uid": obj["metadata"]["uid"]}
    head: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
    return head | {"status": "Success", "details": details}


def delete_all(storage: Storage, target: Target, query: Query, options: Json, *, dry_run: bool) -> Json:
    """DELETE of a collection: the list of what was asked to go."""
    objects, metadata = list_page(storage, target, query)
    if not dry_run:
        for obj in objects:
            place = obj["metadata"]
            storage.request_deletion(target.kind.plural, place.get("namespace"), place["name"], options)
    return list_object(target.kind, objects, metadata)
