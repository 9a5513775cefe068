"""Where a DNS query died: one case per cause, and what cannot be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from answer_feeds import coverage, fed, gap, rows
from answer_samples import (
    DNS_POD,
    SECOND,
    START,
    UPSTREAM,
    B,
    Pod,
    Query,
    connection,
    ordered,
    server_view,
    upstream_query,
)

from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.fates import Fates
from flows.flow.answers.told import extension_of, told
from flows.flow.answers.view import view_of
from flows.proto import extension_pb2, flows_pb2

if TYPE_CHECKING:
    from flows.flow.answers.fate import Judgement
    from flows.proto.flow_pb2 import Flow
    from flows.proto.flows_pb2 import Coverage

LOST = Query("lost.example.com", took=None, gave_up=5.0)
FAILED = Query("bad.example.com", rcode=2)
SLOW = Query("slow.example.com", took=2.0)
LATE = Query("late.example.com", took=6.0, gave_up=5.0, late=True)
# So that the pod behind the Service is known.
KNOWN = [
    Query("ok.example.com", at=-1.0, number=90, query_id=3),
    server_view(Query("ok.example.com", at=-1.0, number=90, query_id=3)),
]
COMPLETE, PARTIAL = coverage(), coverage(without=["node-2"])

CASES = {
    "SERVER_SILENT": (
        [LOST, server_view(LOST)],
        COMPLETE,
        "kube-system/dns got it (seen on node-2) and sent no reply; it asked nobody",
    ),
    "LOST_TO_SERVER": ([LOST, *KNOWN], COMPLETE, "left node-1, not seen at kube-system/kube-dns, though node-2 lost nothing"),
    "LOST_TO_CLIENT": ([LOST, server_view(LOST, took=0.001)], COMPLETE, "replied after 1.0 ms; node-1 did not see the reply"),
    "UPSTREAM_SLOW": (
        [LOST, server_view(LOST), upstream_query(LOST, gave_up=5.0)],
        COMPLETE,
        "it asked 9.9.9.9, which did not answer",
    ),
    "UPSTREAM_SLOW ": (
        [SLOW, server_view(SLOW), upstream_query(SLOW, took=1.9)],
        COMPLETE,
        "which took 1.9 s",
    ),
    "UPSTREAM_FAILED": (
        [FAILED, server_view(FAILED), upstream_query(FAILED, rcode=5, took=0.0002)],
        COMPLETE,
        "answered SERVFAIL; it asked 9.9.9.9, which answered REFUSED",
    ),
    "UPSTREAM_SLOW  ": (
        [FAILED, server_view(FAILED), upstream_query(FAILED, took=None, gave_up=5.0)],
        COMPLETE,
        "answered SERVFAIL; it asked 9.9.9.9, which did not answer",
    ),
    "SERVER_REFUSED_IT": (
        [FAILED, server_view(FAILED)],
        COMPLETE,
        "kube-system/dns answered SERVFAIL itself; it asked nobody else",
    ),
    "SERVER_SLOW": ([LATE, server_view(LATE)], COMPLETE, "kube-system/dns took 6.0 s; it asked nobody else"),
    "SERVER_SLOW ": (
        [LOST, server_view(LOST, took=7.0)],
        COMPLETE,
        "replied after 7.0 s, too late; it asked nobody else",
    ),
    "unknown: the server's node did not answer": (
        [LOST, *KNOWN],
        PARTIAL,
        "not seen at kube-system/kube-dns, but node-2 did not answer",
    ),
    "unknown: nobody knows where the server is": ([LOST], COMPLETE, "on a node that is not known"),
    "unknown: no coverage": ([LOST, *KNOWN], None, "the server does not tell what was watched"),
    "unknown: the client's node has a gap": (
        [LOST, server_view(LOST, took=0.001)],
        gap("node-1"),
        "replied after 1.0 ms; whether node-1 got the reply was not seen: node-1 has a gap then (it lost events)",
    ),
    "unknown: the server's node was down": (
        [LOST, server_view(LOST)],
        gap("node-2", flows_pb2.DOWN),
        "kube-system/dns got it (seen on node-2); whether it replied was not seen: node-2 has a gap then (it was down)",
    ),
    "unknown: no coverage of what the server did": (
        [LOST, server_view(LOST)],
        None,
        "whether it replied was not seen: the server does not tell what was watched",
    ),
    "unknown: failure of a server that is not watched": (
        [Query("bad.example.com", server=UPSTREAM, rcode=2)],
        COMPLETE,
        "the server is outside of what is watched",
    ),
    "unknown: an answer that no server gave": (
        [FAILED, *KNOWN],
        COMPLETE,
        "none of its pods that are watched saw the query",
    ),
    "unknown: the way": ([SLOW, server_view(SLOW, took=0.002)], COMPLETE, "the rest of 2.0 s passed on the way"),
}  # fmt: skip


def judged(flows: list[Flow], covered: Coverage | None, of: Query) -> Judgement:
    fates = Fates()
    for flow in flows:
        fates.take(told(flow))
    fates.settle()
    return fates.judged(covered)[of.node, of.connection, of.number]


def trouble(answer: DnsAnswer) -> dict[str, object]:
    return next(row for row in rows(answer) if row["cause"] is not None and row["client"] == "demo/svc-a")


@pytest.mark.parametrize(("cause", "case"), CASES.items(), ids=CASES)
def test_a_cause_and_its_evidence(cause: str, case: tuple[list[Query], Coverage | None, str]) -> None:
    queries, told, evidence = case
    row = trouble(fed(DnsAnswer(), ordered(flow for query in queries for flow in query.flows()), told))
    assert row["cause"] == cause.partition(":")[0].strip()
    assert evidence in str(row["evidence"])


@pytest.mark.parametrize(("cause", "case"), CASES.items(), ids=CASES)
def test_the_same_to_who_serves_flows(cause: str, case: tuple[list[Query], Coverage | None, str]) -> None:
    queries, covered, evidence = case
    judgement = judged(ordered(flow for query in queries for flow in query.flows()), covered, queries[0])
    name = extension_pb2.Fate.Name(judgement.fate)
    assert name == ("FATE_UNKNOWN" if cause.startswith("unknown") else cause.strip())
    assert evidence in judgement.evidence


def test_whose_view_it_is_is_told_by_the_end_that_is_named_by_its_cgroup() -> None:
    for flow in LOST.flows() + FAILED.flows():
        extension = extension_of(flow)
        reply = flow.is_reply.value
        client, server = (extension.destination, extension.source) if reply else (extension.source, extension.destination)
        for observed in (True, False):  # whatever it says of the source
            extension.connection.observed_at_source = observed
            client.evidence, server.evidence = extension_pb2.CGROUP, extension_pb2.ADDRESS
            flow.extensions.Pack(extension)
            assert view_of(flow).at_client is True  # type: ignore[union-attr]
            client.evidence, server.evidence = extension_pb2.PEER, extension_pb2.CGROUP
            flow.extensions.Pack(extension)
            assert view_of(flow).at_client is False  # type: ignore[union-attr]


def test_what_the_server_of_the_flow_says_goes_before_what_is_concluded_here() -> None:
    told = Query("x.example.com", took=None, gave_up=5.0, fate=extension_pb2.NEVER_LEFT)
    assert trouble(fed(DnsAnswer(), told.flows(), COMPLETE))["cause"] == "NEVER_LEFT"


def test_with_filters_causes_come_from_a_second_look() -> None:
    answer = DnsAnswer(filtered=True)
    fed_flows = ordered([*FAILED.flows(), *server_view(FAILED).flows()])
    for flow in fed_flows:
        answer.add(flow)
    answer.end()
    answer.cover(COMPLETE)
    assert trouble(answer)["evidence"] == "what its server did was not asked for (yet)"
    wanted = answer.more()
    assert any("bad" in pattern for each in wanted for pattern in each.dns_query)
    for flow in upstream_query(FAILED, rcode=5, took=0.0002).flows():
        answer.context(flow)
    answer.looked()
    assert trouble(answer)["cause"] == "UPSTREAM_FAILED"
    assert answer.more() == ()


def test_a_second_look_finds_where_the_pods_of_a_silent_service_run() -> None:
    answer = DnsAnswer()
    for flow in LOST.flows():
        answer.add(flow)
    answer.end()
    answer.cover(COMPLETE)
    assert trouble(answer)["cause"] == "unknown"
    assert [list(each.source_service) for each in answer.more() if each.source_service] == [["kube-system/kube-dns"]]
    answer.context(connection(DNS_POD, B, at=-3, node="node-2"))
    answer.looked()
    assert trouble(answer)["cause"] == "LOST_TO_SERVER"
    assert answer.more() == ()


def test_a_second_look_brings_only_what_the_first_did_not() -> None:
    """The client's view does not come again; the server saw another address than the client's: they belong together."""
    translated = server_view(LOST, client=Pod("", "192.168.0.1"), port=1_024, took=0.001)
    answer = fed(DnsAnswer(filtered=True), LOST.flows(), COMPLETE, look=translated.flows())
    assert [(row["result"], row["count"], row["cause"]) for row in rows(answer)] == [("unanswered", 1, "LOST_TO_CLIENT")]


@pytest.mark.parametrize("filtered", [True, False])
def test_nothing_follows_from_what_a_second_look_did_not_bring_if_it_did_not_bring_all(*, filtered: bool) -> None:
    answer = DnsAnswer(filtered=filtered)
    for flow in ordered(flow for query in (LOST, *KNOWN) for flow in query.flows()):
        answer.add(flow)
    answer.end()
    answer.cover(COMPLETE)
    answer.more()
    answer.looked("too much of it")
    assert (trouble(answer)["cause"], trouble(answer)["evidence"]) == (
        "unknown",
        "not seen at kube-system/kube-dns, but too much of it",
    )


def test_a_later_look_that_brings_all_ends_the_doubt() -> None:
    answer = DnsAnswer(filtered=True)
    later = Query("lost.example.com", at=30.0, took=None, gave_up=5.0, number=2, query_id=8, port=40_001)
    for queries, doubt, cause in (((LOST, *KNOWN), "too much of it", "unknown"), ((later,), "", "LOST_TO_SERVER")):
        for flow in ordered(flow for query in queries for flow in query.flows()):
            answer.add(flow)
        answer.end()
        answer.cover(COMPLETE)
        assert answer.more()
        answer.looked(doubt)
        assert trouble(answer)["cause"] == cause


def test_what_the_server_told_is_not_asked_for() -> None:
    answer = DnsAnswer(filtered=True)
    for flow in Query("x.example.com", took=None, gave_up=5.0, fate=extension_pb2.NEVER_LEFT).flows():
        answer.add(flow)
    answer.end()
    assert not any(each.dns_query for each in answer.more())


def test_a_second_look_begins_with_what_is_to_be_explained() -> None:
    answer = DnsAnswer(filtered=True)
    assert answer.began() is None
    for query in (
        Query("fine.example", at=-9, number=4),
        Query("bad.example", at=-2, rcode=2, number=5),
        Query("x", rcode=3, number=6),
    ):
        for flow in query.flows():
            answer.add(flow)
    answer.end()
    assert answer.began() == START - 2 * SECOND


def test_a_second_look_may_bring_the_servers_view() -> None:
    answer = fed(DnsAnswer(filtered=True), LOST.flows(), COMPLETE, look=server_view(LOST, took=0.001).flows())
    assert trouble(answer)["cause"] == "LOST_TO_CLIENT"


@pytest.mark.parametrize(
    ("namespaces", "cause"), [(None, "SERVER_REFUSED_IT"), ({"demo"}, "unknown"), ({"kube-system"}, "SERVER_REFUSED_IT")]
)
def test_nothing_is_concluded_from_flows_that_are_not_shown_to_the_caller(namespaces: set[str] | None, cause: str) -> None:
    answer = DnsAnswer()
    answer.see(None if namespaces is None else frozenset(namespaces))
    fed(answer, ordered([*FAILED.flows(), *server_view(FAILED).flows()]), COMPLETE)
    assert trouble(answer)["cause"] == cause
