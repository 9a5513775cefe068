"""ndots: what a workload's search list costs it, and the exact cure (resolv.conf(5); Kubernetes writes ndots:5)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.flow.answers.lookup import NODATA
from flows.flow.answers.search import dots

if TYPE_CHECKING:
    from flows.flow.answers.lookup import Lookup

# Different names of one workload that are told of, and of which the cure is derived.
MOST_NAMES = 200
# What Kubernetes writes into a pod's resolv.conf under dnsPolicy ClusterFirst.
KUBERNETES_NDOTS = 5
# Outcomes of lookups whose last name exists.
_EXISTS = frozenset({"resolved", NODATA})


@dataclass(slots=True)
class Cost:
    """Of one workload. searched: names that were found with a suffix only; absolute: only as they are, after suffixes; nowhere:
    those that do not exist. Of what failed otherwise nothing follows.
    """

    lookups: int = 0
    queries: int = 0
    detours: int = 0  # lookups that tried more than one name
    wasted: int = 0  # packets
    lost_ns: int = 0
    searched: Counter[tuple[str, str]] = field(default_factory=Counter)  # (intended, found)
    absolute: Counter[str] = field(default_factory=Counter)
    nowhere: Counter[str] = field(default_factory=Counter)
    most_dots: int = 0  # of names that were found with a suffix, also with the first

    def add(self, lookup: Lookup) -> None:
        """One more."""
        names = lookup.names
        self.lookups += 1
        self.queries += len(lookup.tries) + lookup.more
        outcome = lookup.outcome
        if len(names) < 2:
            if outcome in _EXISTS:
                self.most_dots = max(self.most_dots, dots(_without_first_suffix(names[0], lookup.client.namespace)))
            return
        self.detours += 1
        self.wasted += lookup.wasted
        self.lost_ns += lookup.lost_ns
        if outcome == "NXDOMAIN":
            _count(self.nowhere, lookup.intended)
        elif outcome in _EXISTS:
            self._add_found(lookup.intended, lookup.final)

    def _add_found(self, asked: str, found: str) -> None:
        if found == asked:
            _count(self.absolute, asked)
        else:
            _count(self.searched, (asked, found))
            self.most_dots = max(self.most_dots, dots(asked))

    @property
    def ndots(self) -> int | None:
        """The least that still finds all names that need a suffix, if it spares any of the others; None: no other value helps.

        A name with as many dots is asked for as it is first, which musl never follows by suffixes. glibc does if that fails, so
        names that do not exist are spared nothing.
        """
        least = self.most_dots + 1
        spared = any(dots(name) >= least for name in self.absolute)
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
        """The cure in a sentence; "" if none is known."""
        said = []
        if self.names:
            said.append("ask for " + ", ".join(f'"{found}"' for _, found in self.names[:3]) + " with the dot at the end")
        if (ndots := self.ndots) is not None:
            said.append(f"set ndots to {ndots} in the pod's dnsConfig")
        if not said and self.nowhere:
            return f"no such name: {', '.join(sorted(self.nowhere)[:3])}"
        return ", or ".join(said)

    @property
    def snippet(self) -> str:
        """YAML for the pod's spec; "" if another ndots would not help."""
        if (ndots := self.ndots) is None:
            return ""
        return f'dnsConfig:\n  options:\n    - name: ndots\n      value: "{ndots}"\n'


def _without_first_suffix(name: str, namespace: str) -> str:
    """What may have been asked for that was found as `name`: Kubernetes' first suffix is NS.svc.DOMAIN of the pod's namespace."""
    return f"{name}.".rpartition(f".{namespace}.svc.")[0] if namespace else ""


def _count(counter: Counter[str] | Counter[tuple[str, str]], name: object) -> None:
    if name in counter or len(counter) < MOST_NAMES:
        counter[name] += 1  # type: ignore[index]
