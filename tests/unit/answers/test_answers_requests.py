"""Requests: however they are found, the same views are put together as if each were compared with all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from answer_feeds import coverage, fed, rows
from answer_reference import PlainRequests
from answer_samples import A, B, Call, Pod, Query, hubble, ordered, server_view
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.answers import requests
from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.requests import Requests
from flows.flow.answers.view import view_of

if TYPE_CHECKING:
    from flows.flow.answers.requests import Request
    from flows.proto.flow_pb2 import Flow

TIMES = st.sampled_from([0, 0.0001, 0.4, 0.9, 1.0, 2.0, 2.1, 5.0, 5.1, 15.0, 16.0, 80.0])
TOOK = st.sampled_from([None, 0.0, 0.001, 0.95, 3.0])
GAVE_UP = st.sampled_from([None, None, 5.0])


@st.composite
def queries(draw: st.DrawFn, number: int) -> list[Flow]:
    """Of one DNS query: the client's view, the server's (address translated or not), both, or what Hubble tells."""
    at, took, name = draw(TIMES), draw(TOOK), draw(st.sampled_from(["x.example", "y.example"]))
    if draw(st.booleans()) and draw(st.booleans()):
        flows = [hubble(name, reply=False, at=at)]
        return flows if took is None else [*flows, hubble(name, reply=True, at=at + took, latency=took)]
    client = Query(
        name, at=at, took=took, gave_up=draw(GAVE_UP), number=number, query_id=draw(st.integers(0, 2)),
        port=40_000 + draw(st.integers(0, 1)), late=draw(st.booleans()),
    )  # fmt: skip
    server = server_view(client, number=1_000 + number, at=at + draw(TIMES), client=draw(st.sampled_from([A, B])))
    return [flow for view in draw(st.sampled_from([(client,), (server,), (client, server)])) for flow in view.flows()]


@st.composite
def calls(draw: st.DrawFn, number: int) -> list[Flow]:
    """The same of an HTTP request."""
    path, port = draw(st.sampled_from(["/a", "/b"])), 50_000 + draw(st.integers(0, 1))
    client = Call(path, at=draw(TIMES), took=draw(TOOK), gave_up=draw(GAVE_UP), number=number, port=port)
    at = client.at + draw(TIMES) - draw(TIMES)
    server = Call(path, at=max(0, at), took=draw(TOOK), number=1_000 + number, port=port, node="node-2", at_client=False)
    return [flow for view in draw(st.sampled_from([(client,), (server,), (client, server)])) for flow in view.flows()]


@st.composite
def many(draw: st.DrawFn) -> list[Flow]:
    made = [draw(st.one_of(queries(number), calls(number))) for number in range(draw(st.integers(0, 14)))]
    return ordered(flow for flows in made for flow in flows)


def run(made: Any, flows: list[Flow]) -> list[object]:
    closed: list[object] = []
    for flow in flows:
        view = view_of(flow)
        assert view is not None
        made.add(view)
        closed += [told(each) for each in made.settled()]
    return [*closed, *(told(each) for each in made.end()), made.cut_short, made.late]


def told(request: Request) -> object:
    return [repr(view) for view in (request.at_client, request.at_server, request.unsided)]


@given(many(), st.sampled_from([3, 50]))
def test_the_same_views_are_put_together(flows: list[Flow], most: int) -> None:
    assert run(Requests(most), flows) == run(PlainRequests(most), flows)


def test_nothing_is_kept_of_requests_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "SWEEP", 16)
    made = Requests()
    for number in range(1_000):
        call = Call("/a", at=number / 100, number=number)
        for flow in ordered([*call.flows(), *Call("/a", at=call.at, number=number, node="node-2", at_client=False).flows()]):
            run_one(made, flow)
    assert len(made._open) < 300  # 2 s of them
    assert len(made._due) < 5 * 300
    made.advance(1 << 62)
    assert len(list(made.settled())) < 300
    run_one(made, hubble("x", reply=False))
    list(made.end())
    assert (made._open, made._views, made._asked, made._lone) == ({}, {}, {}, {})


def run_one(made: Requests, flow: Flow) -> None:
    view = view_of(flow)
    assert view is not None
    made.add(view)
    list(made.settled())


def test_a_call_is_not_looked_for_among_all_of_its_connection() -> None:
    """Both ends of many calls of one path on one connection: only those that lack an end's view are looked at."""
    made = Requests()
    for number in range(200):
        for at_client, node in ((True, "node-1"), (False, "node-2")):
            view = view_of(Call("/a", at=number / 1000, number=number, at_client=at_client, node=node).flows()[0])
            assert view is not None
            made.add(view)
    assert len(made._open) == 200
    assert made._lone == {}


# What musl sends: one question to all servers at once, with one id and from one socket.
ONE_SERVER, OTHER_SERVER = Pod("kube-system/dnsx-1", "10.0.2.9", "node-2"), Pod("kube-system/dnsy-1", "10.0.3.9", "node-3")
UNANSWERED = Query("x.example.com", server=ONE_SERVER, took=None, gave_up=5.0)
ANSWERED = Query("x.example.com", server=OTHER_SERVER, at=0.00002, took=0.002, number=2)
ALL_NODES = coverage(nodes=["node-1", "node-2", "node-3"])


@pytest.mark.parametrize("seen_at", [0.00032, -0.00008])  # also by a clock that is behind
def test_what_is_asked_of_two_servers_at_once_is_not_answered_by_the_other(seen_at: float) -> None:
    answered_by = server_view(ANSWERED, server=OTHER_SERVER, node="node-3", at=seen_at, took=0.0015)
    flows = ordered(flow for query in (UNANSWERED, ANSWERED, answered_by) for flow in query.flows())
    found = {row["server"]: row["cause"] for row in rows(fed(DnsAnswer(), flows, ALL_NODES))}
    assert found == {"kube-system/dnsx": "LOST_TO_SERVER", "kube-system/dnsy": None}


@pytest.mark.parametrize("again", [True, False])
def test_nor_is_it_after_a_second_look(*, again: bool) -> None:
    """Whether the look brings the view of the client with that of the server or not."""
    answered_by = server_view(ANSWERED, server=OTHER_SERVER, node="node-3", took=0.0015)
    first = ordered(UNANSWERED.flows() + (ANSWERED.flows() if again else []))
    answer = fed(DnsAnswer(filtered=True), first, ALL_NODES, look=answered_by.flows())
    assert {row["server"]: row["cause"] for row in rows(answer)}["kube-system/dnsx"] == "LOST_TO_SERVER"
