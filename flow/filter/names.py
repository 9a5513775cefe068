"""source_pod, destination_pod, source_service, destination_service: `[namespace/]name-prefix`."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from flows.flow.filter.condition import on_value
from flows.flow.filter.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flows.flow.endpoint import Endpoint
    from flows.flow.filter.condition import Condition

# Hubble's: a name without a namespace is one of this.
_DEFAULT_NAMESPACE = "default"


class NamePrefix(NamedTuple):
    """namespace is exact, empty for any; prefix begins the name, empty for any."""

    namespace: str
    prefix: str

    def holds(self, namespace: str, name: str) -> bool:
        """A thing that has neither namespace nor name is nothing that could be meant."""
        return bool(namespace or name) and self.namespace in ("", namespace) and name.startswith(self.prefix)


def parse(field: str, value: str) -> NamePrefix:
    """`name`: in namespace `default`; `ns/name`; `ns/`: all of ns; `/name`: any namespace; `/`: all."""
    namespace, slash, prefix = value.partition("/")
    if not value or "/" in prefix:
        expected = "expected [namespace/]name, namespace/ for all of it, or /name for any namespace"
        raise FilterError(field, value, expected, "/".join(value.split("/")[:2]))
    return NamePrefix(namespace, prefix) if slash else NamePrefix(_DEFAULT_NAMESPACE, namespace)


class NamePrefixes:
    """Many name prefixes, of which it is found by bisection whether one holds."""

    def __init__(self, names: Iterable[NamePrefix]) -> None:
        self._prefixes: dict[str, list[str]] = {}
        for namespace, prefix in sorted(set(names)):
            known = self._prefixes.setdefault(namespace, [])
            if not known or not prefix.startswith(known[-1]):  # else it says no more than the one before
                known.append(prefix)

    def holds(self, namespace: str, name: str) -> bool:
        """As NamePrefix.holds() of any of them."""
        return bool(namespace or name) and (self._begins(namespace, name) or self._begins("", name))

    def _begins(self, namespace: str, name: str) -> bool:
        prefixes = self._prefixes.get(namespace)
        if not prefixes:
            return False
        # Of prefixes none of which begins another, only the last one up to the name can begin it.
        at = bisect_right(prefixes, name)
        return at > 0 and name.startswith(prefixes[at - 1])


def build_pod(field: str, values: Sequence[str], column: str) -> Condition:
    """The endpoint is a pod that one of the prefixes names."""
    wanted = NamePrefixes(parse(field, value) for value in values)
    return on_value(column, lambda end: wanted.holds(end.namespace, end.pod))


def build_service(field: str, values: Sequence[str], column: str) -> Condition:
    """The address is a service's (as in Hubble), or the endpoint is a pod that the service selects (ours)."""
    wanted = NamePrefixes(parse(field, value) for value in values)

    def matches(endpoint: Endpoint) -> bool:
        services = (*endpoint.services, *([endpoint.service] if endpoint.service else ()))
        return any(wanted.holds(service.namespace, service.name) for service in services)

    return on_value(column, matches)
