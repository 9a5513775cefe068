"""The answer of `flows dns`: what failed, was slow or was not answered, why, and how much there was of it in all."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from flows.flow.answers import filters
from flows.flow.answers.dns_rows import (
    COLUMNS,
    FAILURE_RANK,
    NO_ANSWER_SEEN,
    OTHER_KEY,
    RANKS,
    SLOW,
    TOTALS,
    UNANSWERED,
    WAITING,
    Group,
    Key,
    Total,
    row,
    total_row,
)
from flows.flow.answers.drops import Drops
from flows.flow.answers.fate import Judge, Judgement, troubled
from flows.flow.answers.latency import ACCURACY_NOTE
from flows.flow.answers.parted import Parted
from flows.flow.answers.reach import Reach
from flows.flow.answers.recent import Recent
from flows.flow.answers.requests import SECOND, Request, Requests
from flows.flow.answers.servers import Servers
from flows.flow.answers.table import OTHER, Groups, Table, overflow_note
from flows.flow.answers.told import told
from flows.flow.answers.unseen import Unseen
from flows.flow.answers.upstream import upstream_of
from flows.flow.answers.view import SLOW_NS, State, is_slow, rcode_name, view_told
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.answers.table import Column
    from flows.flow.answers.told import Told
    from flows.proto.flow_pb2 import Flow, FlowFilter
    from flows.proto.flows_pb2 import Coverage

# Troubled requests of which the cause may still become known, and recent questions among which it is looked for.
MOST_TROUBLED, MOST_RECENT = 5_000, 30_000
# A cause is looked for anew as long as what tells of it may still come.
YOUNG_NS = 20 * SECOND
# How long a query without an outcome is only waiting: the agents' DNS timeout, and some more.
PATIENCE_NS = 6 * SECOND


class DnsAnswer:
    """Flows in, tables out. add: what was asked for; context: what only helps to explain it."""

    columns: Sequence[Column] = (*COLUMNS, *(each for each in TOTALS if each not in COLUMNS))
    explains = remembers = True

    def __init__(self, *, filtered: bool = False, parted: bool = False) -> None:
        """filtered: only some flows come to `add`, so that causes are told only of names that a second look was for.

        parted: of a request, too, only some flows may come.
        """
        self._filtered = filtered
        self._looked: dict[str, int] = {}  # name -> up to when
        self._doubts: dict[str, str] = {}  # name -> why not all was brought that was looked for
        self._asked_for: list[str] = []
        self._services_asked: set[str] = set()
        self._covered = 0  # up to when coverage was told
        self._parted = Parted(parted=parted)
        self._requests, self._others = Requests(), Requests()
        self._reach, self._servers, self._drops, self._unseen = Reach(), Servers(), Drops(), Unseen()
        self._groups: Groups[Group] = Groups(lambda _: Group(), OTHER_KEY)
        self._totals: Groups[Total] = Groups(lambda _: Total(), (OTHER, OTHER))
        self._recent = Recent(MOST_RECENT)
        self._troubled: OrderedDict[Request, Key] = OrderedDict()
        self._absent: OrderedDict[Request, Key] = OrderedDict()  # NXDOMAIN, of which search lists make many
        self._judgements: dict[Request, Judgement] = {}  # of troubled ones, until more is known

    def add(self, flow: Flow) -> None:
        """A flow that was asked for; others than DNS are looked at for drops only."""
        self.take(told(flow))

    def take(self, known: Told) -> None:
        """The same, of what it tells."""
        view = view_told(known)
        if view is None or view.dns is None:
            self._drops.take(known)
            return
        self._requests.add(view)
        self._servers.learn_view(view)
        self._settle()

    def _settle(self) -> None:
        for request in self._requests.settled():
            self._count(request)

    def within(self, since: int | None, until: int | None) -> None:
        """Rows have no rates."""

    def advance(self, time_ns: int) -> None:
        """Flows up to this time have come, if any did."""
        self._requests.advance(time_ns)
        self._settle()

    def context(self, flow: Flow) -> None:
        """A flow of a second look: it counts for nothing, but tells of causes."""
        self.take_context(told(flow))

    def take_context(self, known: Told) -> None:
        """The same, of what it tells."""
        if (view := view_told(known)) is None or view.dns is None:
            self._servers.learn_opener(known)
            self._drops.take(known)
            return
        self._others.add(view)
        self._servers.learn_view(view)

    def cover(self, coverage: Coverage) -> None:
        """How far an answer of the server can be trusted."""
        self._reach.add(coverage, None if self._filtered else self._requests.watermark)
        self._covered = self._requests.watermark
        self._judgements.clear()

    def see(self, namespaces: frozenset[str] | None) -> None:
        """Of which namespaces the caller may see flows; None: of all."""
        self._reach.namespaces = namespaces
        self._judgements.clear()

    def began(self) -> int | None:
        """When the first of what is looked into was asked, ns since 1970; None: there is nothing."""
        return min((each.time for each in self._kept()), default=None)

    def more(self) -> tuple[FlowFilter, ...]:
        """What to take a second look at: the same names, whoever asked; if all was asked for, only for how far that is all."""
        services = self._homeless()
        if not self._filtered:
            fresh = any(each.view.changed > self._covered and each.view.number >= 0 for each in self._kept())
            return (*filters.of_callers(services), *([filters.of_drops()] if fresh or services else []))
        worst = sorted(self._kept().items(), key=lambda each: (RANKS.get(each[1].result, FAILURE_RANK), -each[0].time))
        names: dict[str, None] = {}
        for request, key in worst:
            told = request.view.dns is not None and request.view.dns.fate
            if not told and self._looked.get(key.name, 0) < request.view.changed:
                names[key.name] = None
        found, self._asked_for = filters.of_names(names)
        return (*found, *filters.of_callers(services), filters.of_drops()) if found else ()

    def _homeless(self) -> list[str]:
        """DNS Services that did not answer, and of whose pods nothing is known; each is given once."""
        found = {
            view.server.service
            for request in self._troubled
            if (view := request.view).state is State.GIVEN_UP and view.server.service and not self._servers.behind(view.server)
        }
        new = sorted(found - self._services_asked)[: filters.MOST_NAMES]
        self._services_asked |= set(new)
        return new

    def _kept(self) -> dict[Request, Key]:
        """All that is looked into."""
        return self._absent | self._troubled

    def looked(self, doubt: str = "") -> None:
        """A second look has ended: what was fetched for it is put together, also with what was known before.

        doubt: why it did not bring all.
        """
        names = set(self._asked_for)
        if names:
            self._doubts |= dict.fromkeys(names, doubt)
        elif doubt:
            self._reach.doubt = doubt
        for request in self._recent:
            view = request.at_client
            if view is not None and request.at_server is None and view.dns is not None and view.dns.name in names:
                self._others.add(replace(view, dns=replace(view.dns)))
        for request in self._others.end():
            self._servers.learn(request)
            self._recent.add(request)
            self._complete(request)
        if names and not doubt:
            self._learn_unseen(names)
        self._others = Requests()
        self._judgements.clear()
        if len(self._looked) > MOST_RECENT:
            self._looked.clear()
            self._doubts.clear()
        self._looked |= dict.fromkeys(self._asked_for, self._requests.watermark)
        self._covered = self._requests.watermark

    def _learn_unseen(self, names: set[str]) -> None:
        """What is not seen at any server although a second look was for its name."""
        began, (_, end) = self.began(), self._requests.whole
        for request in self._recent:
            view = request.view
            if began is not None and view.dns is not None and view.dns.name in names:
                self._unseen.learn(request, began, end)

    def end(self) -> None:
        """Nothing else comes."""
        for request in self._requests.end():
            self._count(request)

    def tables(self) -> list[Table]:
        """Troubles first, then totals."""
        told = self._judged()
        rows = [row(key, group, told.get(key)) for key, group in self._groups.items()]
        rows.sort(key=lambda each: (RANKS.get(each["result"], FAILURE_RANK), -each["count"]))
        notes = [ACCURACY_NOTE, f"slow: more than {SLOW_NS // 1_000_000} ms", *overflow_note(self._groups), *self._losses()]
        totals = sorted((total_row(key, total) for key, total in self._totals.items()), key=lambda each: -each["queries"])
        return [
            Table("dns", COLUMNS, rows, empty="no DNS queries"),
            Table("dns_total", TOTALS, totals, "totals", notes),
        ]

    def _losses(self) -> list[str]:
        found = self._parted.notes
        if self._requests.cut_short:
            found.append(f"{self._requests.cut_short:,} queries were counted before their outcome: too many at once")
        return found

    def _count(self, request: Request) -> None:
        view = request.view
        dns = view.dns
        assert dns is not None
        self._servers.learn(request)
        self._recent.add(request)
        if self._parted.leaves_out(request):
            return
        if not self._filtered:  # else the server's view may not have been asked for
            self._unseen.learn(request, *self._requests.whole)
        key = Key(view.client.name, view.server.name, dns.name, dns.qtype, self._result(request))
        self._groups[key].add(request)
        self._totals[view.client.name, view.server.name].add(request, key.result)
        if troubled(request):
            self._keep(request, key)

    def _keep(self, request: Request, key: Key) -> None:
        """So that its cause can still be found; the oldest go if there are too many."""
        shelf = self._absent if key.result == "NXDOMAIN" else self._troubled
        shelf[request] = key
        if len(shelf) > MOST_TROUBLED:
            oldest, its = shelf.popitem(last=False)
            self._judgements.pop(oldest, None)
            evidence = f"only the newest {MOST_TROUBLED:,} queries that went wrong are looked into"
            self._groups[its].judge(Judgement(extension_pb2.FATE_UNKNOWN, evidence))

    def _complete(self, other: Request) -> None:
        """A second look may bring the server's view of a request that was counted without."""
        if other.at_server is None:
            return
        for each in self._recent.twins(other):
            if each.at_server is None and each.at_client is not None:
                each.at_server = other.at_server

    def _judge(self, request: Request) -> Judgement:
        known = self._judgements.get(request)
        if known is not None:
            return known
        view = request.view
        assert view.dns is not None
        if self._filtered and not view.dns.fate and self._looked.get(view.dns.name, 0) < view.changed:
            return Judgement(extension_pb2.FATE_UNKNOWN, "what its server did was not asked for (yet)")
        upstream = upstream_of(request, self._recent, self._servers)
        doubt = self._doubts.get(view.dns.name)
        reach = self._reach.doubtful(doubt) if doubt else self._reach
        judgement = Judge(reach, self._servers, self._drops, self._unseen).fate(request, upstream)
        if view.changed < self._requests.watermark - YOUNG_NS:
            self._judgements[request] = judgement
        return judgement

    def _judged(self) -> dict[Key, Group]:
        """Causes of what is kept, by row."""
        told: dict[Key, Group] = {}
        for request, key in self._kept().items():
            told.setdefault(cast(Key, self._groups.place(key)), Group()).judge(self._judge(request))
        return told

    def _result(self, request: Request) -> str:
        view = request.view
        assert view.dns is not None
        if view.state is State.GIVEN_UP:
            return UNANSWERED
        if view.state is State.ASKED:
            return NO_ANSWER_SEEN if self._requests.watermark - view.time > PATIENCE_NS else WAITING
        if view.dns.rcode:
            return rcode_name(view.dns.rcode)
        return SLOW if is_slow(view) else "NOERROR"
