"""The answer of `flows dns names`: what was asked for, what came of it, what followed, and what search lists cost."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, cast

from flows.flow.answers import filters
from flows.flow.answers.connections import DEFAULT_TTL_S, Connections, watched_until
from flows.flow.answers.lookups import Lookups
from flows.flow.answers.meant import Services, wanted
from flows.flow.answers.names_rows import COLUMNS, COSTS, OTHER_KEY, Group, Key, cost_row, row
from flows.flow.answers.ndots import Cost
from flows.flow.answers.parted import Parted
from flows.flow.answers.reach import Reach
from flows.flow.answers.requests import SECOND, Request, Requests
from flows.flow.answers.table import OTHER, Groups, Table, overflow_note
from flows.flow.answers.told import told
from flows.flow.answers.view import view_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.answers.lookup import Lookup
    from flows.flow.answers.table import Column, Row
    from flows.flow.answers.told import Told
    from flows.proto.flow_pb2 import Flow, FlowFilter
    from flows.proto.flows_pb2 import Coverage

# Lookups that wait to be linked.
MOST_UNLINKED = 10_000
NOT_FOUND = "NXDOMAIN"


class NamesAnswer:
    """Flows in, tables out. add: what was asked for; context: what only helps to explain it."""

    columns: Sequence[Column] = (*COLUMNS, *(each for each in COSTS if each not in COLUMNS))
    explains = True
    remembers = False  # connections and Services are not taken from flows of requests alone

    def __init__(self, *, filtered: bool = False, parted: bool = False) -> None:  # noqa: ARG002 - a second look is always needed
        """parted: of a request only some flows may come."""
        self._parted = Parted(parted=parted)
        self._requests, self._lookups, self._reach = Requests(), Lookups(), Reach()
        self._services, self._connections = Services(), Connections()
        self._groups: Groups[Group] = Groups(lambda _: Group(), OTHER_KEY)
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
            self._add(request)
        for lookup in self._lookups.done(self._requests.watermark):
            self._count(lookup)

    def _add(self, request: Request) -> None:
        if not self._parted.leaves_out(request):
            self._lookups.add(request)

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
        found = filters.of_connections((each.client.address for each in new if each.addresses), addresses)
        return (*found, *filters.of_services(vain), *filters.of_service_names(vain))

    def looked(self, doubt: str = "") -> None:
        """A second look has ended. doubt: why it did not bring all."""
        self._reach.doubt = self._reach.doubt or doubt
        self._looked_ns = max((each.ended for each in self._unlinked), default=self._looked_ns)

    def end(self) -> None:
        """Nothing else comes."""
        for request in self._requests.end():
            self._add(request)
        for lookup in self._lookups.end():
            self._count(lookup)

    def tables(self) -> list[Table]:
        """Names, failed ones first; then what each workload's search list costs, and the cure."""
        links: dict[Key, Counter[str]] = {}
        for lookup, key in self._unlinked.items():
            links.setdefault(key, Counter())[self._link(lookup)] += 1
        rows = [self._row(key, group, links.get(key, Counter())) for key, group in self._groups.items()]
        rows.sort(key=lambda row: (row["outcome"] == "resolved", -row["count"]))
        costs = [cost_row(client, cost) for client, cost in self._costs.items() if cost.detours]
        costs.sort(key=lambda row: (-row["wasted_packets"], row["client"]))
        notes = [*overflow_note(self._groups), *self._losses(), *self._parted.notes]
        return [
            Table("dns_name", COLUMNS, rows, notes=notes, empty=self._parted.none("no DNS lookups")),
            Table("dns_cost", COSTS, costs, "what search lists (ndots) cost", self._snippets() if costs else ()),
        ]

    def _snippets(self) -> list[str]:
        """What to write into specs of pods, in lines: among several of one note, a name could forge one."""
        snippets = {client: cost.snippet for client, cost in self._costs.items() if cost.snippet}
        return [
            line for client in list(snippets)[:3] for line in (f"{client}: in the pod's spec", *snippets[client].splitlines())
        ]

    def _losses(self) -> list[str]:
        cut = self._requests.cut_short + self._lookups.cut_short
        return [f"{cut:,} queries or lookups were counted before they had ended: too many at once"] if cut else []

    def _count(self, lookup: Lookup) -> None:
        key = Key(lookup.client.name, lookup.intended, lookup.outcome)
        self._groups[key].add(lookup)
        self._costs[lookup.client.name].add(lookup)
        if lookup.found:
            self._services.learn_name(lookup.final)
            self._unlinked[lookup] = cast(Key, self._groups.place(key))
            if len(self._unlinked) > MOST_UNLINKED:
                oldest, its = self._unlinked.popitem(last=False)
                self._groups[its].links[self._link(oldest)] += 1

    def _link(self, lookup: Lookup) -> str:
        """The connection that followed; "none", or "unknown" where one may have been there without being seen, or recognized."""
        if what := self._connections.after(lookup):
            return what
        return "none" if lookup.ended <= self._looked_ns and not lookup.cut and self._whole(lookup) else "unknown"

    def _whole(self, lookup: Lookup) -> bool:
        """Whether connections of the client would have been seen: by its own node's agent."""
        return self._reach.told and not self._reach.flaw(lookup.node, lookup.began, watched_until(lookup))

    def _row(self, key: Key, group: Group, links: Counter[str]) -> Row:
        missed = key.outcome == NOT_FOUND
        return row(key, group, links, self._services.meant(key.name, group.tried, group.namespace) if missed else "")
