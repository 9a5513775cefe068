"""Derive `schema.json` from the models of the official Python client: `python -m flows.demo.api.schema_source`.

Run when a kind is added to the table or the client is upgraded; the demo itself reads only the JSON.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kubernetes import client

from flows.demo.api.kinds import KINDS, REVIEWS

SCALARS = {
    "str": "string",
    "int": "integer",
    "bool": "boolean",
    "float": "number",
    "object": "any",
    "datetime": "time",
    "bytes": "string",
}
OWN_NAMES = {"Event": "CoreV1Event"}
"""Kinds whose model is not called `V1<Kind>`."""
PREFIXES = ("CoreV1", "DiscoveryV1", "RbacV1", "AuthenticationV1", "FlowcontrolV1", "V1")
NUMBER_OR_NAME = {"port", "targetPort", "maxSurge", "maxUnavailable"}
QUANTITIES = {"limits", "requests", "capacity", "allocatable", "allocatedResources", "overhead"}
EXTRA_ROOTS = ("DeleteOptions", "Status", "Scale")


def short_name(model: str) -> str:
    """`V1PodSpec` -> `PodSpec`, `DiscoveryV1EndpointPort` -> `DiscoveryEndpointPort`."""
    if model.startswith("V1"):
        return model[2:]
    group = next((prefix for prefix in PREFIXES if model.startswith(prefix)), "")
    return model if not group else ("" if group == "CoreV1" and model == "CoreV1Event" else group[:-2]) + model[len(group) :]


def type_text(openapi_type: str, wanted: list[str]) -> str:
    """`List[V1Container]` -> `[]Container`, `Dict[str, str]` -> `{}string`; models met are added to `wanted`."""
    if found := re.fullmatch(r"(?:List|list)\[(.*)\]", openapi_type):
        return "[]" + type_text(found[1], wanted)
    if found := re.fullmatch(r"(?:Dict\[str, |dict\(str, )(.*)[\])]", openapi_type):
        return "{}" + type_text(found[1], wanted)
    if openapi_type in SCALARS:
        return SCALARS[openapi_type]
    wanted.append(openapi_type)
    return short_name(openapi_type)


def special(field: str, text: str) -> str:
    """The two types that the client's models lose: a number or a name, and a quantity (written either way)."""
    if text == "any" and field in NUMBER_OR_NAME:
        return "intstr"
    return "{}quantity" if text == "{}string" and field in QUANTITIES else text


def derive() -> dict[str, dict[str, str]]:
    """Type name -> field -> type text (with `!` when required), for all types the served kinds reach."""
    roots = [OWN_NAMES.get(kind.kind, f"V1{kind.kind}") for kind in (*KINDS, *REVIEWS)]
    wanted = roots + [f"V1{name}" for name in EXTRA_ROOTS]
    types: dict[str, dict[str, str]] = {}
    while wanted:
        model = wanted.pop()
        if short_name(model) not in types:
            types[short_name(model)] = _fields(getattr(client, model), wanted)
    return dict(sorted(types.items()))


def _fields(model: Any, wanted: list[str]) -> dict[str, str]:
    fields = {}
    declared = model.model_fields.items()
    needed = {field.alias or name for name, field in declared if field.is_required()}
    for attribute, text in model.openapi_types.items():
        name = model.attribute_map[attribute]
        required = "!" if name in needed else ""
        fields[name] = special(name, type_text(text, wanted)) + required
    return fields


def main() -> None:
    """Write `schema.json` beside this file, one type on each line."""
    lines = [f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in derive().items()]
    Path(__file__).with_name("schema.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
