"""Merge patch (RFC 7396), JSON patch (RFC 6902) and Kubernetes' strategic merge patch, as pure functions."""

from __future__ import annotations

import copy
from typing import Any

from flows.demo.api.errors import StatusError, bad_request
from flows.demo.api.merge_keys import RETAIN_KEYS, ListMerge, list_merge
from flows.demo.api.schema import field_type, item_type

Json = dict[str, Any]
_ORDER, _DELETE_SCALARS = "$setElementOrder/", "$deleteFromPrimitiveList/"
MAX_OPERATIONS = 10_000
"""As the real server limits JSON patches."""


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: maps merge, null removes, all else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


# JSON patch


def json_patch(target: Json, operations: Any) -> Any:
    """RFC 6902. Raises StatusError: 400 for a malformed patch, 422 for one that does not apply."""
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(operations) > MAX_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise StatusError(413, "RequestEntityTooLarge", text)
    document: Json = {"": copy.deepcopy(target)}
    for operation in operations:
        _operate(document, operation)
    return document.get("")


def _operate(document: Json, operation: Any) -> None:
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
        raise bad_request("error decoding patch: each operation needs an op and a path")
    name, path = operation.get("op"), operation["path"]
    if name in ("add", "replace", "test") and "value" not in operation:
        raise _unprocessable(f"{name} operation of {path!r} has no value")
    value = operation.get("value")
    if name in ("move", "copy"):
        source = operation.get("from")
        if not isinstance(source, str):
            raise _unprocessable(f"{name} operation of {path!r} has no from")
        value = copy.deepcopy(_read(document, source))
        if name == "move":
            _write(document, source, "remove", None)
        _write(document, path, "add", value)
    elif name == "test":
        if _read(document, path) != value:
            raise _unprocessable(f"testing value {path} failed")
    elif name in ("add", "remove", "replace"):
        _write(document, path, name, copy.deepcopy(value))
    else:
        raise _unprocessable(f"Unexpected kind: {name}")


def _unprocessable(text: str) -> StatusError:
    message = f"the server rejected our request due to an error in our request: {text}"
    return StatusError(422, "Invalid", message, {})


def _steps(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise _unprocessable(f"path {path!r} does not start with '/'")
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")]


def _index(items: list[Any], step: str, *, end: bool) -> int:
    if end and step == "-":
        return len(items)
    if not (step.isascii() and step.isdigit()) or int(step[:9]) > len(items) - (not end):
        raise _unprocessable(f"no element {step!r} in a list of {len(items)}")
    return int(step[:9])


def _child(parent: Any, step: str, path: str) -> Any:
    if isinstance(parent, dict) and step in parent:
        return parent[step]
    if isinstance(parent, list):
        return parent[_index(parent, step, end=False)]
    raise _unprocessable(f"doc is missing path: {path!r}: missing value")


def _read(document: Json, path: str) -> Any:
    value: Any = document
    for step in _steps(path):
        value = _child(value, step, path)
    return value


def _write(document: Json, path: str, name: str, value: Any) -> None:
    *parents, last = _steps(path)
    parent: Any = document
    for step in parents:
        parent = _child(parent, step, path)
    if isinstance(parent, list):
        position = _index(parent, last, end=name == "add")
        if name == "add":
            parent.insert(position, value)
        elif name == "remove":
            parent.pop(position)
        else:
            parent[position] = value
        return
    if not isinstance(parent, dict) or (name != "add" and last not in parent):
        raise _unprocessable(f"doc is missing key: {path}: missing value")
    if name == "remove":
        del parent[last]
    else:
        parent[last] = value


# Strategic merge patch


def strategic_patch(type_name: str, target: Any, patch: Any) -> Any:
    """Merge as kubectl's patches mean it: lists of the merge-key table item by item, `$patch` and kin obeyed."""
    if not isinstance(patch, dict):
        raise bad_request("json: cannot unmarshal value into Go value of type map[string]interface {}")
    directive = patch.get("$patch")
    if directive == "delete":
        return {}
    if directive not in (None, "replace", "merge"):
        raise bad_request(f"unknown patch type found: {directive}")
    original = dict(target) if isinstance(target, dict) and directive != "replace" else {}
    if isinstance(keep := patch.get("$retainKeys"), list) and _may_retain(type_name):
        original = {key: value for key, value in original.items() if key in keep}
    for key, value in patch.items():
        if not key.startswith("$"):
            _strategic_field(type_name, original, key, value, patch)
        elif key.startswith((_ORDER, _DELETE_SCALARS)):
            _strategic_directive(type_name, original, key, value, patch)
    return original


def _may_retain(type_name: str) -> bool:
    named = {field_type(owner, name) for owner, name in RETAIN_KEYS}
    return type_name in named or type_name in {"Volume", "PodResourceClaim"}


def _strategic_field(type_name: str, original: Json, key: str, value: Any, patch: Json) -> None:
    text = field_type(type_name, key)
    if value is None:
        original.pop(key, None)
    elif isinstance(value, dict):
        original[key] = strategic_patch(text, original.get(key), value)
        if value.get("$patch") == "delete":
            original.pop(key)
    elif isinstance(value, list) and (merge := list_merge(type_name, key)) is not None:
        order = patch.get(f"{_ORDER}{key}")
        merged = _merge_list(item_type(text), merge, original.get(key) or [], value)
        original[key] = _ordered(merged, merge, order if isinstance(order, list) else None)
    else:
        original[key] = copy.deepcopy(value)


def _strategic_directive(type_name: str, original: Json, key: str, value: Any, patch: Json) -> None:
    """`$deleteFromPrimitiveList/x` and `$setElementOrder/x` when the patch itself has no `x`."""
    prefix, _, field = key.partition("/")
    merge, items = list_merge(type_name, field), original.get(field)
    if merge is None or not isinstance(items, list) or not isinstance(value, list):
        return
    if prefix + "/" == _DELETE_SCALARS:
        original[field] = [item for item in items if item not in value]
    elif field not in patch:
        original[field] = _ordered(items, merge, value)


def _merge_list(type_name: str, merge: ListMerge, original: list[Any], patch: list[Any]) -> list[Any]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    merged = list(original)
    for item in patch:
        if not merge.patch_key:
            merged += [] if item in merged else [item]
        else:
            _merge_item(type_name, merge.patch_key, merged, item)
    return merged


def _merge_item(type_name: str, key: str, merged: list[Any], item: Any) -> None:
    if not isinstance(item, dict) or key not in item:
        shown = item if not isinstance(item, dict) else sorted(item)
        raise bad_request(f"map: {shown} does not contain declared merge key: {key}")
    position = _position(merged, key, item[key])
    if item.get("$patch") == "delete":
        merged[:] = [old for old in merged if not isinstance(old, dict) or old.get(key) != item[key]]
    elif position is None:
        merged.append(strategic_patch(type_name, {}, item))
    else:
        merged[position] = strategic_patch(type_name, merged[position], item)


def _position(items: list[Any], key: str, value: Any) -> int | None:
    for position, item in enumerate(items):
        if isinstance(item, dict) and item.get(key) == value:
            return position
    return None


def _ordered(items: list[Any], merge: ListMerge, order: list[Any] | None) -> list[Any]:
    """Items in the order the patch names them; those it does not name keep their place after the one before them."""
    if order is None:
        return items
    key = merge.patch_key

    def rank(item: Any) -> int | None:
        wanted = item.get(key) if key and isinstance(item, dict) else item
        names = [entry.get(key) if key and isinstance(entry, dict) else entry for entry in order]
        return names.index(wanted) if wanted in names else None

    ranks = [rank(item) for item in items]
    last = -1
    places = []
    for position, found in enumerate(ranks):
        last = last if found is None else found
        places.append((last, position))
    return [items[position] for _, position in sorted(places)]
