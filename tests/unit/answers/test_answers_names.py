"""`flows dns names`: what resolvers make of one question, put together again; what followed; ndots; did you mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from answer_feeds import coverage, fed, rows
from answer_samples import SECOND, START, UPSTREAM, VIP, A, B, Pod, Query, connection, hubble, ordered
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.answers.lookups import Lookup, Lookups
from flows.flow.answers.names import NamesAnswer
from flows.flow.answers.requests import Requests
from flows.flow.answers.search import continues, intended
from flows.flow.answers.view import view_of

if TYPE_CHECKING:
    from flows.proto.flow_pb2 import Flow

SEARCH = ("demo.svc.cluster.local", "svc.cluster.local", "cluster.local")
OTHER_SERVER = Pod("", "10.96.0.11", service="kube-system/kube-dns")


class Resolver:
    """Queries as a libc makes them, one after the other from `at` on."""

    def __init__(self, client: Pod = A, at: float = 0.0) -> None:
        self.client, self.at, self.queries = client, at, list[Query]()

    def ask(self, name: str, qtype: str = "A", *, wait: float = 0.001, **fields: object) -> Resolver:
        number = len(self.queries) + 1 + round(self.at * 1_000_000)
        values = {
            "name": name,
            "qtype": qtype,
            "client": self.client,
            "at": self.at,
            "number": number,
            "query_id": number & 0xFFFF,
        }
        query = Query(**(values | {"port": 30_000 + len(self.queries)} | fields))  # type: ignore[arg-type]
        self.queries.append(query)
        self.at += wait
        return self

    def pair(self, name: str, rcode: int = 0, **fields: object) -> Resolver:
        """A and AAAA at once, as glibc and musl do; AAAA has no address."""
        self.ask(name, "A", wait=0.0001, rcode=rcode, **fields)
        return self.ask(name, "AAAA", wait=0.002, rcode=rcode, ips=(), **fields)

    def glibc(self, name: str, found: str, ndots: int = 5) -> Resolver:
        """The whole search of a name; found: the one that exists, "" for none."""
        tries = [f"{name}.{suffix}" for suffix in SEARCH]
        tries = [*tries, name] if name.count(".") < ndots else [name, *tries]
        for each in tries:
            self.pair(each, rcode=0 if each == found else 3)
            if each == found:
                break
        return self

    def musl(self, name: str, found: str, ndots: int = 5) -> Resolver:
        """As glibc, but to both servers at once, and no suffix for a name with enough dots."""
        tries = [name] if name.count(".") >= ndots else [*(f"{name}.{suffix}" for suffix in SEARCH), name]
        for each in tries:
            rcode = 0 if each == found else 3
            for server in (VIP, OTHER_SERVER):
                self.ask(each, "A", wait=0, rcode=rcode, server=server)
                self.ask(each, "AAAA", wait=0, rcode=rcode, ips=(), server=server)
            self.at += 0.002
            if each == found:
                break
        return self

    def flows(self) -> list[Flow]:
        return ordered(flow for query in self.queries for flow in query.flows())


def lookups(flows: list[Flow]) -> list[Lookup]:
    requests, made = Requests(), Lookups()
    for flow in flows:
        view = view_of(flow)
        assert view is not None
        requests.add(view)
    for request in requests.end():
        made.add(request)
    return sorted(made.end(), key=lambda each: each.began)


EXTERNAL, SAME, ELSEWHERE = "api.example.com", "svc-b", "svc-b.prod"

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


ANSWERED = Query("cdn.example.com", ips=("93.184.216.34",), ttl=10)


@pytest.mark.parametrize(
    ("flows", "told", "expected"),
    [
        ([connection(A, Pod("", "93.184.216.34"), at=2)], coverage(), "93.184.216.34 TCP 443"),
        ([connection(A, Pod("", "93.184.216.34"), at=12)], coverage(), "none"),
        ([connection(A, Pod("", "93.184.216.34"), at=2, started=-9)], coverage(), "none"),
        ([connection(B, Pod("", "93.184.216.34"), at=2)], coverage(), "none"),
        ([connection(A, UPSTREAM, at=2)], coverage(), "none"),
        ([], coverage(without=["node-1"]), "unknown"),
        ([], None, "unknown"),
        ([], coverage(without=["node-2"]), "none"),
    ],
    ids=["in time", "after the TTL", "older", "another pod's", "elsewhere", "node away", "no coverage", "another node away"],
)
def test_a_lookup_is_linked_to_what_followed(flows: list[Flow], told: object, expected: str) -> None:
    answer = fed(NamesAnswer(), ANSWERED.flows(), told, look=flows)  # type: ignore[arg-type]
    (row,) = rows(answer)
    assert row["connection"] == expected
    assert (row["connected"], row["not_connected"]) == (int(":" in expected or "TCP" in expected), int(expected == "none"))


def test_connections_are_asked_for_by_client_and_address() -> None:
    answer = NamesAnswer()
    for flow in ANSWERED.flows():
        answer.add(flow)
    answer.end()
    (wanted,) = answer.more()
    assert (list(wanted.source_ip), list(wanted.destination_ip)) == (["10.0.1.1"], ["93.184.216.34"])
    answer.looked()
    assert answer.more() == ()


def test_the_price_of_ndots_and_its_cure() -> None:
    flows = Resolver().glibc(EXTERNAL, EXTERNAL).flows() + Resolver(at=60).glibc(ELSEWHERE, f"{ELSEWHERE}.{SEARCH[1]}").flows()
    (cost,) = rows(fed(NamesAnswer(), flows, coverage()), 1)
    assert {key: cost[key] for key in ("client", "lookups", "queries", "detours", "wasted_packets", "ndots")} == {
        "client": "demo/svc-a", "lookups": 2, "queries": 12, "detours": 2, "wasted_packets": 16, "ndots": 2,
    }  # fmt: skip
    assert cost["names"] == ["api.example.com.", "svc-b.prod.svc.cluster.local."]
    assert cost["fix"] == (
        'ask for "api.example.com.", "svc-b.prod.svc.cluster.local." with the dot at the end'
        ", or set ndots to 2 in the pod's dnsConfig"
    )
    assert cost["dns_config"] == 'dnsConfig:\n  options:\n    - name: ndots\n      value: "2"\n'


@pytest.mark.parametrize(
    ("resolver", "ndots"),
    [
        (Resolver().glibc(EXTERNAL, EXTERNAL), 1),
        (Resolver().glibc(ELSEWHERE, f"{ELSEWHERE}.{SEARCH[1]}"), None),
        (Resolver().glibc("nosuch", ""), None),
    ],
    ids=["outside names only", "no name would be spared", "no name has a dot"],
)
def test_another_ndots_is_advised_only_where_it_helps(resolver: Resolver, ndots: int | None) -> None:
    (cost,) = rows(fed(NamesAnswer(), resolver.flows(), coverage()), 1)
    assert cost["ndots"] == ndots


def test_names_that_are_found_at_once_cost_nothing() -> None:
    assert rows(fed(NamesAnswer(), Resolver().pair(EXTERNAL).flows(), coverage()), 1) == []


@pytest.mark.parametrize(
    ("missed", "known", "expected"),
    [
        ("svc-b", Pod("", "10.96.0.20", service="prod/svc-b"), "svc-b.prod"),
        ("svc-b.test", Pod("", "10.96.0.20", service="prod/svc-b"), "svc-b.prod"),
        ("svc-bb", Pod("", "10.96.0.20", service="demo/svc-b"), "svc-b.demo"),
        ("unlike", Pod("", "10.96.0.20", service="prod/svc-b"), None),
        ("www.example.com", Pod("", "10.96.0.20", service="prod/www"), None),
    ],
)
def test_did_you_mean_a_service_of_another_namespace(missed: str, known: Pod, expected: str | None) -> None:
    flows = Resolver().glibc(missed, "").flows()
    (row,) = rows(fed(NamesAnswer(), flows, coverage(), look=[connection(A, known)]))
    assert (row["name"], row["outcome"], row["did_you_mean"]) == (missed, "NXDOMAIN", expected)


def test_services_that_were_looked_for_in_vain_are_asked_for_once() -> None:
    answer = NamesAnswer()
    for flow in Resolver().glibc("svc-b", "").flows():
        answer.add(flow)
    answer.end()
    by_service, by_name = answer.more()
    assert list(by_service.destination_service) == ["/svc-b"]
    assert "svc\\-b[.][^.]+[.]svc[.]" in by_name.dns_query[0]
    assert answer.more() == ()


def test_a_name_that_resolved_for_others_tells_of_a_service() -> None:
    resolved = Query("svc-b.prod.svc.cluster.local", client=B, number=99)
    (row,) = rows(fed(NamesAnswer(), Resolver().glibc("svc-b", "").flows(), coverage(), look=resolved.flows()))
    assert row["did_you_mean"] == "svc-b.prod"


def test_flows_of_hubble_make_lookups_too() -> None:
    flows = [hubble("x.org", reply=False), hubble("x.org", reply=True, at=0.01, latency=0.01)]
    (row,) = rows(fed(NamesAnswer(), flows))
    assert (row["name"], row["outcome"], row["count"], row["connection"]) == ("x.org", "NODATA", 1, None)
