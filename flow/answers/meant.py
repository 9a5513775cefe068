"""Meant: of a name that does not exist, which Service of another namespace it may stand for."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from flows.flow.answers.search import service_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.answers.told import Told

# Different Services that are remembered.
MOST_SERVICES = 20_000


class Services:
    """Services that flows have shown: namespaces by name."""

    def __init__(self) -> None:
        self._namespaces: dict[str, set[str]] = {}
        self._count = 0

    def add(self, name: str, namespace: str) -> None:
        """One that exists."""
        known = self._namespaces.get(name, ())
        if not name or not namespace or namespace in known or self._count >= MOST_SERVICES:
            return
        self._namespaces.setdefault(name, set()).add(namespace)
        self._count += 1

    def learn(self, known: Told) -> None:
        """Those that a flow names."""
        for services in known.services:
            for namespace, name in services:
                self.add(name, namespace)

    def learn_name(self, name: str) -> None:
        """The one of a name that has been resolved."""
        if (service := service_of(name)) is not None:
            self.add(*service)

    def meant(self, intended: str, tried: Sequence[str], namespace: str) -> str:
        """`svc.ns` of a Service that the name may stand for; "" if none is known.

        intended: as it was asked for; tried: all names of the lookup; namespace: the client's.
        """
        name, wrong = wanted(intended, tried, namespace)
        if not name:
            return ""
        if wrong in self._namespaces.get(name, ()):  # it is where it was looked for: no other is meant
            found = f"{name}.{wrong}"
            written = found == intended or (name, wrong) in map(service_of, (intended, *tried))
            return "" if written else found
        if elsewhere := self._namespaces.get(name):
            return f"{name}.{min(elsewhere)}"
        alike = get_close_matches(name, self._namespaces, n=1, cutoff=0.8)
        if not alike:
            return ""
        namespaces = self._namespaces[alike[0]]
        return f"{alike[0]}.{wrong if wrong in namespaces else min(namespaces)}"


def wanted(intended: str, tried: Sequence[str], namespace: str) -> tuple[str, str]:
    """(Service, namespace) that was looked for in vain; ("", "") if it was none of the cluster's."""
    for each in (intended, *tried):
        if (service := service_of(each)) is not None:
            return service
    labels = intended.split(".")
    if len(labels) == 1:
        return labels[0], namespace
    return (labels[0], labels[1]) if len(labels) == 2 else ("", "")
