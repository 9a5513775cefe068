"""Label and field selectors: parsing (400 on nonsense) and matching."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.demo.api.errors import bad_request

if TYPE_CHECKING:
    from flows.demo.api.kinds import Kind

Json = dict[str, Any]
Predicate = Callable[[Json], bool]

_KEY = r"(?:[A-Za-z0-9][-A-Za-z0-9_./]*)?[A-Za-z0-9]"
_VALUE = r"(?:(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_EQUALS = re.compile(rf"\s*({_KEY})\s*(==|=|!=)\s*({_VALUE})\s*")
_IN = re.compile(rf"\s*({_KEY})\s+(in|notin)\s*\(\s*({_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)\s*")
_EXISTS = re.compile(rf"\s*(!?)\s*({_KEY})\s*")
_COMPARE = re.compile(rf"\s*({_KEY})\s*([<>])\s*(-?\d+)\s*")
MAX_SELECTOR = 64 * 1024
"""Longer ones do not fit into the request line of the real server either."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One comma-separated part of a label selector."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Json) -> bool:
        """Whether labels satisfy it; `!=` and `notin` are also true for absent keys."""
        value = labels.get(self.key)
        if self.operator in {"exists", "absent"}:
            return (value is not None) == (self.operator == "exists")
        if self.operator in {"in", "notin"}:
            return (value in self.values) == (self.operator == "in")
        if value is None or not re.fullmatch(r"-?\d+", value):
            return False
        bound = int(next(iter(self.values)))
        return int(value) > bound if self.operator == ">" else int(value) < bound


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """Requirements of a label selector, all of which must hold. Raises StatusError 400."""
    if not text.strip():
        return ()
    if len(text) > MAX_SELECTOR:
        raise bad_request("unable to parse requirement: the label selector is too long")
    return tuple(_requirement(part, text) for part in _split(text))


def _split(text: str) -> list[str]:
    return re.split(r",(?![^()]*\))", text)


def _requirement(part: str, text: str) -> Requirement:
    if found := _IN.fullmatch(part):
        values = frozenset(value.strip() for value in found[3].split(","))
        return Requirement(found[1], found[2], values)
    if found := _EQUALS.fullmatch(part):
        return Requirement(found[1], "notin" if found[2] == "!=" else "in", frozenset({found[3]}))
    if found := _COMPARE.fullmatch(part):
        return Requirement(found[1], found[2], frozenset({found[3]}))
    if found := _EXISTS.fullmatch(part):
        return Requirement(found[2], "absent" if found[1] else "exists")
    raise bad_request(f"unable to parse requirement: found {_go_quote(part.strip())} in label selector {_go_quote(text)}")


def _go_quote(text: str) -> str:
    return "'" + text.encode("unicode_escape").decode() + "'"


def object_selector(selector: Json | None) -> Predicate:
    """A predicate over labels for a `LabelSelector` object; None selects nothing, `{}` everything."""
    if selector is None:
        return lambda _labels: False
    requirements = [Requirement(k, "in", frozenset({v})) for k, v in (selector.get("matchLabels") or {}).items()]
    operators = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent"}
    for entry in selector.get("matchExpressions") or ():
        operator = operators.get(entry.get("operator", ""), "in")
        requirements.append(Requirement(entry["key"], operator, frozenset(entry.get("values") or ())))
    return lambda labels: all(requirement.matches(labels) for requirement in requirements)


_PLAIN_FIELDS = ("metadata.name", "metadata.namespace")
_FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase",),
    "services": ("spec.clusterIP", "spec.type"),
    "secrets": ("type",),
    "replicasets": ("status.replicas",),
    "jobs": ("status.successful",),
    "events": (
        *(
            f"involvedObject.{field}"
            for field in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        ),
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
}


def parse_fields(text: str, kind: Kind) -> Predicate:
    """A predicate over objects for a field selector. Raises StatusError 400 for a field the kind does not offer."""
    terms = [_field_term(part, text, kind) for part in text.split(",") if part]
    return lambda obj: all((_field(obj, path) == value) == equal for path, equal, value in terms)


def _field_term(part: str, text: str, kind: Kind) -> tuple[str, bool, str]:
    found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part, re.DOTALL)
    if found is None:
        raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
    supported = _FIELDS.get(kind.plural, ())
    if found[1] not in (*_PLAIN_FIELDS, *supported):
        raise bad_request(_unknown_field(found[1], kind))
    return found[1], found[2] != "!=", found[3]


def _unknown_field(field: str, kind: Kind) -> str:
    if kind.group == "" and kind.plural in _FIELDS:
        return f"field label not supported: {field}"
    return f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def _field(obj: Json, path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if path == "source":
        value = obj.get("source", {}).get("component") or obj.get("reportingComponent")
    if isinstance(value, bool):
        return str(value).lower()
    if value is None and path in {"spec.unschedulable", "spec.hostNetwork"}:
        return "false"
    return "" if value is None else str(value)
