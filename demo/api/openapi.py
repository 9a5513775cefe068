"""OpenAPI documents (v2 as JSON and protobuf, v3 as JSON) made from the schema: what `kubectl apply` validates by."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from flows.demo.api.discovery import VERSION
from flows.demo.api.kinds import KINDS, REVIEWS, Kind
from flows.demo.api.merge_keys import RETAIN_KEYS, list_merge
from flows.demo.api.schema import item_type, types

Json = dict[str, Any]
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V2_PROTOBUF_ASKED = (V2_PROTOBUF, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
"""What clients ask for; the older name has an `@`, which is no media type, so answers never bear it."""
_PREFIX = "io.k8s.api."
_SCALARS: dict[str, Json] = {
    "string": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "integer": {"type": "integer", "format": "int64"},
    "boolean": {"type": "boolean"},
    "number": {"type": "number", "format": "double"},
    "quantity": {"type": "string"},
    "intstr": {"type": "string", "format": "int-or-string"},
    "any": {"type": "object"},
}
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_QUERY = ("dryRun", "fieldManager", "fieldValidation", "force")


def _schema(text: str, references: str) -> Json:
    if text in _SCALARS:
        return dict(_SCALARS[text])
    if text.startswith("[]"):
        return {"type": "array", "items": _schema(item_type(text), references)}
    if text.startswith("{}"):
        return {"type": "object", "additionalProperties": _schema(item_type(text), references)}
    return {"$ref": f"{references}{_PREFIX}{text}"}


def _property(owner: str, name: str, text: str, references: str) -> Json:
    schema = _schema(text.rstrip("!"), references)
    merge = list_merge(owner, name)
    if merge is not None:
        schema["x-kubernetes-patch-strategy"] = "merge,retainKeys" if merge.retain_keys else "merge"
        schema["x-kubernetes-list-type"] = "map" if merge.keys else "set"
        if merge.keys:
            schema |= {
                "x-kubernetes-patch-merge-key": merge.patch_key,
                "x-kubernetes-list-map-keys": list(merge.keys),
            }
    elif (owner, name) in RETAIN_KEYS:
        schema["x-kubernetes-patch-strategy"] = "retainKeys"
    return schema


def definitions(references: str) -> Json:
    """All type definitions; `references` is where the document keeps them."""
    kinds = {kind.kind: kind for kind in (*KINDS, *REVIEWS)}
    made: Json = {}
    for owner, fields in types().items():
        properties = {name: _property(owner, name, text, references) for name, text in fields.items()}
        entry: Json = {"type": "object", "properties": properties}
        if required := [name for name, text in fields.items() if text.endswith("!")]:
            entry["required"] = required
        if owner in kinds:
            entry["x-kubernetes-group-version-kind"] = [_gvk(kinds[owner])]
        made[_PREFIX + owner] = entry
    return made


def _gvk(kind: Kind) -> Json:
    return {"group": kind.group, "kind": kind.kind, "version": kind.version}


def _paths(kind: Kind) -> dict[str, list[tuple[str, str]]]:
    """URL paths of a kind, each with its (method, action) pairs."""
    base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    base += ("/namespaces/{namespace}" if kind.namespaced else "") + f"/{kind.plural}"
    if kind in REVIEWS:
        return {base: [("post", "post")]}
    item = [("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")]
    return {base: [("get", "list"), ("post", "post")], base + "/{name}": item}


def _operation(kind: Kind, action: str, *, version: int) -> Json:
    extension = {"x-kubernetes-action": action, "x-kubernetes-group-version-kind": _gvk(kind)}
    operation: Json = {"responses": {"200": {"description": "OK"}}, **extension}
    names = _QUERY if action in {"post", "put", "patch"} else ()
    if version == 2:
        operation["parameters"] = [{"in": "query", "name": name, "type": "string"} for name in names]
        if action == "patch":
            operation["consumes"] = list(_PATCH_TYPES)
        return operation
    operation["parameters"] = [{"in": "query", "name": name, "schema": {"type": "string"}} for name in names]
    if action == "patch":
        operation["requestBody"] = {"content": {text: {"schema": {"type": "object"}} for text in _PATCH_TYPES}}
    elif action in {"post", "put"}:
        reference = {"$ref": f"#/components/schemas/{_PREFIX}{kind.kind}"}
        operation["requestBody"] = {"content": {"*/*": {"schema": reference}}}
    return operation


def _path_items(kinds: list[Kind], version: int) -> Json:
    return {
        path: {method: _operation(kind, action, version=version) for method, action in actions}
        for kind in kinds
        for path, actions in _paths(kind).items()
    }


_INFO = {"title": "Kubernetes", "version": VERSION["gitVersion"]}


@cache
def v2() -> Json:
    """The whole `/openapi/v2` document."""
    paths = _path_items([*KINDS, *REVIEWS], 2)
    return {"swagger": "2.0", "info": _INFO, "paths": paths, "definitions": definitions("#/definitions/")}


@cache
def v3(group: str, version: str) -> Json | None:
    """`/openapi/v3/apis/GROUP/VERSION`; None when it is not served."""
    kinds = [kind for kind in (*KINDS, *REVIEWS) if (kind.group, kind.version) == (group, version)]
    if not kinds:
        return None
    schemas = definitions("#/components/schemas/")
    return {"openapi": "3.0.0", "info": _INFO, "paths": _path_items(kinds, 3), "components": {"schemas": schemas}}


@cache
def v3_root() -> Json:
    """`/openapi/v3`: where each group's document is; the hash lets clients cache it."""
    paths: Json = {}
    for group, version in sorted({(kind.group, kind.version) for kind in (*KINDS, *REVIEWS)}):
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        digest = hashlib.sha256(json.dumps(v3(group, version)).encode()).hexdigest()[:32].upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


# Protobuf: `openapi.v2.Document` of gnostic's OpenAPIv2.proto, which kubectl before 1.27 insists on.


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _named(number: int, name: str, value: bytes) -> bytes:
    return _field(number, _text(1, name) + _field(2, value))


def _extensions(number: int, obj: Json) -> bytes:
    """`x-` keys as NamedAny; their value is YAML, of which JSON is a part."""
    pairs = [(key, value) for key, value in obj.items() if key.startswith("x-")]
    return b"".join(_named(number, key, _text(2, json.dumps(value))) for key, value in pairs)


def _schema_bytes(schema: Json) -> bytes:
    out = b"".join(_text(number, schema[key]) for key, number in (("$ref", 1), ("format", 2)) if key in schema)
    out += b"".join(_text(19, name) for name in schema.get("required", ()))
    if "additionalProperties" in schema:
        out += _field(21, _field(1, _schema_bytes(schema["additionalProperties"])))
    if "type" in schema:
        out += _field(22, _text(1, schema["type"]))
    if "items" in schema:
        out += _field(23, _field(1, _schema_bytes(schema["items"])))
    if "properties" in schema:
        pairs = schema["properties"].items()
        out += _field(25, b"".join(_named(1, name, _schema_bytes(value)) for name, value in pairs))
    return out + _extensions(31, schema)


def _operation_bytes(operation: Json) -> bytes:
    out = b"".join(_text(7, text) for text in operation.get("consumes", ()))
    for parameter in operation["parameters"]:
        query = _text(2, "query") + _text(4, parameter["name"]) + _text(6, "string")
        out += _field(8, _field(1, _field(2, _field(3, query))))
    out += _field(9, _named(1, "200", _field(1, _text(1, "OK"))))
    return out + _extensions(13, operation)


_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def _path_bytes(item: Json) -> bytes:
    return b"".join(_field(_METHODS[method], _operation_bytes(value)) for method, value in item.items())


@cache
def v2_protobuf() -> bytes:
    """The `/openapi/v2` document as protobuf."""
    document = v2()
    info = _text(1, _INFO["title"]) + _text(2, _INFO["version"])
    paths = b"".join(_named(2, path, _path_bytes(item)) for path, item in document["paths"].items())
    schemas = document["definitions"].items()
    listed = b"".join(_named(1, name, _schema_bytes(schema)) for name, schema in schemas)
    return _text(1, "2.0") + _field(2, info) + _field(8, paths) + _field(9, listed)
