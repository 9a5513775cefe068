"""A server that answers queries which no node saw at it runs where nobody watches, too: what is not seen there says nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from answer_feeds import coverage, fed, rows
from answer_samples import SECOND, START, Pod, Query, ordered, server_view

from flows.flow.answers import unseen
from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.fates import Fates
from flows.flow.answers.requests import CLOCKS_NS, LINGER_NS, Requests
from flows.flow.answers.told import told
from flows.flow.answers.unseen import AROUND_NS, Unseen
from flows.flow.answers.view import view_of
from flows.proto import extension_pb2, flows_pb2

if TYPE_CHECKING:
    from flows.flow.answers.fate import Judgement

LOST = Query("lost.example.com", took=None, gave_up=5.0)
KNOWN = Query("ok.example.com", at=-1.0, number=90, query_id=3)
SEEN = [KNOWN, server_view(KNOWN)]
# Answered by nobody knows whom.
STRANGE = Query("strange.example.com", at=-0.5, number=200, query_id=300, port=42_000)
ELSEWHERE = "not seen at kube-system/kube-dns, but others that it answered were not seen there either"


def cause(*queries: Query, covered: flows_pb2.Coverage | None = None) -> str:
    """Of the first: to who asks for everything; and the same to who serves flows."""
    flows, covered = ordered(flow for query in queries for flow in query.flows()), covered or coverage()
    judgement = served(*queries, covered=covered)
    found = [row for row in rows(fed(DnsAnswer(), flows, covered)) if row["name"] == queries[0].name and row["cause"]]
    assert [row["evidence"] for row in found] == [judgement.evidence]
    return str(found[0]["cause"])


def served(*queries: Query, covered: flows_pb2.Coverage) -> Judgement:
    fates, of = Fates(), queries[0]
    for flow in ordered(flow for query in queries for flow in query.flows()):
        fates.take(told(flow))
    fates.settle()
    return fates.judged(covered)[of.node, of.connection, of.number]


def test_nothing_follows_from_what_is_not_seen_at_a_service_of_which_some_pod_is_not_watched() -> None:
    assert cause(LOST, *SEEN) == "LOST_TO_SERVER"
    assert cause(LOST, *SEEN, STRANGE) == "unknown"
    judgement = served(LOST, *SEEN, STRANGE, covered=coverage())
    assert judgement.fate == extension_pb2.FATE_UNKNOWN
    assert judgement.evidence.startswith(ELSEWHERE)


@pytest.mark.parametrize(
    "other",
    [
        replace(STRANGE, server=Pod("", "10.96.0.77", service="demo/other-dns")),
        replace(STRANGE, took=None, gave_up=3.0),
        replace(STRANGE, at=3.5),  # so late that its server's node may have more to tell
        replace(STRANGE, at=-1.0),  # so early that its server's view may have been before
    ],
    ids=["another server's", "not answered", "at the end", "at the beginning"],
)
def test_what_does_not_tell_of_such_a_pod(other: Query) -> None:
    assert cause(LOST, *SEEN, other) == "LOST_TO_SERVER"


def test_nor_what_was_answered_while_its_node_was_not_watched() -> None:
    covered = coverage()
    gap = covered.nodes[1].gaps.add(reason=flows_pb2.LOST)
    getattr(gap, "from").FromNanoseconds(START - SECOND * 6 // 10)
    gap.to.FromNanoseconds(START - SECOND // 10)
    assert cause(LOST, *SEEN, STRANGE, covered=covered) == "LOST_TO_SERVER"


def test_with_filters_only_those_count_whose_servers_views_were_asked_for() -> None:
    first = ordered(flow for query in (LOST, *SEEN, STRANGE) for flow in query.flows())
    alike = replace(STRANGE, name=LOST.name, at=0.5)
    for look, expected in (([], "LOST_TO_SERVER"), (alike.flows(), "unknown")):
        found = rows(fed(DnsAnswer(filtered=True), first, coverage(), look=look))
        assert next(row["cause"] for row in found if row["name"] == LOST.name) == expected
    found = rows(fed(DnsAnswer(filtered=True), ordered([*first, *alike.flows()]), coverage(), look=server_view(alike).flows()))
    assert next(row["cause"] for row in found if row["name"] == LOST.name and row["cause"]) == "LOST_TO_SERVER"


def test_they_are_bounded_and_tell_of_their_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unseen, "MOST_SERVERS", 4)
    requests, made = Requests(), Unseen()
    for number in range(60):
        server = Pod("", f"10.96.1.{number // 20}", service=f"demo/dns-{number // 20}")
        for flow in replace(STRANGE, server=server, number=number, query_id=number + 1, at=number).flows():
            view = view_of(flow)
            assert view is not None
            requests.add(view)
    assert requests.whole == (START + CLOCKS_NS, START + 59 * SECOND + 1_000_000 - LINGER_NS)
    learnt = list(requests.end())
    for request in learnt:
        made.learn(request, START, START + 60 * SECOND)
    newest = learnt[-1].view
    assert [len(each) for each in made._queries.values()] == [unseen.MOST_OF_ONE] * 4
    assert len(list(made.like(newest))) == 2 * unseen.MOST_OF_ONE  # by address and by Service
    later = replace(newest, asked=START + 58 * SECOND + AROUND_NS)
    assert {each.time - START for each in made.like(later)} == {58 * SECOND, 59 * SECOND}
