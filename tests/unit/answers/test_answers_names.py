"""`flows dns names`: what resolvers make of one question, put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from answer_feeds import fed, rows
from answer_resolver import ELSEWHERE, EXTERNAL, OTHER_SERVER, SAME, SEARCH, Resolver
from answer_samples import SECOND, START, Pod, hubble, ordered
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.answers.lookups import Lookups
from flows.flow.answers.names import NamesAnswer
from flows.flow.answers.requests import Requests
from flows.flow.answers.search import continues, intended
from flows.flow.answers.view import view_of

if TYPE_CHECKING:
    from flows.flow.answers.lookup import Lookup
    from flows.proto.flow_pb2 import Flow


def lookups(flows: list[Flow]) -> list[Lookup]:
    requests, made = Requests(), Lookups()
    for flow in flows:
        view = view_of(flow)
        assert view is not None
        requests.add(view)
    for request in requests.end():
        made.add(request)
    return sorted(made.end(), key=lambda each: each.began)


CASES = {
    "glibc, outside name": (Resolver().glibc(EXTERNAL, EXTERNAL), [(EXTERNAL, "resolved", 8, 12)]),
    "musl, outside name": (Resolver().musl(EXTERNAL, EXTERNAL), [(EXTERNAL, "resolved", 16, 28)]),
    "glibc, own namespace": (Resolver().glibc(SAME, f"{SAME}.{SEARCH[0]}"), [("svc-b.demo.svc.cluster.local", "resolved", 2, 0)]),
    "glibc, other namespace": (Resolver().glibc(ELSEWHERE, f"{ELSEWHERE}.{SEARCH[1]}"), [(ELSEWHERE, "resolved", 4, 4)]),
    "glibc, nowhere": (Resolver().glibc(EXTERNAL, ""), [(EXTERNAL, "NXDOMAIN", 8, 12)]),
    "glibc, enough dots, then suffixes": (Resolver().glibc("a.b", "", ndots=1), [("a.b", "NXDOMAIN", 8, 12)]),
    "musl, enough dots": (Resolver().musl("a.b", "", ndots=1), [("a.b", "NXDOMAIN", 4, 4)]),
    "a node's own suffix": (
        Resolver().pair(f"db.{SEARCH[0]}", 3).pair(f"db.{SEARCH[1]}", 3).pair(f"db.{SEARCH[2]}", 3).pair("db.corp.example"),
        [("db", "resolved", 8, 12)],
    ),
    "a server that did not answer": (
        Resolver().ask("x.org", took=None, gave_up=5.0, wait=5).ask("x.org", attempt=2),
        [("x.org", "resolved", 2, 2)],
    ),
    "the next server after SERVFAIL": (
        Resolver().ask("x.org", rcode=2, wait=0.01).ask("x.org", server=OTHER_SERVER),
        [("x.org", "resolved", 2, 2)],
    ),
    "nobody answers": (
        Resolver().ask("x.org", took=None, gave_up=5.0, wait=5).ask("x.org", attempt=2, took=None, gave_up=5.0),
        [("x.org", "unanswered", 2, 1)],
    ),
    "the same again is another": (
        Resolver().pair("x.org").pair("x.org"),
        [("x.org", "resolved", 2, 0), ("x.org", "resolved", 2, 0)],
    ),
    "at once by two threads": (
        Resolver().ask("x.org", wait=0).ask("x.org", wait=0),
        [("x.org", "resolved", 1, 0), ("x.org", "resolved", 1, 0)],
    ),
    "other names do not belong": (
        Resolver().pair("www.example.com", 3).pair("www.example.org").pair("example.com"),
        [("www.example.com", "NXDOMAIN", 2, 0), ("www.example.org", "resolved", 2, 0), ("example.com", "resolved", 2, 0)],
    ),
    "after a pause it is another": (
        Resolver().pair(f"x.{SEARCH[0]}", 3).ask("y", wait=20).pair(f"x.{SEARCH[1]}", 3),
        [(f"x.{SEARCH[0]}", "NXDOMAIN", 2, 0), ("y", "resolved", 1, 0), (f"x.{SEARCH[1]}", "NXDOMAIN", 2, 0)],
    ),
    "a name without addresses": (Resolver().ask("x.org", ips=()).ask("x.org", "AAAA", ips=()), [("x.org", "NODATA", 2, 0)]),
    "other types": (Resolver().ask("_sip._tcp.x.org", "SRV", ips=()), [("_sip._tcp.x.org", "resolved", 1, 0)]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_queries_of_one_question_are_one_lookup(case: tuple[Resolver, list[tuple[str, str, int, int]]]) -> None:
    resolver, expected = case
    found = lookups(resolver.flows())
    assert [(each.intended, each.outcome, len(each.tries), each.wasted) for each in found] == expected


def test_time_is_lost_until_the_right_query_was_made() -> None:
    (searched,) = lookups(Resolver().glibc(EXTERNAL, EXTERNAL).flows())
    assert searched.lost_ns == pytest.approx(3 * 2_100_000, abs=1000)
    (again,) = lookups(Resolver().ask("x.org", took=None, gave_up=5.0, wait=5).ask("x.org", attempt=2).flows())
    assert again.lost_ns == 5 * SECOND


def test_processes_and_pods_are_kept_apart() -> None:
    other = Pod("demo/svc-a-2", "10.0.1.2", "node-1", pid=77)
    mixed = ordered(Resolver().glibc(EXTERNAL, EXTERNAL).flows() + Resolver(other, at=0.0005).glibc(EXTERNAL, EXTERNAL).flows())
    assert [(each.client.pod, len(each.tries)) for each in lookups(mixed)] == [("demo/svc-a-1", 8), ("demo/svc-a-2", 8)]


def test_lookups_are_given_once_they_are_over() -> None:
    requests, made = Requests(), Lookups()
    for flow in Resolver().glibc(EXTERNAL, EXTERNAL).flows():
        requests.add(view_of(flow))  # type: ignore[arg-type]
    for request in requests.end():
        made.add(request)
    assert list(made.done(START + 5 * SECOND)) == []
    assert [each.intended for each in made.done(START + 20 * SECOND)] == [EXTERNAL]
    assert list(made.end()) == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x.demo.svc.cluster.local", "x.svc.cluster.local"], "x"),
        (["x.y.demo.svc.cluster.local", "x.y.svc.cluster.local", "x.y"], "x.y"),
        (["x.y"], "x.y"),
        (["x", "x.demo.svc.cluster.local"], "x"),
        ([], ""),
    ],
)
def test_the_intended_name_is_what_all_have_in_common(names: list[str], expected: str) -> None:
    assert intended(names) == expected


LABEL = st.text("abcsv", min_size=1, max_size=3)
NAME = st.lists(LABEL, min_size=1, max_size=5).map(".".join)


@given(st.lists(NAME, max_size=5), NAME)
def test_any_names_can_be_compared(names: list[str], name: str) -> None:
    assert continues(names, name) in {True, False}
    assert all(each.startswith(intended(names)) or len(names) == 0 or intended(names) in names for each in names)


def test_flows_of_hubble_make_lookups_too() -> None:
    flows = [hubble("x.org", reply=False), hubble("x.org", reply=True, at=0.01, latency=0.01)]
    (row,) = rows(fed(NamesAnswer(), flows))
    assert (row["name"], row["outcome"], row["count"], row["connection"]) == ("x.org", "NODATA", 1, None)
