"""Upstream: what a DNS server asked in turn for a query that it got, and what of the query's trouble that explains."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from flows.flow.answers.place import address_at, client_traits, server_traits
from flows.flow.answers.requests import CLOCKS_NS, DNS_APART_NS, SECOND
from flows.flow.answers.view import SLOW_NS, State, rcode_name
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flows.flow.answers.place import Trait
    from flows.flow.answers.recent import Recent
    from flows.flow.answers.requests import Request
    from flows.flow.answers.servers import Servers
    from flows.flow.answers.view import View

# What a server does at once when it gets a query.
AT_ONCE_NS = 50_000_000
# The end of any resolver's patience.
PATIENCE_NS = 10 * SECOND


class Blame(NamedTuple):
    """fate: flows.v1.Fate. silent: the server's own query, if it is blamed because no answer to it was seen."""

    fate: int
    evidence: str
    silent: View | None = None


class Wait(NamedTuple):
    """One query of the server's, and from when to when it was waited for."""

    view: View
    begin: int
    end: int

    @property
    def lasted(self) -> int:
        return self.end - self.begin


def upstream_of(request: Request, recent: Recent, servers: Servers) -> list[Request]:
    """The server's own queries for the same name and type while it had this one, without those that it made for others."""
    server, until = request.at_server, _until(request)
    begin = (server or request.view).time
    found = recent.asked(request, _askers(request, servers), begin - (PATIENCE_NS if server else CLOCKS_NS), until + CLOCKS_NS)
    if server is None:
        own = [each for each in found if not _for_another(each, request, recent, PATIENCE_NS)]
        # One that got the query would have asked at once: what begins later began with something else.
        return own if any(abs(each.time - begin) < DNS_APART_NS for each in own) else []
    found = [each for each in found if _may_be_of(server, each.view) and _in_time(each, server, until)]
    if server.state is State.ANSWERED:  # whatever it had asked by then may have been waited for
        return found
    return [each for each in found if each.time - begin <= AT_ONCE_NS or not _for_another(each, request, recent, AT_ONCE_NS)]


def _in_time(query: Request, server: View, until: int) -> bool:
    """Whether it began while the server had the request, or was answered then: what is asked already is not asked again."""
    view, tolerance = query.view, CLOCKS_NS if query.view.node != server.node else 0
    if query.time < server.time - CLOCKS_NS:
        return view.state is State.ANSWERED and view.answered is not None and server.time <= view.answered <= until + tolerance
    return server.state is not State.ANSWERED or query.time <= until + tolerance


def _until(request: Request) -> int:
    """Up to when the server had the request."""
    view, server = request.view, request.at_server
    begin = (server or view).time
    ends = [each.answered for each in (server, view) if each is not None and each.state is State.ANSWERED]
    return min(next((each for each in ends if each is not None), begin + PATIENCE_NS), begin + PATIENCE_NS)


def _askers(request: Request, servers: Servers) -> set[Trait]:
    """By what the server's own queries are known; not by what it has in common with who asked it."""
    view, server = request.view, request.at_server
    found = {address_at(each, view.node) for each in (view.server.address, view.backend.address) if each}
    if server is not None:
        found |= server_traits(server)
    else:
        found |= {address_at(each, view.node) for each in servers.behind(view.server)}
    return found - client_traits(view)


def _may_be_of(server: View, query: View) -> bool:
    """Pods in a node's network share its address."""
    mine, its = server.server.pod, query.client.pod
    return not mine or not its or mine == its


def _for_another(query: Request, request: Request, recent: Recent, before: int) -> bool:
    """Whether the server got, so shortly before, another request that explains its query, and had not answered that yet."""
    for other in recent.got(query, query.time - before, query.time):
        server = other.at_server
        if server is not None and server is not request.at_server and (server.answered or query.time) >= query.time:
            return True
    return False


def blame(upstream: Sequence[Request], request: Request, got: str) -> Blame | None:
    """What the server's upstream has to answer for; None: nothing, or there was none. got: begins the evidence."""
    if not upstream:
        return None
    view, last = request.view, upstream[-1].view
    assert view.dns is not None
    assert last.dns is not None
    asked = f"{got}; it asked"
    if view.state is State.ANSWERED and not view.dns.rcode:  # with success: what failed or is still open was of no consequence
        return _slow(upstream, request, asked)
    if last.state is not State.ANSWERED:
        return Blame(extension_pb2.UPSTREAM_SLOW, f"{asked} {last.server.name}, which did not answer", last)
    if last.dns.rcode:
        took = f" after {in_words(last.latency)}" if last.latency is not None else ""
        evidence = f"{asked} {last.server.name}, which answered {rcode_name(last.dns.rcode)}{took}"
        return Blame(extension_pb2.UPSTREAM_FAILED, evidence)
    return _slow(upstream, request, asked)


def _slow(upstream: Sequence[Request], request: Request, asked: str) -> Blame | None:
    """Whether the server spent the time waiting; then who let it wait longest has to answer for it."""
    view, server = request.view, request.at_server
    until = server.answered if server is not None and server.answered is not None else view.changed
    patience = view.latency if view.state is State.ANSWERED and view.latency is not None else view.changed - view.time
    waits = list(_waits(upstream, (server or view).time, until))
    waited = _together(waits)
    if waited <= SLOW_NS or 2 * waited < patience:
        return None
    worst = max(waits, key=lambda each: each.lasted)
    silent = worst.view.state is not State.ANSWERED
    what = f"did not answer within {in_words(worst.lasted)}" if silent else f"took {in_words(worst.lasted)}"
    evidence = f"{asked} {worst.view.server.name}, which {what}"
    return Blame(extension_pb2.UPSTREAM_SLOW, evidence, worst.view if silent else None)


def _waits(upstream: Sequence[Request], since: int, until: int) -> Iterator[Wait]:
    """One that was not answered was waited for until the server asked the next, or answered without."""
    times = [*(each.time for each in upstream), max(until, upstream[-1].time)]
    for each, (begin, after) in zip(upstream, pairwise(times), strict=True):
        answered = each.view.state is State.ANSWERED
        end = begin + (each.view.latency or 0) if answered else after
        yield Wait(each.view, min(max(begin, since), end), end)


def _together(waits: Sequence[Wait]) -> int:
    """Time in which at least one was waited for. waits: by their beginning."""
    waited, end = 0, 0
    for each in waits:
        waited += max(0, each.end - max(each.begin, end))
        end = max(end, each.end)
    return waited


def in_words(nanoseconds: int) -> str:
    """`1.5 ms`, `2.0 s`."""
    return f"{nanoseconds / 1e9:.1f} s" if nanoseconds >= SECOND else f"{nanoseconds / 1e6:.1f} ms"
