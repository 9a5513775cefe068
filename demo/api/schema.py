"""Field names and types of the served kinds: decoding of what clients send, and zero values.

Decoding follows the real server: unknown fields are dropped (and reported), a value of a wrong type is refused with
400 and the words of Go's decoder, `null` counts as absent, an integer is welcome where a quantity is expected.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from flows.demo.api.errors import bad_request

Json = dict[str, Any]
_GO_TYPES = {"integer": "int32", "boolean": "bool", "time": "string", "quantity": "string"}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "time": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "number": (int, float),
    "intstr": (int, str),
    "quantity": (int, float, str),
}
_POINTERS = {"LabelSelector"}
"""Types that are pointers in Go wherever they are required: absent is not empty."""
_SCALAR_ZEROS = {"string": "", "integer": 0, "boolean": False, "number": 0, "intstr": 0, "quantity": "0"}
INT_RANGE = range(-(1 << 63), 1 << 63)


@cache
def types() -> dict[str, dict[str, str]]:
    """Type name -> field -> type text: a scalar, a type name, `[]` or `{}` and the item's; `!` when required."""
    loaded: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("schema.json").read_text("utf-8"))
    return loaded


def field_type(type_name: str, name: str) -> str:
    """The type text of a field without its `!`; empty when the type has no such field."""
    return types().get(type_name, {}).get(name, "").rstrip("!")


def item_type(text: str) -> str:
    """The type of the items of a list or map type text."""
    return text[2:]


@dataclass(slots=True)
class Decoded:
    """An object and the paths of fields without a place in it; `complete`: required fields get their zero values."""

    object: Json
    unknown: list[str] = field(default_factory=list)
    complete: bool = True


class _Mismatch(Exception):  # noqa: N818  (control flow inside this module)
    """A value of a wrong type; the text is what Go's decoder says."""


def decode(kind: str, version: str, obj: object, *, complete: bool = True) -> Decoded:
    """Check and clean an object of a kind. Raises StatusError 400 when a value has a wrong type.

    `complete` adds required fields that are absent with Go's zero values; applied configurations are left as they are.
    """
    decoded = Decoded({}, complete=complete)
    try:
        decoded.object = _struct(kind, "", obj, decoded)
    except _Mismatch as error:
        text = f'{kind} in version "{version}" cannot be handled as a {kind}: {error}'
        raise bad_request(text) from error
    return decoded


def strict_error(kind: str, version: str, unknown: list[str]) -> Exception:
    """400 for `fieldValidation=Strict` and unknown fields."""
    listed = ", ".join(f'unknown field "{path}"' for path in unknown)
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: strict decoding error: {listed}')


def _struct(type_name: str, path: str, value: object, into: Decoded) -> Json:
    if not isinstance(value, dict):
        raise _Mismatch(f"json: cannot unmarshal {_go_kind(value)} into Go value of type {type_name}")
    fields = types()[type_name]
    clean: Json = {}
    for name, item in value.items():
        if name not in fields:
            into.unknown.append(f"{path}{name}")
        elif item is not None:
            clean[name] = _value(fields[name].rstrip("!"), type_name, f"{path}{name}", item, into)
    if into.complete:
        for name, zero in _zeros(type_name).items():
            clean.setdefault(name, zero.copy() if isinstance(zero, dict | list) else zero)
    return clean


@cache
def _zeros(type_name: str) -> dict[str, Any]:
    required = {name: text[:-1] for name, text in types()[type_name].items() if text.endswith("!")}
    return {name: _zero(text) for name, text in required.items() if text not in _POINTERS}


def _zero(text: str) -> Any:
    if text in _PYTHON_TYPES or text == "any":
        return _SCALAR_ZEROS.get(text)
    if text.startswith("[]"):
        return []
    return {} if text.startswith("{}") else dict(_zeros(text))


def _value(text: str, owner: str, path: str, value: object, into: Decoded) -> Any:
    if text == "any":
        return value
    if text in _PYTHON_TYPES:
        return _scalar(text, owner, path, value)
    if text.startswith("[]"):
        items = _expect(list, text, owner, path, value)
        return [_value(item_type(text), owner, f"{path}[{i}]", item, into) for i, item in enumerate(items) if item is not None]
    if text.startswith("{}"):
        pairs = _expect(dict, text, owner, path, value)
        return {
            key: _value(item_type(text), owner, f"{path}.{key}", item, into) for key, item in pairs.items() if item is not None
        }
    return _struct(text, f"{path}.", _expect(dict, text, owner, path, value), into)


def _scalar(text: str, owner: str, path: str, value: object) -> Any:
    wrong_bool = isinstance(value, bool) and text != "boolean"
    if wrong_bool or not isinstance(value, _PYTHON_TYPES[text]):
        raise _mismatch(text, owner, path, value)
    if isinstance(value, int) and value not in INT_RANGE:
        raise _Mismatch(f"json: cannot unmarshal number {value} into Go struct field {owner}.{path} of type int64")
    return str(value) if text == "quantity" else value


def _expect(python_type: type, text: str, owner: str, path: str, value: object) -> Any:
    if not isinstance(value, python_type):
        raise _mismatch(text, owner, path, value)
    return value


def _mismatch(text: str, owner: str, path: str, value: object) -> _Mismatch:
    wanted = _GO_TYPES.get(text, text.replace("{}", "map[string]"))
    return _Mismatch(f"json: cannot unmarshal {_go_kind(value)} into Go struct field {owner}.{path} of type {wanted}")


def _go_kind(value: object) -> str:
    names = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")
