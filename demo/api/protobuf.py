"""Bodies in protobuf: what kubectl sends for `create token` and `auth can-i`, without asking whether it is understood.

The form is `k8s\\0` and a `runtime.Unknown` around the object (apimachinery/pkg/runtime/serializer/protobuf); the field
numbers are those of authentication/v1/generated.proto and authorization/v1/generated.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.demo.api.errors import bad_request

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
Schema = dict[int, tuple[str, "Schema | type"]]
PROTOBUF = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"
_RESOURCE: Schema = {
    1: ("namespace", str),
    2: ("verb", str),
    3: ("group", str),
    4: ("version", str),
    5: ("resource", str),
    6: ("subresource", str),
    7: ("name", str),
}
_PATH: Schema = {1: ("path", str), 2: ("verb", str)}
SCHEMAS: dict[tuple[str, str], Schema] = {
    ("authentication.k8s.io/v1", "TokenRequest"): {2: ("spec", {1: ("audiences", list), 4: ("expirationSeconds", int)})},
    ("authentication.k8s.io/v1", "SelfSubjectReview"): {},
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): {
        2: ("spec", {1: ("resourceAttributes", _RESOURCE), 2: ("nonResourceAttributes", _PATH)})
    },
}
"""(apiVersion, kind) -> its fields by number, as far as the demo honours them."""
_UNKNOWN: Schema = {1: ("typeMeta", {1: ("apiVersion", str), 2: ("kind", str)}), 2: ("raw", bytes)}


def decode(data: bytes) -> Json:
    """The object as JSON would have it. Raises StatusError 400."""
    if not data.startswith(_MAGIC):
        raise bad_request("the body is not Kubernetes protobuf: expected it to begin with k8s and a zero byte")
    unknown = _object(data[len(_MAGIC) :], _UNKNOWN)
    head = unknown.get("typeMeta") or {}
    schema = SCHEMAS.get((head.get("apiVersion", ""), head.get("kind", "")))
    if schema is None:
        known = ", ".join(kind for _, kind in SCHEMAS)
        raise bad_request(f"{head.get('kind') or 'an object without a kind'} is not read from protobuf; only {known} are")
    return {**head, **_object(unknown.get("raw", b""), schema)}


def _object(message: bytes, schema: Schema) -> Json:
    found: Json = {}
    for number, value in _fields(message):
        name, kind = schema.get(number, ("", None))
        if kind is None:
            continue
        if (kind is int) != isinstance(value, int):
            raise bad_request(f"the protobuf body has a {name} of the wrong type")
        if isinstance(value, int):
            found[name] = value
        elif isinstance(kind, dict):
            found[name] = _object(value, kind)
        elif kind is list:
            found.setdefault(name, []).append(_text(value))
        else:
            found[name] = value if kind is bytes else _text(value)
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise bad_request("the protobuf body has a text that is not UTF-8") from None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of the varints and byte strings of a message. Raises StatusError 400."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
        elif kind == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise bad_request("the protobuf body ends in the middle of a field")
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise bad_request(f"the protobuf body has a field of wire type {kind}; expected numbers and strings only")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise bad_request("the protobuf body ends in the middle of a number")
        byte, at = message[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise bad_request("the protobuf body has a number of more than ten bytes")
