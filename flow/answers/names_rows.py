"""Rows of `flows dns names`: their columns, what is counted for each, and what search lists cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flows.flow.answers.table import OTHER, Column, Kind, Row

if TYPE_CHECKING:
    from flows.flow.answers.lookup import Lookup
    from flows.flow.answers.ndots import Cost

COLUMNS = (
    Column("client"),
    Column("name"),
    Column("outcome"),
    Column("count", Kind.COUNT),
    Column("tries", Kind.COUNT),
    Column("wasted_packets", Kind.COUNT, "wasted"),
    Column("lost_ns", Kind.DURATION, "lost"),
    Column("last_seen", Kind.TIME, "last-seen"),
    Column("connection"),
    Column("did_you_mean", name="did-you-mean"),
    Column("found", wide=True),
    Column("addresses", Kind.LIST, wide=True),
    Column("connected", Kind.COUNT, wide=True),
    Column("not_connected", Kind.COUNT, "not-connected", wide=True),
)
COSTS = (
    Column("client"),
    Column("lookups", Kind.COUNT),
    Column("queries", Kind.COUNT),
    Column("detours", Kind.COUNT),
    Column("wasted_packets", Kind.COUNT, "wasted"),
    Column("lost_ns", Kind.DURATION, "lost"),
    Column("fix"),
    Column("ndots", Kind.COUNT, wide=True),
    Column("names", Kind.LIST, wide=True),
    Column("dns_config", name="dns-config", wide=True),
)


class Key(NamedTuple):
    """What one row is about."""

    client: str
    name: str
    outcome: str


OTHER_KEY = Key(OTHER, OTHER, "")


@dataclass(slots=True)
class Group:
    """Of one row. links: lookups by the connection that followed. cut: addresses may be missing."""

    count: int = 0
    tries: int = 0
    wasted: int = 0
    lost_ns: int = 0
    last_seen: int = 0
    found: str = ""
    addresses: tuple[str, ...] = ()
    cut: bool = False
    tried: tuple[str, ...] = ()
    namespace: str = ""
    links: Counter[str] = field(default_factory=Counter)

    def add(self, lookup: Lookup) -> None:
        """One more lookup."""
        self.count += 1
        self.tries += len(lookup.tries) + lookup.more
        self.wasted += lookup.wasted
        self.lost_ns += lookup.lost_ns
        self.last_seen = max(self.last_seen, lookup.ended)
        self.found, self.addresses = lookup.final, lookup.addresses or self.addresses
        self.cut |= lookup.cut
        self.tried, self.namespace = tuple(lookup.names[:8]), lookup.client.namespace


def row(key: Key, group: Group, links: Counter[str], meant: str) -> Row:
    """links: of those that are still looked into; meant: what a name that does not exist may stand for."""
    links = group.links + links
    linked = Counter({what: count for what, count in links.items() if what not in {"none", "unknown"}})
    told = linked.most_common(1)[0][0] if linked else "none" if links["none"] else "unknown" if links else ""
    found = key.outcome == "resolved"
    return {
        **key._asdict(),
        "count": group.count,
        "tries": group.tries,
        "wasted_packets": group.wasted,
        "lost_ns": group.lost_ns,
        "last_seen": group.last_seen or None,
        "connection": told or None,
        "did_you_mean": meant or None,
        "found": group.found if found else None,
        "addresses": list(group.addresses) or (None if found and group.cut else []),
        "connected": sum(linked.values()) if links else None,
        "not_connected": links["none"] if links else None,
    }


def cost_row(client: str, cost: Cost) -> Row:
    """What one workload's search list costs."""
    return {
        "client": client,
        "lookups": cost.lookups,
        "queries": cost.queries,
        "detours": cost.detours,
        "wasted_packets": cost.wasted,
        "lost_ns": cost.lost_ns,
        "fix": cost.fix or None,
        "ndots": cost.ndots,
        "names": [found for _, found in cost.names],
        "dns_config": cost.snippet or None,
    }
