"""Queries that never left: whose packet it was that a flow tells to have been dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from answer_feeds import coverage, fed, rows
from answer_samples import START, VIP, A, Query, ordered, server_view

from flows.flow.answers import drops
from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.drops import Drops
from flows.flow.answers.told import told
from flows.flow.answers.view import view_of
from flows.proto import extension_pb2
from flows.proto.flow_pb2 import Flow

if TYPE_CHECKING:
    import pytest

KNOWN = Query("ok.example.com", at=-1.0, number=90, query_id=3)
ONE = Query("one.example.com", took=None, gave_up=5.0)
# Of the same socket, as all queries of c-ares are.
TWO = replace(ONE, name="two.example.com", at=4.0, number=2, query_id=8)
LATER = replace(TWO, at=20.0)


def drop(at: float = 0.0, *, tcp: bool = False, port: int = ONE.port, node: str = "node-1") -> Flow:
    flow = Flow(node_name=node, verdict="DROPPED", drop_reason_desc="POLICY_DENIED")
    A.fill(flow, extension_pb2.EndpointDetail(), "source")
    flow.IP.destination = VIP.address
    layer4 = flow.l4.TCP if tcp else flow.l4.UDP
    layer4.source_port, layer4.destination_port = port, 53
    flow.time.FromNanoseconds(START + round(at * 1e9))
    return flow


def causes(queries: list[Query], dropped: list[Flow]) -> dict[str, tuple[str, str]]:
    flows = ordered([*(flow for query in queries for flow in query.flows()), *dropped])
    found = rows(fed(DnsAnswer(), flows, coverage()))
    return {row["name"].partition(".")[0]: (row["cause"], row["evidence"]) for row in found if row["cause"]}


def test_a_dropped_packet_never_left() -> None:
    assert causes([ONE], [drop()]) == {"one": ("NEVER_LEFT", "node-1 dropped it: POLICY_DENIED")}


def test_what_another_node_dropped_did_leave() -> None:
    assert causes([ONE], [drop(node="node-2")]) == {"one": ("LOST_TO_SERVER", "node-2 dropped it: POLICY_DENIED")}


def test_a_drop_is_of_the_query_that_the_socket_sent_then() -> None:
    found = causes([ONE, server_view(ONE, took=0.001), TWO], [drop(4.0)])
    assert [found["one"][0], found["two"][0]] == ["LOST_TO_CLIENT", "NEVER_LEFT"]
    found = causes([KNOWN, server_view(KNOWN), ONE, TWO], [drop(4.0)])
    assert [found["one"][0], found["two"][0]] == ["LOST_TO_SERVER", "NEVER_LEFT"]


def test_each_of_a_sockets_drops_is_remembered() -> None:
    found = causes([KNOWN, server_view(KNOWN), ONE, LATER], [drop(0.0), drop(20.0)])
    assert [found["one"][0], found["two"][0]] == ["NEVER_LEFT", "NEVER_LEFT"]


def test_a_query_that_its_server_got_did_leave() -> None:
    assert causes([ONE, server_view(ONE)], [drop(0.01)])["one"][0] == "SERVER_SILENT"


def test_tcp_sends_again_for_a_while() -> None:
    made = Drops()
    made.take(told(drop(4.0, tcp=True)))
    view = view_of(ONE.flows()[0])
    assert view is not None
    assert made.of(view) is None
    view.transport = "TCP"
    assert made.of(view) == (START + 4_000_000_000, "node-1", "POLICY_DENIED")


def test_drops_are_bounded_by_sockets_and_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drops, "MOST_SOCKETS", 3)
    made = Drops()
    for port in range(9):
        for at in range(100):
            made.take(told(drop(at, port=port)))
    assert [len(each) for each in made._drops.values()] == [drops.MOST_OF_ONE] * 3
