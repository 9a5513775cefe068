"""From a URL to what it names: kind, namespace, name, subresource and verb."""

from __future__ import annotations

from dataclasses import dataclass

from flows.demo.api.access import Attributes
from flows.demo.api.kinds import Kind, find

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_TRUE = {"1", "true", "t", "T", "TRUE", "True", ""}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about."""

    kind: Kind
    verb: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def attributes(self) -> Attributes:
        """What RBAC is asked."""
        # A namespace is, for RBAC, inside itself (`RequestInfo` of the real server).
        namespace = self.name if self.kind.plural == "namespaces" else self.namespace
        return Attributes(self.verb, self.kind.group, self.kind.plural, self.subresource, namespace, self.name)


def is_true(text: str | None) -> bool:
    """A boolean query option, as Go's `ParseBool` after conversion; absent is false."""
    return text is not None and text in _TRUE


def parse_target(method: str, path: str, *, watch: bool) -> Target | None:
    """The target of a resource URL; None when the path names no resource that is served."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    kind = find(group, version, rest[0])
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced) or "" in rest:
        return None
    name, subresource = ([*rest, "", ""])[1:3]
    if subresource and subresource not in kind.subresources:
        return None
    return Target(kind, _verb(method, name, watch=watch), namespace, name, subresource)


def _verb(method: str, name: str, *, watch: bool) -> str:
    if method in {"GET", "HEAD"}:
        return "watch" if watch else "get" if name else "list"
    if method == "DELETE" and not name:
        return "deletecollection"
    return _VERBS.get(method, method.lower())
