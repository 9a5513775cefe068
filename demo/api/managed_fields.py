"""Who set which field (`managedFields`), and server-side apply that is built on it."""

from __future__ import annotations

import copy
import json
from typing import Any

from flows.demo.api.clock import now_text
from flows.demo.api.errors import StatusError
from flows.demo.api.field_sets import (
    ATOMIC,
    ATOMIC_MAPS,
    changed_fields,
    difference,
    fields_of,
    has,
    has_leaf,
    item_key,
    leaves,
    prune,
    union,
    value_at,
)
from flows.demo.api.merge_keys import ListMerge, list_merge
from flows.demo.api.schema import field_type, item_type

Json = dict[str, Any]


# Entries


def entry(manager: str, operation: str, api_version: str, fields: Json, subresource: str = "") -> Json:
    """One `managedFields` entry."""
    made: Json = {"manager": manager, "operation": operation, "apiVersion": api_version, "time": now_text()}
    made |= {"fieldsType": "FieldsV1", "fieldsV1": fields}
    return made | ({"subresource": subresource} if subresource else {})


def _entries(obj: Json) -> list[Json]:
    """A copy of the entries of an object; those that no server wrote are left out."""
    listed = obj.get("metadata", {}).get("managedFields") or []
    return [copy.deepcopy(item) for item in listed if _well_formed(item.get("fieldsV1"))]


def _well_formed(fields: Any) -> bool:
    if not isinstance(fields, dict):
        return False
    return all(_is_step(key) and _well_formed(value) for key, value in fields.items())


def _is_step(key: str) -> bool:
    if key == "." or key.startswith("f:"):
        return True
    try:
        parsed = json.loads(key[2:])
    except (ValueError, RecursionError):
        return False
    return key.startswith("v:") or (key.startswith("k:") and isinstance(parsed, dict))


def _is(item: Json, manager: str, operation: str, subresource: str) -> bool:
    wanted = (manager, operation, subresource)
    return (item.get("manager"), item.get("operation"), item.get("subresource", "")) == wanted


def record_update(type_name: str, old: Json | None, new: Json, manager: str, subresource: str = "") -> None:
    """Note in `new` which fields an ordinary write set, and take fields that are gone from all managers."""
    entries = _entries(new)
    changed = changed_fields(type_name, old or {}, new)
    if subresource:
        changed = {key: value for key, value in changed.items() if key == f"f:{subresource}"}
    else:
        changed.pop("f:status", None)
    mine = next((item for item in entries if _is(item, manager, "Update", subresource)), None)
    for item in entries:
        if item is not mine:
            for path in leaves(changed):
                prune(item["fieldsV1"], path)
    if changed and mine is None:
        entries.append(entry(manager, "Update", new["apiVersion"], changed, subresource))
    elif changed and mine is not None:
        mine |= {"fieldsV1": union(mine["fieldsV1"], changed), "time": now_text()}
    present = fields_of(type_name, new)
    for item in entries:
        for path in leaves(difference(item["fieldsV1"], present)):
            prune(item["fieldsV1"], path)
    new["metadata"]["managedFields"] = [item for item in entries if item["fieldsV1"]]


# Server-side apply


def apply_patch(type_name: str, live: Json | None, applied: Json, manager: str, *, force: bool) -> Json:
    """Merge an applied configuration into the live object. Raises StatusError 409 when others own what it changes."""
    entries = _entries(live or {})
    fields = fields_of(type_name, applied)
    others = [item for item in entries if not _is(item, manager, "Apply", "")]
    if live is not None:
        _resolve_conflicts(type_name, live, applied, fields, others, force=force)
    previous: Json = next((item["fieldsV1"] for item in entries if _is(item, manager, "Apply", "")), {})
    merged = _merge(type_name, live or {}, applied)
    merged["metadata"] = dict(merged["metadata"])
    for path in _abandoned(previous, fields, [item["fieldsV1"] for item in others]):
        _remove(type_name, merged, path)
    kept = [item for item in others if item["fieldsV1"]]
    merged["metadata"]["managedFields"] = [*kept, entry(manager, "Apply", applied["apiVersion"], fields)]
    return merged


def _abandoned(previous: Json, fields: Json, others: list[Json], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths applied before and not now, as a whole where nobody else has a part in them."""
    found: list[tuple[str, ...]] = []
    for key, value in previous.items():
        step = (*path, key)
        shared = [other for other in others if has(other, step)]
        if key in fields:
            found += _abandoned(value, fields[key], others, step)
        elif key != "." and not shared and (not value or "." in value):
            found.append(step)
        elif value:
            found += _abandoned(value, {}, others, step)
    return found


def _resolve_conflicts(type_name: str, live: Json, applied: Json, fields: Json, others: list[Json], *, force: bool) -> None:
    conflicts: list[tuple[Json, tuple[str, ...]]] = []
    for path in leaves(fields):
        if value_at(type_name, live, path) == value_at(type_name, applied, path):
            continue
        conflicts += [(item, path) for item in others if has_leaf(item["fieldsV1"], path)]
    if conflicts and not force:
        raise _conflict_error(conflicts)
    for item, path in conflicts:
        prune(item["fieldsV1"], path)


def _conflict_error(conflicts: list[tuple[Json, tuple[str, ...]]]) -> StatusError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{item["manager"]}" using {item["apiVersion"]}',
            "field": path_text(path),
        }
        for item, path in conflicts
    ]
    listed = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    plural = "conflict" if len(causes) == 1 else "conflicts"
    message = f"Apply failed with {len(causes)} {plural}: {listed}"
    return StatusError(409, "Conflict", message, {"causes": causes})


def path_text(path: tuple[str, ...]) -> str:
    """`.spec.containers[name="c"].image`, as conflicts are reported."""
    text = ""
    for step in path:
        if step.startswith("k:"):
            keys = json.loads(step[2:])
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in keys.items()) + "]"
        elif step.startswith("v:"):
            text += f"[={step[2:]}]"
        else:
            text += "." + step[2:]
    return text


def _merge(type_name: str, live: Any, applied: Any) -> Json:
    merged = dict(live)
    for name, value in applied.items():
        text, merge = field_type(type_name, name), list_merge(type_name, name)
        whole = text in ATOMIC or (type_name, name) in ATOMIC_MAPS
        if isinstance(value, dict) and isinstance(merged.get(name), dict) and not whole:
            merged[name] = _merge(text, merged[name], value)
        elif isinstance(value, list) and merge is not None:
            merged[name] = _merge_items(item_type(text), merge, merged.get(name) or [], value)
        else:
            merged[name] = copy.deepcopy(value)
    return merged


def _merge_items(type_name: str, merge: ListMerge, live: list[Any], applied: list[Any]) -> list[Any]:
    items = {item_key(merge, item): item for item in live}
    for item in applied:
        key = item_key(merge, item)
        items[key] = _merge(type_name, items[key], item) if merge.keys and key in items else copy.deepcopy(item)
    return list(items.values())


def _remove(type_name: str, obj: Any, path: tuple[str, ...]) -> None:
    """Take the value at a path out of an object; containers on the way are copied, as they may be shared."""
    name, *rest = path[0][2:], *path[1:]
    if not isinstance(obj, dict) or name not in obj:
        return
    if not rest:
        del obj[name]
        return
    text, value = field_type(type_name, name), copy.copy(obj[name])
    obj[name] = value
    if isinstance(value, list):
        _remove_item(list_merge(type_name, name), item_type(text), value, rest)
    else:
        _remove("" if text.startswith("{}") else text, value, tuple(rest))


def _remove_item(merge: ListMerge | None, type_name: str, items: list[Any], rest: list[str]) -> None:
    for position, item in enumerate(items):
        if merge is None or item_key(merge, item) != rest[0]:
            continue
        if len(rest) == 1:
            del items[position]
            return
        items[position] = copy.copy(item)
        _remove(type_name, items[position], tuple(rest[1:]))
