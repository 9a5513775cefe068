"""Raw filters: FlowFilters as JSON, given by --allowlist and --denylist and shown by --print-raw-filters."""

from __future__ import annotations

import json
import re
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from flows.flow.filter.errors import FilterError, nearest
from flows.proto.flow_pb2 import FlowFilter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What Go escapes; and controls and no characters, which YAML refuses or reads as something else, and a terminal obeys.
_ESCAPED = re.compile("[<>&\u2028\u2029\x7f-\x9f\ufffe\uffff]")
_EXPECTED = """expected FlowFilters in JSON, e.g. {"source_pod":["shop/"],"verdict":["DROPPED"]}"""


def parse_raw_filters(text: str) -> list[FlowFilter]:
    """Any number of JSON objects, one after the other. Raises FilterError."""
    decoder, found, at = JSONDecoder(), [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, JSONDecodeError) else "too long or too deep"
            raise FilterError("filter", text, f"{reason}; {_EXPECTED}") from None
        found.append(_message(value, text))
    return found


def _message(value: Any, text: str) -> FlowFilter:
    if not isinstance(value, dict):
        raise FilterError("filter", text, _EXPECTED)
    try:
        return json_format.ParseDict(value, FlowFilter())
    except json_format.ParseError as error:
        unknown = next((name for name in value if name not in _names()), "")
        raise FilterError("filter", text, f"{_one_line(error)}; {_EXPECTED}", nearest(unknown, _names())) from None


def _names() -> list[str]:
    return [name for field in FlowFilter.DESCRIPTOR.fields for name in (field.name, field.json_name)]


def _one_line(error: Exception) -> str:
    """Without the list of all fields, which protobuf appends."""
    return " ".join(str(error).split()).partition(" Available Fields")[0].rstrip(".")


def raw_filters_yaml(allow: Sequence[FlowFilter], deny: Sequence[FlowFilter]) -> str:
    """What --print-raw-filters prints: YAML that --config accepts, byte for byte Hubble's."""
    lists = (("allowlist", allow), ("denylist", deny))
    return "".join(f"{name}:\n{_items(filters)}" for name, filters in lists if filters) or "{}\n"


def _items(filters: Iterable[FlowFilter]) -> str:
    quoted = (filter_json(message).replace("'", "''") for message in filters)
    return "".join(f"    - '{text}'\n" for text in quoted)


def filter_json(message: FlowFilter) -> str:
    """protojson with proto names, in the order of declaration, escaped as Go's encoding/json does."""
    values = json_format.MessageToDict(message, preserving_proto_field_name=True)
    ordered = {field.name: values[field.name] for field in FlowFilter.DESCRIPTOR.fields if field.name in values}
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda rune: f"\\u{ord(rune[0]):04x}", text)
