"""ndots: what a workload's search list costs it, and the exact cure (resolv.conf(5); Kubernetes writes ndots:5)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.flow.answers.search import dots, service_of

if TYPE_CHECKING:
    from flows.flow.answers.lookup import Lookup

# Different names of one workload that are told of, and of which the cure is derived.
MOST_NAMES = 200
# What Kubernetes writes into a pod's resolv.conf under dnsPolicy ClusterFirst.
KUBERNETES_NDOTS = 5


@dataclass(slots=True)
class Cost:
    """Of one workload. searched: names that were found with a suffix only; absolute: only as they are, after suffixes."""

    lookups: int = 0
    queries: int = 0
    detours: int = 0  # lookups that tried more than one name
    wasted: int = 0  # packets
    lost_ns: int = 0
    searched: Counter[tuple[str, str]] = field(default_factory=Counter)  # (intended, found)
    absolute: Counter[str] = field(default_factory=Counter)
    nowhere: Counter[str] = field(default_factory=Counter)

    def add(self, lookup: Lookup) -> None:
        """One more."""
        names = lookup.names
        self.lookups += 1
        self.queries += len(lookup.tries) + lookup.more
        if len(names) < 2:
            return
        self.detours += 1
        self.wasted += lookup.wasted
        self.lost_ns += lookup.lost_ns
        asked, found = lookup.intended, lookup.final
        if not lookup.found:
            _count(self.nowhere, asked)
        elif found == asked:
            _count(self.absolute, asked)
        else:
            _count(self.searched, (asked, found))

    @property
    def ndots(self) -> int | None:
        """The least that still finds all names that need a suffix, if it spares any of the others; None: no other value helps.

        A name with as many dots is asked for as it is first, which musl never follows by suffixes.
        """
        least = max((dots(asked) for asked, _ in self.searched), default=0) + 1
        spared = any(dots(name) >= least for name in (*self.absolute, *self.nowhere))
        return least if spared and least < KUBERNETES_NDOTS else None

    @property
    def names(self) -> list[tuple[str, str]]:
        """(as it is asked for, as it should be): with the dot at the end that ends all search; most wasteful first."""
        exact = [(count, name, f"{name}.") for name, count in self.absolute.items()]
        # The first suffix is the pod's own namespace: a name that it finds costs nothing, so what is here took at least two.
        exact += [(count, asked, f"{found}.") for (asked, found), count in self.searched.items()]
        return [(asked, found) for _, asked, found in sorted(exact, key=lambda each: (-each[0], each[1]))]

    @property
    def fix(self) -> str:
        """The cure in a sentence; "" if nothing is wrong."""
        if not self.detours:
            return ""
        said = []
        if self.names:
            said.append("ask for " + ", ".join(f'"{found}"' for _, found in self.names[:3]) + " with the dot at the end")
        if (ndots := self.ndots) is not None:
            said.append(f"set ndots to {ndots} in the pod's dnsConfig")
        if not said:
            return f"no such name: {', '.join(sorted(self.nowhere)[:3])}"
        return ", or ".join(said)

    @property
    def snippet(self) -> str:
        """YAML for the pod's spec; "" if another ndots would not help."""
        if (ndots := self.ndots) is None:
            return ""
        return f'dnsConfig:\n  options:\n    - name: ndots\n      value: "{ndots}"\n'


def _count(counter: Counter[str] | Counter[tuple[str, str]], name: object) -> None:
    if name in counter or len(counter) < MOST_NAMES:
        counter[name] += 1  # type: ignore[index]


def is_service_name(name: str) -> bool:
    """Whether a name asks the cluster's DNS for a Service."""
    return service_of(name) is not None or dots(name) <= 1
