"""Of which nodes and times "not seen" means that it was not there, once several answers have told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from answer_feeds import coverage, gap, rows
from answer_samples import DNS_POD, SECOND, START, B, Query, connection, ordered, server_view

from flows.flow.answers import reach
from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.former import BEGINNING, END, MOST_FLAWS, Flaw, Former
from flows.flow.answers.reach import Reach

if TYPE_CHECKING:
    from flows.proto import flows_pb2

AWAY, ALL = coverage(without=["node-2"]), coverage()
LOST = Query("lost.example.com", took=None, gave_up=5.0)
LATER = Query("later.example.com", at=40.0, took=None, gave_up=5.0, number=2, query_id=8, port=40_001)
KNOWN = Query("ok.example.com", at=-1.0, number=90, query_id=3)


def fed(answer: DnsAnswer, *queries: Query) -> None:
    for flow in ordered(flow for query in queries for flow in query.flows()):
        answer.add(flow)
    answer.end()


def causes(answer: DnsAnswer) -> dict[str, tuple[str, str]]:
    return {row["name"].partition(".")[0]: (row["cause"], row["evidence"]) for row in rows(answer) if row["cause"]}


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (AWAY, "node-2 did not answer"),
        (gap("node-2"), "node-2 has a gap then (it lost events)"),
        (coverage(nodes=["node-1"]), "node-2 was not known then"),
    ],
    ids=["away", "a gap", "not known"],
)
def test_a_second_look_that_does_not_ask_for_the_queries_does_not_make_good_what_the_first_lacks(
    first: flows_pb2.Coverage, why: str
) -> None:
    answer = DnsAnswer()
    fed(answer, LOST)
    answer.cover(first)
    assert answer.more()
    answer.context(connection(DNS_POD, B, at=-3, node="node-2"))
    answer.cover(ALL)
    answer.looked()
    assert causes(answer) == {"lost": ("unknown", f"not seen at kube-system/kube-dns, but {why}")}


def test_one_that_asks_for_them_does() -> None:
    answer = DnsAnswer(filtered=True)
    fed(answer, LOST, KNOWN, server_view(KNOWN))
    answer.cover(AWAY)
    assert answer.more()
    answer.cover(ALL)
    answer.looked()
    assert causes(answer)["lost"][0] == "LOST_TO_SERVER"


def test_a_second_look_that_lacks_something_leaves_it_open_too() -> None:
    answer = DnsAnswer()
    fed(answer, LOST, KNOWN, server_view(KNOWN))
    answer.cover(ALL)
    assert causes(answer)["lost"][0] == "LOST_TO_SERVER"
    answer.cover(AWAY)
    assert causes(answer)["lost"][0] == "unknown"


def test_a_node_that_was_away_when_it_was_looked_is_trusted_with_what_comes_later() -> None:
    answer = DnsAnswer()
    fed(answer, LOST, KNOWN, server_view(KNOWN))
    answer.cover(AWAY)
    fed(answer, LATER)
    answer.cover(ALL)
    for _ in range(3):
        found = causes(answer)
        assert {name: cause for name, (cause, _) in found.items()} == {"lost": "unknown", "later": "LOST_TO_SERVER"}
        answer.cover(ALL)


def test_a_node_that_was_away_once_is_trusted_with_what_came_before_and_after() -> None:
    made = Reach()
    for number, told in enumerate((ALL, AWAY, ALL, ALL), 1):
        made.add(told, START + 10 * number * SECOND)
    flawed = [bool(made.flaw("node-2", START + at * SECOND, START + (at + 1) * SECOND)) for at in (5, 15, 25)]
    assert flawed == [False, True, False]
    assert not made.flaw("node-1", BEGINNING, END)


def test_what_was_missing_is_bounded_and_never_less() -> None:
    made = Former()
    for number in range(100):
        made.keep("node-2", [Flaw(10 * number, 10 * number + 5, f"{number % 40}")])
    (kept,) = made._flaws.values()
    assert len(kept) == MOST_FLAWS
    assert all(made.flaw("node-2", 10 * number, 10 * number) for number in range(100))
    assert not made.flaw("node-2", 997, 997)
    made.keep("node-3", [Flaw(0, 10, "away"), Flaw(10, 20, "away"), Flaw(30, 40, "away")])
    assert made._flaws["node-3"] == [Flaw(0, 20, "away"), Flaw(30, 40, "away")]


def test_what_is_remembered_of_times_is_bounded_and_of_what_was_told_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "MOST_TIMES", 8)
    made = Reach(ALL)
    assert [made.flaw_anywhere(START + at, START + at) for at in range(100)] == [""] * 100
    assert len(made._anywhere) <= 8
    made.add(AWAY)
    assert {made.flaw_anywhere(START + at, START + at) for at in range(100)} == {"node-2 did not answer"}
    assert made.doubtful("too much of it").flaw_anywhere(START, START) == "too much of it"
