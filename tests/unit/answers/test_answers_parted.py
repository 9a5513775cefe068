"""Requests of which filters may have left the question alone: they are not counted, and still tell of causes."""

from __future__ import annotations

import pytest
from answer_feeds import coverage, fed, rows
from answer_samples import Call, Query, ordered, server_view, upstream_query

from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.http import HttpAnswer
from flows.flow.answers.names import NamesAnswer

BAD = Query("bad.example.com", rcode=2)


@pytest.mark.parametrize(("parted", "count"), [(True, 1), (False, 2)])
def test_a_question_alone_counts_only_if_its_outcome_could_have_come(*, parted: bool, count: int) -> None:
    queries = [Query("x.org", took=None), Query("y.org", at=30, number=2, query_id=8)]
    for answer in (DnsAnswer(parted=parted), NamesAnswer(parted=parted)):
        assert len(rows(fed(answer, ordered(flow for query in queries for flow in query.flows())))) == count
    calls = [Call("/x", took=None), Call("/y", at=90, number=2)]
    answer = fed(HttpAnswer(parted=parted), ordered(flow for call in calls for flow in call.flows()))
    assert len(rows(answer)) == count
    assert any("1 requests are left out" in note for note in answer.tables()[0].notes) is parted


def test_a_server_that_asked_in_turn_did_not_ask_nobody() -> None:
    """Of what it asked, only the question passed the filters."""
    flows = ordered([*BAD.flows(), *server_view(BAD).flows(), *upstream_query(BAD, took=None).flows()])
    answer = fed(DnsAnswer(filtered=True, parted=True), flows, coverage())
    (row,) = rows(answer)
    assert (row["name"], row["result"], row["count"]) == ("bad.example.com", "SERVFAIL", 1)
    assert row["cause"] != "SERVER_REFUSED_IT"
