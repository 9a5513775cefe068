"""The answer of `flows dns names`: what was asked for, what came of it, what followed, and what search lists cost."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flows.flow.answers import filters
from flows.flow.answers.lookups import Lookup, Lookups
from flows.flow.answers.meant import Services, wanted
from flows.flow.answers.ndots import Cost
from flows.flow.answers.reach import Reach
from flows.flow.answers.requests import SECOND, Requests
from flows.flow.answers.table import OTHER, Column, Groups, Kind, Row, Table, overflow_note
from flows.flow.answers.told import told
from flows.flow.answers.view import is_reply, nanoseconds, view_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.answers.told import Told
    from flows.proto.flow_pb2 import Flow, FlowFilter
    from flows.proto.flows_pb2 import Coverage

# A connection follows from a lookup as long as its answer is good; without a TTL that is taken for a minute, and never for more
# than an hour. It may begin this much before the answer was seen: clocks differ.
DEFAULT_TTL_S, LONGEST_TTL_S, EARLY_NS = 60, 3_600, 50_000_000
# Lookups that wait to be linked, and (client, address) pairs whose connections are remembered.
MOST_UNLINKED, MOST_PAIRS, MOST_TIMES = 10_000, 50_000, 64
NOT_FOUND = "NXDOMAIN"

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


@dataclass(slots=True)
class _Group:
    count: int = 0
    tries: int = 0
    wasted: int = 0
    lost_ns: int = 0
    last_seen: int = 0
    found: str = ""
    addresses: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    namespace: str = ""
    links: Counter[str] = field(default_factory=Counter)


class _Connections:
    """When connections from an address to another began, and to which port."""

    def __init__(self) -> None:
        self._began: OrderedDict[tuple[str, str], deque[tuple[int, str]]] = OrderedDict()

    def learn(self, known: Told) -> None:
        """Takes what a flow tells; DNS itself is not what follows from a lookup."""
        flow, connection, ours = known.flow, known.connection, known.extended
        if flow.l7.WhichOneof("record") == "dns" or connection.HasField("request"):
            return
        if is_reply(flow) or (ours and not connection.HasField("started")):
            return
        client, server = known.source, known.destination
        if not client.address or not server.address or server.port == 53:
            return
        time = nanoseconds(connection.started) if ours else nanoseconds(flow.time)
        began = self._began.setdefault((client.address, server.address), deque(maxlen=MOST_TIMES))
        entry = (time, f"{server.address} {known.transport} {server.port}".strip())
        if entry not in began:
            began.append(entry)
        if len(self._began) > MOST_PAIRS:
            self._began.popitem(last=False)

    def after(self, lookup: Lookup) -> str:
        """The connection that followed from a lookup, or ""."""
        ended = lookup.ended
        ttl = max((each.ttl for each in lookup.tries if each.addresses), default=0) or DEFAULT_TTL_S
        until = ended + min(ttl, LONGEST_TTL_S) * SECOND
        first: tuple[int, str] | None = None
        for address in lookup.addresses:
            for time, what in self._began.get((lookup.client.address, address), ()):
                if ended - EARLY_NS <= time <= until and (first is None or time < first[0]):
                    first = (time, what)
        return first[1] if first else ""


class NamesAnswer:
    """Flows in, tables out. add: what was asked for; context: what only helps to explain it."""

    columns: Sequence[Column] = (*COLUMNS, *(each for each in COSTS if each not in COLUMNS))
    explains = True
    remembers = False  # connections and Services are not taken from flows of requests alone

    def __init__(self, *, filtered: bool = False) -> None:
        """filtered: of no consequence here: connections always need a second look."""
        self._filtered = filtered
        self._requests, self._lookups, self._reach = Requests(), Lookups(), Reach()
        self._services, self._connections = Services(), _Connections()
        self._groups: Groups[_Group] = Groups(lambda _: _Group(), Key(OTHER, OTHER, ""))
        self._costs: Groups[Cost] = Groups(lambda _: Cost(), OTHER)
        self._unlinked: OrderedDict[Lookup, Key] = OrderedDict()
        self._looked_ns = self._again_ns = 0
        self._services_asked: set[str] = set()

    def add(self, flow: Flow) -> None:
        """A flow that was asked for."""
        self.take(told(flow))

    def take(self, known: Told) -> None:
        """The same, of what it tells."""
        self._services.learn(known)
        view = view_told(known)
        if view is None or view.dns is None:
            self._connections.learn(known)
            return
        self._requests.add(view)
        self._settle()

    def _settle(self) -> None:
        for request in self._requests.settled():
            self._lookups.add(request)
        for lookup in self._lookups.done(self._requests.watermark):
            self._count(lookup)

    def within(self, since: int | None, until: int | None) -> None:
        """Rows have no rates."""

    def advance(self, time_ns: int) -> None:
        """Flows up to this time have come, if any did; more will, so that a connection may still follow."""
        self._again_ns = DEFAULT_TTL_S * SECOND
        self._requests.advance(time_ns)
        self._settle()

    def context(self, flow: Flow) -> None:
        """A flow of a second look: it counts for nothing, but tells of connections and Services."""
        self.take_context(told(flow))

    def take_context(self, known: Told) -> None:
        """The same, of what it tells."""
        self._services.learn(known)
        view = view_told(known)
        if view is None:
            self._connections.learn(known)
        elif view.dns is not None and view.dns.addresses:
            self._services.learn_name(view.dns.name)

    def cover(self, coverage: Coverage) -> None:
        """How far an answer of the server can be trusted."""
        self._reach.add(coverage)

    def see(self, namespaces: frozenset[str] | None) -> None:
        """Of which namespaces the caller may see flows."""
        self._reach.namespaces = namespaces

    def began(self) -> int | None:
        """At any time: a Service may have been named long before it was looked for."""
        return None

    def more(self) -> tuple[FlowFilter, ...]:
        """What to take a second look at: connections to what was found, and Services that were looked for in vain."""
        since = self._looked_ns - self._again_ns
        new = [each for each in self._unlinked if each.ended > since]
        missed = [(key, group) for key, group in self._groups.items() if key.outcome == NOT_FOUND]
        vain = {wanted(key.name, group.tried, group.namespace)[0] for key, group in missed} - {""}
        vain = set(sorted(vain - self._services_asked)[: filters.MOST_NAMES])
        self._services_asked |= vain
        addresses = [address for each in new for address in each.addresses]
        found = filters.of_connections((each.client.address for each in new), addresses)
        return (*found, *filters.of_services(vain), *filters.of_service_names(vain))

    def looked(self, doubt: str = "") -> None:
        """A second look has ended. doubt: why it did not bring all."""
        self._reach.doubt = self._reach.doubt or doubt
        self._looked_ns = max((each.ended for each in self._unlinked), default=self._looked_ns)

    def end(self) -> None:
        """Nothing else comes."""
        for request in self._requests.end():
            self._lookups.add(request)
        for lookup in self._lookups.end():
            self._count(lookup)

    def tables(self) -> list[Table]:
        """Names, failed ones first; then what each workload's search list costs, and the cure."""
        links: dict[Key, Counter[str]] = {}
        for lookup, key in self._unlinked.items():
            links.setdefault(key, Counter())[self._link(lookup)] += 1
        rows = [self._row(key, group, links.get(key, Counter())) for key, group in self._groups.items()]
        rows.sort(key=lambda row: (row["outcome"] == "resolved", -row["count"]))
        costs = [_cost_row(client, cost) for client, cost in self._costs.items() if cost.detours]
        costs.sort(key=lambda row: (-row["wasted_packets"], row["client"]))
        snippets = [f"{client}: in the pod's spec\n{cost.snippet}" for client, cost in self._costs.items() if cost.snippet]
        notes = [*overflow_note(self._groups), *self._losses()]
        return [
            Table("dns_name", COLUMNS, rows, notes=notes, empty="no DNS lookups"),
            Table("dns_cost", COSTS, costs, "what search lists (ndots) cost", snippets[:3] if costs else ()),
        ]

    def _losses(self) -> list[str]:
        cut = self._requests.cut_short + self._lookups.cut_short
        return [f"{cut:,} queries or lookups were counted before they had ended: too many at once"] if cut else []

    def _count(self, lookup: Lookup) -> None:
        key = Key(lookup.client.name, lookup.intended, lookup.outcome)
        group = self._groups[key]
        group.count += 1
        group.tries += len(lookup.tries) + lookup.more
        group.wasted += lookup.wasted
        group.lost_ns += lookup.lost_ns
        group.last_seen = max(group.last_seen, lookup.ended)
        group.found, group.addresses = lookup.final, lookup.addresses or group.addresses
        group.tried, group.namespace = tuple(lookup.names[:8]), lookup.client.namespace
        self._costs[lookup.client.name].add(lookup)
        if lookup.addresses:
            self._services.learn_name(lookup.final)
            self._unlinked[lookup] = Key(*self._groups.place(key))  # type: ignore[misc] # its keys are Keys
            if len(self._unlinked) > MOST_UNLINKED:
                oldest, its = self._unlinked.popitem(last=False)
                self._groups[its].links[self._link(oldest)] += 1

    def _link(self, lookup: Lookup) -> str:
        """The connection that followed; "none", or "unknown" where none may have been there to be seen."""
        if what := self._connections.after(lookup):
            return what
        return "none" if lookup.ended <= self._looked_ns and self._whole(lookup) else "unknown"

    def _whole(self, lookup: Lookup) -> bool:
        """Whether connections of the client would have been seen: by its own node's agent."""
        return self._reach.told and not self._reach.flaw(lookup.node, lookup.began, lookup.ended)

    def _row(self, key: Key, group: _Group, links: Counter[str]) -> Row:
        links = group.links + links
        linked = Counter({what: count for what, count in links.items() if what not in {"none", "unknown"}})
        told = linked.most_common(1)[0][0] if linked else "none" if links["none"] else "unknown" if links else ""
        found = key.outcome == "resolved"
        meant = self._services.meant(key.name, group.tried, group.namespace) if key.outcome == NOT_FOUND else ""
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
            "addresses": list(group.addresses),
            "connected": sum(linked.values()) if links else None,
            "not_connected": links["none"] if links else None,
        }


def _cost_row(client: str, cost: Cost) -> Row:
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
