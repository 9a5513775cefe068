"""What a DNS server asks in turn: for which of its queries, by which of its addresses, and who let it wait."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from answer_feeds import coverage, fed, gap, rows
from answer_samples import DNS_POD, VIP, Pod, Query, ordered, server_view, upstream_query

from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.fates import Fates
from flows.flow.answers.recent import Recent
from flows.flow.answers.requests import Requests
from flows.flow.answers.told import told
from flows.flow.answers.view import view_of
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from flows.proto.flows_pb2 import Coverage

COMPLETE = coverage()
LOST = Query("lost.example.com", took=None, gave_up=5.0)
AGAIN = Query("lost.example.com", at=5.0, took=0.02, number=2, attempt=2)
KNOWN = [
    Query("ok.example.com", at=-1.0, number=90, query_id=3),
    server_view(Query("ok.example.com", at=-1.0, number=90, query_id=3)),
]
FAILED = Query("bad.example.com", rcode=2, took=0.001)
OTHER = replace(FAILED, client=Pod("demo/other-1", "10.0.1.7", "node-1"), at=6.0, took=0.05, number=50, query_id=99, port=41_000)
SOON, EARLIER = replace(OTHER, at=0.01), replace(OTHER, at=-1.0, took=2.0)
SLOW = Query("slow.example.com", took=2.003)
FIRST, SECOND_ONE = Pod("", "8.8.8.8"), Pod("", "8.8.4.4")


def dead(of: Query, at: float, server: Pod, number: int, **changes: object) -> Query:
    """An upstream's query that nobody answered."""
    return upstream_query(of, at=at, took=None, gave_up=5.0, server=server, number=number, port=50_000 + number, **changes)


# NodeLocal DNSCache, systemd-resolved, and a pod with two addresses.
CLIENT = Pod("demo/svc-a-1", "10.0.1.1", "node-1", pid=77)
LOCAL = Pod("", "169.254.20.10")
CACHE, CACHE_ASKS = (Pod("kube-system/nodelocal-1", address, "node-1") for address in ("169.254.20.10", "192.168.0.1"))
STUB, STUB_ASKS = (Pod("", address, "node-1", pid=600) for address in ("127.0.0.53", "10.0.1.250"))
APP = Pod("", "127.0.0.1", "node-1", pid=500)
BOTH_FAMILIES = Pod("kube-system/dns-1", "fd00::9", "node-2")
CACHED, STUBBED = replace(FAILED, client=CLIENT, server=LOCAL), replace(FAILED, client=APP, server=STUB)
BY_IPV6 = replace(FAILED, server=Pod("", "fd00::a", service="kube-system/kube-dns"))
IN_TURN = dead(CACHED, 0.0005, VIP, 2001, client=CACHE_ASKS, node="node-1")
NAMELESS = Pod("", "169.254.20.10", "node-1")

CASES = {
    "LOST_TO_SERVER: what was asked for the next attempt is not for this one": (
        [LOST, *KNOWN, AGAIN, server_view(AGAIN, took=0.019), upstream_query(AGAIN, took=0.018)],
        COMPLETE,
        "not seen at kube-system/kube-dns, though node-2 lost nothing",
    ),
    "LOST_TO_SERVER: nor what was asked for another client's": (
        [replace(FAILED, took=None, gave_up=5.0), *KNOWN, SOON, server_view(SOON, took=0.049), upstream_query(SOON, rcode=5)],
        COMPLETE,
        "not seen at kube-system/kube-dns",
    ),
    "unknown: nor what began long after it": (
        [LOST, *KNOWN, upstream_query(LOST, at=2.0, took=0.001)],
        gap("node-2"),
        "not seen at kube-system/kube-dns, but node-2 has a gap then",
    ),
    "SERVER_SILENT: also by who got both": (
        [LOST, server_view(LOST), AGAIN, server_view(AGAIN, took=0.019), upstream_query(AGAIN, took=0.018, rcode=5)],
        COMPLETE,
        "sent no reply; it asked nobody else",
    ),
    "unknown: whether who must have got it replied": (
        [LOST, upstream_query(LOST, took=0.001)],
        COMPLETE,
        "kube-system/dns must have got it, for it asked in turn and was answered; whether it replied was not seen",
    ),
    "UPSTREAM_FAILED: who must have got it was not answered well": (
        [LOST, upstream_query(LOST, took=0.001, rcode=5)],
        COMPLETE,
        "kube-system/dns must have got it, for it asked in turn; it asked 9.9.9.9, which answered REFUSED",
    ),
    "SERVER_REFUSED_IT: what was asked once it had answered": (
        [FAILED, server_view(FAILED, took=0.0005), OTHER, server_view(OTHER, took=0.049), upstream_query(OTHER, rcode=5)],
        COMPLETE,
        "answered SERVFAIL itself; it asked nobody else",
    ),
    "UPSTREAM_FAILED: what it had asked already is not asked again": (
        [
            replace(FAILED, took=1.0),
            server_view(FAILED, took=0.9995),
            EARLIER,
            server_view(EARLIER, took=1.99),
            upstream_query(EARLIER, took=1.989, rcode=5),
        ],
        COMPLETE,
        "it asked 9.9.9.9, which answered REFUSED after 2.0 s",
    ),
    "SERVER_REFUSED_IT: what had been answered before": (
        [FAILED, server_view(FAILED), EARLIER, server_view(EARLIER, took=0.5), upstream_query(EARLIER, took=0.4, rcode=5)],
        COMPLETE,
        "answered SERVFAIL itself; it asked nobody else",
    ),
    "SERVER_REFUSED_IT: even at once": (
        [FAILED, server_view(FAILED, took=0.0005), SOON, server_view(SOON, took=0.04), upstream_query(SOON, rcode=5)],
        COMPLETE,
        "answered SERVFAIL itself; it asked nobody else",
    ),
    "SERVER_REFUSED_IT: what another pod with the node's address asked": (
        [FAILED, server_view(FAILED), upstream_query(FAILED, client=replace(DNS_POD, name="demo/other-1"), rcode=5, took=0.0002)],
        COMPLETE,
        "answered SERVFAIL itself; it asked nobody else",
    ),
    "UPSTREAM_SLOW: a dead one before one that answers": (
        [SLOW, server_view(SLOW, took=2.0025), dead(SLOW, 0.0005, FIRST, 2001), upstream_query(SLOW, at=2.001, took=0.001)],
        COMPLETE,
        "it asked 8.8.8.8, which did not answer within 2.0 s",
    ),
    "UPSTREAM_SLOW: two dead ones share the time": (
        [
            SLOW,
            server_view(SLOW, took=2.0025),
            dead(SLOW, 0.0005, FIRST, 2001),
            dead(SLOW, 0.91, SECOND_ONE, 2002),
            upstream_query(SLOW, at=1.8, took=0.2),
        ],
        COMPLETE,
        "it asked 8.8.8.8, which did not answer within 909.5 ms",
    ),
    "UPSTREAM_SLOW: asked at once, one slow, one dead": (
        [SLOW, server_view(SLOW, took=2.0025), upstream_query(SLOW, took=2.0), dead(SLOW, 1.9, FIRST, 2001)],
        COMPLETE,
        "it asked 9.9.9.9, which took 2.0 s",
    ),
    "SERVER_SLOW: a dead one that took little of the time": (
        [SLOW, server_view(SLOW, took=2.0025), dead(SLOW, 0.0005, FIRST, 2001), upstream_query(SLOW, at=0.3, took=0.001)],
        COMPLETE,
        "took 2.0 s, though its upstream had answered",
    ),
    "unknown: whether an upstream answered": (
        [FAILED, server_view(FAILED), dead(FAILED, 0.0005, FIRST, 2001)],
        gap("node-2"),
        "it asked 8.8.8.8; whether that answered was not seen: node-2 has a gap then (it lost events)",
    ),
    "UPSTREAM_SLOW: of a cache that asks from its node's address": (
        [CACHED, server_view(CACHED, server=CACHE, node="node-1"), IN_TURN],
        COMPLETE,
        "kube-system/nodelocal answered SERVFAIL; it asked kube-system/kube-dns, which did not answer",
    ),
    "UPSTREAM_FAILED: of a process that listens on loopback": (
        [
            STUBBED,
            server_view(STUBBED, server=STUB, node="node-1"),
            upstream_query(STUBBED, client=STUB_ASKS, node="node-1", rcode=5, took=0.0002),
        ],
        COMPLETE,
        "127.0.0.53 answered SERVFAIL; it asked 9.9.9.9, which answered REFUSED",
    ),
    "UPSTREAM_FAILED: of a pod that is asked by IPv6 and asks by IPv4": (
        [BY_IPV6, server_view(BY_IPV6, server=BOTH_FAMILIES), upstream_query(BY_IPV6, rcode=5, took=0.0002)],
        COMPLETE,
        "kube-system/dns answered SERVFAIL; it asked 9.9.9.9, which answered REFUSED",
    ),
    "unknown: of who is known by an address only": (
        [CACHED, server_view(CACHED, server=NAMELESS, node="node-1")],
        COMPLETE,
        "whether it asked an upstream was not seen: it may have asked from another address",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("cause", "case"), CASES.items(), ids=CASES)
def test_a_server_answers_for_its_own_queries_only(cause: str, case: tuple[list[Query], Coverage, str]) -> None:
    queries, covered, evidence = case
    flows, of = ordered(flow for query in queries for flow in query.flows()), queries[0]
    fates = Fates()
    for flow in flows:
        fates.take(told(flow))
    fates.settle()
    judgement = fates.judged(covered)[of.node, of.connection, of.number]
    name = cause.partition(":")[0]
    assert (extension_pb2.Fate.Name(judgement.fate).replace("FATE_UNKNOWN", "unknown"), judgement.evidence) == (
        name,
        judgement.evidence,
    )
    assert evidence in judgement.evidence
    shown = rows(fed(DnsAnswer(), flows, covered))
    assert (name, judgement.evidence) in [(row["cause"], row["evidence"]) for row in shown if row["name"] == of.name]


def test_what_is_forgotten_is_not_found_by_any_end() -> None:
    made, recent = Requests(), Recent(2)
    for flow in ordered(flow for query in KNOWN for flow in query.flows()):
        made.add(view_of(flow))  # type: ignore[arg-type]
    (one,) = made.end()
    for _ in range(9):
        recent.add(one)
    assert len(list(recent)) == 2
    for index in (recent._asked, recent._got):
        assert {len(each) for each in index._by_question.values()} == {2}


def test_what_a_server_got_is_found_among_many_of_the_same_name() -> None:
    """A server that is asked for a name a thousand times in a second: which of them it asked its upstream for."""
    many = [
        replace(FAILED, at=0.1 + number / 1_250, number=100 + number, query_id=100 + number, port=41_000 + number)
        for number in range(1_000)
    ]
    asked_last = replace(AGAIN, name=FAILED.name, at=0.91, number=5_000)
    lost = replace(FAILED, took=None, gave_up=5.0)
    queries = [lost, *KNOWN, asked_last, server_view(asked_last), upstream_query(asked_last, rcode=5)]
    queries += [each for one in many for each in (one, server_view(one, number=one.number + 10_000))]
    fates = Fates()
    for flow in ordered(flow for query in queries for flow in query.flows()):
        fates.take(told(flow))
    fates.settle()
    assert fates.judged(COMPLETE)[lost.node, lost.connection, lost.number].fate == extension_pb2.LOST_TO_SERVER
