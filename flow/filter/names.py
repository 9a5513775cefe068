"""source_pod, destination_pod, source_service, destination_service: `[namespace/]name-prefix`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flows.flow.filter.condition import on_value
from flows.flow.filter.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def build_pod(field: str, values: Sequence[str], column: str) -> Condition:
    """The endpoint is a pod that one of the prefixes names."""
    wanted = [parse(field, value) for value in values]
    return on_value(column, lambda end: any(name.holds(end.namespace, end.pod) for name in wanted))


def build_service(field: str, values: Sequence[str], column: str) -> Condition:
    """The address is a service's (as in Hubble), or the endpoint is a pod that the service selects (ours)."""
    wanted = [parse(field, value) for value in values]

    def matches(endpoint: Endpoint) -> bool:
        services = (*endpoint.services, *([endpoint.service] if endpoint.service else ()))
        return any(name.holds(service.namespace, service.name) for service in services for name in wanted)

    return on_value(column, matches)
