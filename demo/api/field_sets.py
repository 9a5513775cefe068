"""Sets of fields in the `FieldsV1` form: `f:name` for a field, `k:{...}` for a list item by its keys, `v:...` for a
member of a set, `.` for the thing itself; nested dicts, as they are stored.
"""

from __future__ import annotations

import json
from typing import Any

from flows.demo.api.merge_keys import ListMerge, list_merge
from flows.demo.api.schema import field_type, item_type

Json = dict[str, Any]
ATOMIC = {"LabelSelector", "ObjectReference", "LocalObjectReference"}
ATOMIC_MAPS = {("ServiceSpec", "selector"), ("PodSpec", "nodeSelector")}
_PLAIN_STRUCTS = {
    *("spec", "status", "metadata", "template", "jobTemplate", "strategy", "updateStrategy", "resources"),
    *("daemonEndpoints", "kubeletEndpoint", "nodeInfo", "loadBalancer", "source", "involvedObject", "clientIP"),
}
"""Fields whose struct is always there in Go; all others are pointers, and are listed (`.`) when they are set."""
_UNTRACKED = {
    *("managedFields", "uid", "resourceVersion", "creationTimestamp", "generation", "name", "namespace"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"),
}


def fields_of(type_name: str, obj: Json, *, top: bool = True) -> Json:
    """The set of fields an object of a type holds."""
    fields: Json = {}
    for name, value in obj.items():
        if top and name in {"apiVersion", "kind"}:
            continue
        if type_name == "ObjectMeta" and name in _UNTRACKED:
            continue
        found = _value_fields(type_name, name, value)
        if not (top and name == "metadata" and not found):
            fields[f"f:{name}"] = found
    return fields


def _value_fields(type_name: str, name: str, value: Any) -> Json:
    text = field_type(type_name, name)
    if isinstance(value, dict) and text.startswith("{}"):
        if (type_name, name) in ATOMIC_MAPS:
            return {}
        return {".": {}, **{f"f:{key}": {} for key in value}} if value else {}
    if isinstance(value, dict) and text not in ATOMIC:
        fields = fields_of(text, value, top=False)
        return fields if name in _PLAIN_STRUCTS or not fields else {".": {}, **fields}
    merge = list_merge(type_name, name)
    if isinstance(value, list) and merge is not None:
        items = {item_key(merge, item): _item_fields(merge, text, item) for item in value}
        return {".": {}, **items} if type_name != "PodSpec" else items
    return {}


def _item_fields(merge: ListMerge, text: str, item: Any) -> Json:
    return {".": {}, **fields_of(item_type(text), item, top=False)} if merge.keys else {}


def item_key(merge: ListMerge, item: Any) -> str:
    """The path element of a list item: `k:{"name":"c"}` or `v:"x"`."""
    if not merge.keys:
        return "v:" + json.dumps(item, separators=(",", ":"))
    defaults = {"protocol": "TCP"}
    keys = {key: item.get(key, defaults.get(key)) for key in sorted(merge.keys)}
    return "k:" + json.dumps(keys, separators=(",", ":"))


def union(left: Json, right: Json) -> Json:
    """Fields in either set."""
    merged = dict(left)
    for key, value in right.items():
        merged[key] = union(merged[key], value) if key in merged else value
    return merged


def difference(left: Json, right: Json) -> Json:
    """Leaves of `left` that are not in `right`."""
    rest: Json = {}
    for key, value in left.items():
        if key not in right:
            rest[key] = value
        elif value and (inner := difference(value, right[key])):
            rest[key] = inner
    return rest


def leaves(fields: Json, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all leaves of a set."""
    found: list[tuple[str, ...]] = []
    for key, value in fields.items():
        inner = {name: sub for name, sub in value.items() if name != "."}
        if inner:
            found += leaves(inner, (*path, key))
        elif key != ".":
            found.append((*path, key))
    return found


def changed_fields(type_name: str, old: Json, new: Json) -> Json:
    """Fields of `new` that `old` has not, or has with another value."""
    fields = fields_of(type_name, new)
    before = fields_of(type_name, old)
    same = [
        path for path in leaves(fields) if has(before, path) and value_at(type_name, new, path) == value_at(type_name, old, path)
    ]
    for path in same:
        prune(fields, path)
    return fields


def has(fields: Json, path: tuple[str, ...]) -> bool:
    """Whether a path, or something inside it, is in a set."""
    for key in path:
        if key not in fields:
            return False
        fields = fields[key]
    return True


def has_leaf(fields: Json, path: tuple[str, ...]) -> bool:
    """Whether a set holds a path itself, not only what is inside it."""
    for key in path:
        if key not in fields:
            return False
        fields = fields[key]
    return not fields.keys() - {"."}


def prune(fields: Json, path: tuple[str, ...]) -> None:
    """Take a path out of a set, in place, with all that becomes empty."""
    key, *rest = path
    if rest and key in fields:
        prune(fields[key], tuple(rest))
        if not fields[key].keys() - {"."}:
            del fields[key]
    else:
        fields.pop(key, None)


def value_at(type_name: str, obj: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of a set; None when there is none."""
    for position, key in enumerate(path):
        if key.startswith("f:") and isinstance(obj, dict):
            name = key[2:]
            text = field_type(type_name, name)
            if position + 1 < len(path) and not path[position + 1].startswith("f:"):
                merge = list_merge(type_name, name)
                obj = {item_key(merge, item): item for item in obj.get(name) or ()} if merge else None
                type_name = item_type(text)
            else:
                obj = obj.get(name)
                type_name = "" if text.startswith("{}") else text
        elif isinstance(obj, dict):
            obj = obj.get(key)
        else:
            return None
    return obj
