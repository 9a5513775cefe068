"""`flows dns`: rows, totals, each query once, servers that tell less, bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from answer_feeds import coverage, fed, rows
from answer_samples import START, Pod, Query, both, hubble, ordered, server_view, upstream_query
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.flow.answers import dns, requests, table
from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.encryption import EncryptionAnswer
from flows.flow.answers.http import HttpAnswer
from flows.flow.answers.names import NamesAnswer
from flows.flow.answers.requests import Requests
from flows.flow.answers.view import split_url, view_of
from flows.proto import extension_pb2
from flows.proto.flow_pb2 import Flow

if TYPE_CHECKING:
    from flows.flow.answers.requests import Request

OK, NX = Query("a.example.com", number=1), Query("b.example.com", number=2, query_id=8, at=1, rcode=3)
SLOW = Query("c.example.com", number=3, query_id=9, at=2, took=0.7)
LOST = Query("d.example.com", number=4, query_id=10, at=3, took=None, gave_up=5.0, attempt=3)


def counted(flows: list[Flow]) -> list[Request]:
    made = Requests()
    for flow in flows:
        view = view_of(flow)
        assert view is not None
        made.add(view)
    return list(made.end())


def test_troubles_come_first_then_totals() -> None:
    answer = fed(DnsAnswer(), ordered(flow for query in (OK, NX, SLOW, LOST) for flow in query.flows()), coverage())
    assert [(row["name"], row["result"], row["count"]) for row in rows(answer)] == [
        ("d.example.com", "unanswered", 1),
        ("c.example.com", "slow", 1),
        ("b.example.com", "NXDOMAIN", 1),
        ("a.example.com", "NOERROR", 1),
    ]
    (total,) = rows(answer, 1)
    assert {name: total[name] for name in ("client", "server", "queries", "answered", "failed", "unanswered", "slow")} == {
        "client": "demo/svc-a", "server": "kube-system/kube-dns",
        "queries": 4, "answered": 3, "failed": 1, "unanswered": 1, "slow": 1,
    }  # fmt: skip
    assert total["max_ns"] == 700_000_000
    assert rows(answer)[0]["attempts"] == 3


def test_quantiles_are_within_one_percent_and_say_so() -> None:
    flows = ordered(flow for n in range(1, 101) for flow in Query("a", number=n, query_id=n, at=n, took=n / 1000, port=n).flows())
    answer = fed(DnsAnswer(), flows)
    (row,) = rows(answer)
    assert row["count"] == 100
    assert row["p50_ns"] == pytest.approx(50_000_000, rel=0.02)
    assert row["p99_ns"] == pytest.approx(99_000_000, rel=0.02)
    assert "quantiles: within 1 % (DDSketch)" in answer.tables()[1].notes


def test_both_ends_views_of_one_query_are_one_query_as_the_client_saw_it() -> None:
    (request,) = counted(both(OK, server_view(OK, took=0.0005)))
    assert request.at_client is not None
    assert request.at_server is not None
    assert (request.view.server.service, request.view.latency) == ("kube-system/kube-dns", 1_000_000)
    assert fed(DnsAnswer(), both(OK, server_view(OK))).tables()[0].rows[0]["server_pod"] == "kube-system/dns-1"


def test_an_address_that_was_translated_is_told_by_the_querys_id() -> None:
    node = Pod("", "192.168.0.9")
    assert len(counted(both(OK, server_view(OK, client=node, port=61_000)))) == 1
    assert len(counted(both(OK, server_view(OK, client=node, port=61_000, query_id=99)))) == 2


def test_retries_with_one_id_and_port_stay_apart_and_find_their_own_other_view() -> None:
    first = Query("r", took=None, gave_up=5.0, number=1)
    again = Query("r", at=5.0, number=2, attempt=2)
    found = counted(ordered([*first.flows(), *again.flows(), *server_view(again).flows()]))
    assert [(request.at_client.number, request.at_server is not None) for request in found if request.at_client] == [
        (1, False),
        (2, True),
    ]


def test_a_late_answer_of_a_query_that_was_counted_is_no_other_query() -> None:
    late = Query("l", took=60.0, gave_up=5.0, late=True)
    flows = ordered([*late.flows(), *Query("x", at=30.0, number=2, query_id=1).flows()])
    answer = fed(DnsAnswer(), flows)
    assert {(row["name"], row["result"]): row["count"] for row in rows(answer)} == {("l", "unanswered"): 1, ("x", "NOERROR"): 1}


def test_an_upstreams_query_is_one_of_its_own() -> None:
    found = counted(ordered([*both(OK, server_view(OK)), *upstream_query(OK).flows()]))
    assert sorted(request.view.client.name for request in found) == ["demo/svc-a", "kube-system/dns"]


def test_flows_of_hubble_are_counted_and_what_they_do_not_tell_is_unknown() -> None:
    flows = [
        hubble("ok.example.com", reply=False),
        hubble("ok.example.com", reply=True, at=0.01, latency=0.01),
        hubble("bad.example.com", reply=False, at=1, port=40_001),
        hubble("bad.example.com", reply=True, at=1.01, latency=0.01, rcode=2, port=40_001),
        hubble("never.example.com", reply=False, at=2, port=40_002),
        hubble("just.example.com", reply=False, at=59, port=40_003),
    ]
    found = {row["name"]: (row["result"], row["count"], row["cause"], row["attempts"]) for row in rows(fed(DnsAnswer(), flows))}
    assert found == {
        "ok.example.com": ("NOERROR", 1, None, None),
        "bad.example.com": ("SERVFAIL", 1, "unknown", None),
        "never.example.com": ("no answer seen", 1, None, None),
        "just.example.com": ("waiting", 1, None, None),
    }


def test_an_answer_without_its_question_counts_and_has_the_time_it_tells() -> None:
    (row,) = rows(fed(DnsAnswer(), OK.flows()[1:]))
    assert (row["count"], row["max_ns"]) == (1, 1_000_000)


def test_following_settles_what_has_its_outcome() -> None:
    answer = DnsAnswer()
    for flow in OK.flows():
        answer.add(flow)
    assert rows(answer) == []
    answer.advance(START + 4_000_000_000)
    assert [row["name"] for row in rows(answer)] == ["a.example.com"]


def test_rows_are_bounded_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table.Groups.__init__, "__defaults__", (3,))
    flows = ordered(flow for n in range(9) for flow in Query(f"n{n}", number=n + 1, query_id=n + 1, at=n, rcode=2).flows())
    answer = fed(DnsAnswer(), flows, coverage())
    found = {row["name"]: row["count"] for row in rows(answer)}
    assert found == {"n0": 1, "n1": 1, "n2": 1, table.OTHER: 6}
    assert any("6 of them are in the row (other)" in note for note in answer.tables()[1].notes)
    assert next(row for row in rows(answer) if row["name"] == table.OTHER)["causes"] == {"unknown": 6}


def test_requests_without_an_outcome_are_bounded_and_counted() -> None:
    made = Requests(most=5)
    closed = []
    for number in range(20):
        view = view_of(Query("x", number=number + 1, query_id=number + 1, took=None).flows()[0])
        assert view is not None
        made.add(view)
        closed += list(made.settled())
    assert (len(closed), made.cut_short, len(list(made.end()))) == (15, 15, 5)
    assert not made._views
    assert not made._lone
    assert not made._asked


def test_only_the_newest_troubles_are_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "MOST_TROUBLED", 2)
    flows = ordered(flow for n in range(4) for flow in Query("n", number=n + 1, query_id=n + 1, at=n, rcode=2).flows())
    (row,) = rows(fed(DnsAnswer(), flows, coverage()))
    assert row["causes"] == {"unknown": 4}


def test_search_lists_do_not_push_out_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "MOST_TROUBLED", 2)
    bad = Query("bad", number=100, query_id=100, at=-1, rcode=2)
    noise = [Query("n", number=n + 1, query_id=n + 1, at=n, rcode=3) for n in range(9)]
    flows = ordered([*bad.flows(), *server_view(bad).flows(), *(flow for query in noise for flow in query.flows())])
    assert rows(fed(DnsAnswer(), flows, coverage()))[0]["cause"] == "SERVER_REFUSED_IT"


def test_waiting_times_are_longer_than_the_agents() -> None:
    assert requests.HOLD_NS["dns"] > 5 * requests.SECOND
    assert requests.HOLD_NS["http"] > 60 * requests.SECOND


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://svc/a/b?x=1#y", ("svc", "/a/b")),
        ("http://user:pass@svc:80/", ("svc:80", "/")),
        ("http://[::1]:80/x", ("[::1]:80", "/x")),
        ("http://svc", ("svc", "/")),
        ("/only/path?q", ("", "/only/path")),
        ("*", ("", "*")),
        ("", ("", "/")),
        ("http://[bad/x", ("[bad", "/x")),
        ("/http://in/path", ("", "/http://in/path")),
    ],
)
def test_urls_are_taken_apart_whatever_they_are(url: str, expected: tuple[str, str]) -> None:
    assert split_url(url) == expected


TEXT = st.text(max_size=20)
NUMBER = st.integers(0, (1 << 32) - 1)


def enum(most: int) -> st.SearchStrategy[Any]:
    """Also numbers that its enum does not name, which the fields' types do not know."""
    return st.integers(0, most)


@st.composite
def any_flow(draw: st.DrawFn) -> Flow:
    """Of whatever sender: fields that do not fit together, times beyond all bounds."""
    flow = Flow(node_name=draw(TEXT), verdict=draw(enum(9)), source_names=draw(st.lists(TEXT, max_size=2)))
    flow.time.seconds, flow.time.nanos = draw(st.integers(-(1 << 62), 1 << 62)), draw(st.integers(-(1 << 31), (1 << 31) - 1))
    flow.IP.source, flow.IP.destination = draw(st.sampled_from(["10.0.0.1", "", "x"])), draw(TEXT)
    if draw(st.booleans()):
        flow.is_reply.value = draw(st.booleans())
    transport = draw(st.sampled_from([None, "TCP", "UDP", "ICMPv4"]))
    if transport in {"TCP", "UDP"}:
        layer4 = getattr(flow.l4, transport)
        layer4.source_port, layer4.destination_port = draw(NUMBER), draw(NUMBER)
    flow.l7.type, flow.l7.latency_ns = draw(enum(4)), draw(st.integers(0, (1 << 64) - 1))
    if draw(st.booleans()):
        record = flow.l7.dns
        record.query, record.rcode, record.ttl = draw(TEXT), draw(NUMBER), draw(NUMBER)
        record.qtypes.extend(draw(st.lists(TEXT, max_size=3)))
        record.ips.extend(draw(st.lists(TEXT, max_size=3)))
    elif draw(st.booleans()):
        flow.l7.http.url, flow.l7.http.method, flow.l7.http.code = draw(TEXT), draw(TEXT), draw(NUMBER)
    kind = draw(st.sampled_from(["none", "damaged", "ours"]))
    if kind == "damaged":
        flow.extensions.type_url, flow.extensions.value = (
            "type.googleapis.com/flows.v1.FlowExtension",
            draw(st.binary(max_size=9)),
        )
    if kind == "ours":
        flow.extensions.Pack(draw(any_extension()))
    return flow


@st.composite
def any_extension(draw: st.DrawFn) -> extension_pb2.FlowExtension:
    extension = extension_pb2.FlowExtension()
    connection = extension.connection
    connection.event, connection.spoken = draw(enum(20)), draw(enum(9))
    connection.observed_at_source, connection.id = draw(st.booleans()), draw(st.integers(0, 2))
    if draw(st.booleans()):
        connection.started.seconds = draw(st.integers(-(1 << 62), 1 << 62))
    if draw(st.booleans()):
        request = connection.request
        request.id, request.kind, request.state = draw(st.integers(0, 3)), draw(enum(9)), draw(enum(9))
        request.marks.extend(draw(st.lists(enum(20), max_size=3)))
        request.latency.seconds, request.dns.fate = draw(st.integers(-(1 << 62), 1 << 62)), draw(enum(20))
        request.dns.id, request.tls.server_name = draw(st.integers(0, 2)), draw(TEXT)
        request.grpc.service, request.grpc.has_status = draw(TEXT), draw(st.booleans())
    extension.source.services.add(name=draw(TEXT), namespace=draw(TEXT))
    return extension


@settings(max_examples=150)
@given(st.lists(any_flow(), max_size=12), st.booleans())
def test_no_flow_makes_an_answer_fail(flows: list[Flow], filtered: bool) -> None:
    for make in (DnsAnswer, NamesAnswer, HttpAnswer, EncryptionAnswer):
        answer = make(filtered=filtered)
        for flow in flows:
            answer.add(flow)
        answer.advance(1 << 61)
        answer.end()
        answer.cover(coverage(without=["node-1"]))
        answer.more()
        for flow in flows:
            answer.context(flow)
        answer.looked()
        for each in answer.tables():
            for column in each.columns:
                table.ordered(each.rows, column.label, each.columns)
                table.ordered(each.rows, f"-{column.label}", each.columns)
