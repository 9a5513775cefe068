"""protojson: the JSON text that Go writes for a protobuf message, one line, byte for byte.

Hubble prints with protojson (proto field names, unset fields left out, 64-bit integers as strings, fields in
the order of their declaration) through Go's json.Encoder (`<`, `>`, `&`, U+2028 and U+2029 as \\uXXXX).
protobuf's own json_format differs in order, spacing and timestamps, and takes about three times as long.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

# Registers FlowExtension in the descriptor pool, so that an Any that holds one is shown expanded.
from flows.proto import extension_pb2  # noqa: F401

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

Writer = Callable[[Any], str]
# A field's place in the declaration, its key as text (`"verdict":`), and the writer of its value.
Entry = tuple[int, str, Writer]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - protobuf timestamps are UTC by definition; isoformat() must print no offset
_HTML = re.compile("[<>&\u2028\u2029]")
_PLANS: dict[object, dict[int, Entry]] = {}  # by Descriptor


def to_json(message: Message) -> str:
    """The message as one line of JSON, without the newline.

    An Any of a type that is not known here is shown as its type and its bytes in base64, where Go would fail.
    """
    return _value(message)


@lru_cache(maxsize=8192)
def quote(text: str) -> str:
    """A JSON string as protojson and json.Encoder write it. Cached: names and labels repeat."""
    return _HTML.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def fraction(nanos: int) -> str:
    """Nanoseconds as `.123`, `.123456` or `.123456789`, whichever is exact and shortest; nothing for 0."""
    if nanos == 0:
        return ""
    if nanos % 1_000_000 == 0:
        return f".{nanos // 1_000_000:03d}"
    return f".{nanos // 1000:06d}" if nanos % 1000 == 0 else f".{nanos:09d}"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def _timestamp(message: Any) -> str:
    try:
        return f'"{_second(message.seconds)}{fraction(message.nanos)}Z"'
    except OverflowError:  # beyond the years 1 to 9999, where Go refuses to print the whole message
        return f'{{"seconds":"{message.seconds}","nanos":{message.nanos}}}'


def _duration(message: Any) -> str:
    sign = "-" if message.seconds < 0 or message.nanos < 0 else ""
    return f'"{sign}{abs(message.seconds)}{fraction(abs(message.nanos))}s"'


def _camel(path: str) -> str:
    return re.sub("_([a-z])", lambda match: match[1].upper(), path)


def _field_mask(message: Any) -> str:
    return quote(",".join(map(_camel, message.paths)))


def _wrapper(message: Any) -> str:
    field = message.DESCRIPTOR.fields[0]
    return _single(field)(message.value)


@lru_cache(maxsize=64)
def _message_class(name: str) -> type[Message] | None:
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError:
        return None
    return message_factory.GetMessageClass(descriptor)


def _any(message: Any) -> str:
    if not message.type_url:
        return "{}"
    kind = f'"@type":{quote(message.type_url)}'
    cls = _message_class(message.TypeName())
    try:
        inner = None if cls is None else cls.FromString(message.value)
    except DecodeError:
        inner = None
    if inner is None:
        return f'{{{kind},"value":{_bytes(message.value)}}}'
    if inner.DESCRIPTOR.full_name in _WELL_KNOWN:
        return f'{{{kind},"value":{_value(inner)}}}'
    return "{" + ",".join([kind, *_fields(inner)]) + "}"


_WELL_KNOWN: Mapping[str, Writer] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.FieldMask": _field_mask,
    "google.protobuf.Any": _any,
    **{
        f"google.protobuf.{kind}Value": _wrapper
        for kind in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
    },
}


def _value(message: Message) -> str:
    return _WELL_KNOWN.get(message.DESCRIPTOR.full_name, _message)(message)


def _message(message: Message) -> str:
    return "{" + ",".join(_fields(message)) + "}"


def _fields(message: Message) -> list[str]:
    plan = _PLANS.setdefault(message.DESCRIPTOR, {})
    parts = []
    for field, value in message.ListFields():
        index, key, write = plan.get(field.number) or _plan_field(plan, field)
        parts.append((index, key + write(value)))
    parts.sort()  # ListFields is ordered by number, Go's output by declaration
    return [text for _, text in parts]


def _plan_field(plan: dict[int, Entry], field: FieldDescriptor) -> Entry:
    entry = (field.index, f"{quote(field.name)}:", _writer(field))
    plan[field.number] = entry
    return entry


def _writer(field: FieldDescriptor) -> Writer:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_writer(field.message_type)
    single = _single(field)
    if not field.is_repeated:
        return single

    def write_list(values: Iterable[Any]) -> str:
        return "[" + ",".join(map(single, values)) + "]"

    return write_list


def _map_writer(entry: Descriptor) -> Writer:
    write = _single(entry.fields_by_name["value"])

    def write_map(values: Mapping[Any, Any]) -> str:
        return "{" + ",".join(f"{quote(_map_key(key))}:{write(values[key])}" for key in sorted(values)) + "}"

    return write_map


def _map_key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _single(field: FieldDescriptor) -> Writer:
    if field.message_type is not None:
        return _WELL_KNOWN.get(field.message_type.full_name, _message)
    if field.enum_type is not None:
        return _enum_writer({value.number: quote(value.name) for value in field.enum_type.values})
    return _SCALARS[field.cpp_type] if field.type != FieldDescriptor.TYPE_BYTES else _bytes


def _enum_writer(names: dict[int, str]) -> Writer:
    def write_enum(number: int) -> str:
        return names.get(number) or str(number)

    return write_enum


def _long(value: int) -> str:
    return f'"{value}"'


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _bytes(value: bytes) -> str:
    return f'"{base64.b64encode(value).decode()}"'


def _double(value: float) -> str:
    return _float_text(value, repr(value))


def _float(value: float) -> str:
    shortest = (f"{value:.{precision}g}" for precision in range(6, 10))
    exact = struct.pack("f", value)
    return _float_text(value, next((text for text in shortest if struct.pack("f", float(text)) == exact), repr(value)))


def _float_text(value: float, digits: str) -> str:
    """Go's float format: plain from 1e-6 up to 1e21, else with an exponent; digits round-trip."""
    if not math.isfinite(value):
        return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    mantissa, _, exponent = digits.partition("e")
    if 1e-6 <= abs(value) < 1e21:
        return _plain(mantissa, int(exponent or 0))
    return _scientific(mantissa, int(exponent or 0))


def _plain(mantissa: str, exponent: int) -> str:
    whole, _, rest = mantissa.partition(".")
    rest = rest.rstrip("0")
    sign, whole = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    if exponent < 0:
        whole, rest = "0", "0" * (-exponent - len(whole)) + whole + rest
    elif exponent:
        whole, rest = whole + rest[:exponent].ljust(exponent, "0"), rest[exponent:]
    return f"{sign}{whole}.{rest}" if rest else f"{sign}{whole}"


def _scientific(mantissa: str, exponent: int) -> str:
    mantissa = mantissa.removesuffix(".0")
    return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}".replace("e-0", "e-")


_SCALARS: Mapping[int, Writer] = {
    FieldDescriptor.CPPTYPE_INT32: str,
    FieldDescriptor.CPPTYPE_UINT32: str,
    FieldDescriptor.CPPTYPE_INT64: _long,
    FieldDescriptor.CPPTYPE_UINT64: _long,
    FieldDescriptor.CPPTYPE_BOOL: _bool,
    FieldDescriptor.CPPTYPE_DOUBLE: _double,
    FieldDescriptor.CPPTYPE_FLOAT: _float,
    FieldDescriptor.CPPTYPE_STRING: quote,
}
