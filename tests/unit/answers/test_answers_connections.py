"""`flows dns names`: the connection that followed from a lookup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from answer_feeds import coverage, fed, rows
from answer_resolver import OTHER_SERVER, Resolver
from answer_samples import SECOND, START, UPSTREAM, A, B, Pod, Query, connection

from flows.flow.answers.names import NamesAnswer
from flows.proto import flows_pb2

if TYPE_CHECKING:
    from flows.proto.flow_pb2 import Flow

NAME = "cdn.example.com"
ANSWERED = Query(NAME, ips=("93.184.216.34",), ttl=10)


def found() -> Resolver:
    """It has asked for an address, and was answered at once."""
    return Resolver().ask(NAME, wait=0, ips=("93.184.216.34",), ttl=10)


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


@pytest.mark.parametrize(
    ("resolver", "at", "expected"),
    [
        (found().ask(NAME, wait=0, server=OTHER_SERVER, took=None, gave_up=5.0), 0.004, "93.184.216.34 TCP 443"),
        (found().ask(NAME, "AAAA", wait=0, took=None, gave_up=5.0), 0.054, "93.184.216.34 TCP 443"),
        (found().ask(NAME, "AAAA", wait=0, took=None, gave_up=5.0), 11, "none"),
        (found().ask(NAME, "AAAA", wait=0, took=3.0, ips=("2001:db8::1",)), 11, "none"),
    ],
    ids=["one of two servers is dead", "AAAA is lost", "the TTL is from the answer on", "of the answer with the address"],
)
def test_clients_go_ahead_with_the_first_addresses(resolver: Resolver, at: float, expected: str) -> None:
    followed = connection(A, Pod("", "93.184.216.34"), at=at)
    (row,) = rows(fed(NamesAnswer(), resolver.flows(), coverage(), look=[followed]))
    assert (row["outcome"], row["connection"]) == ("resolved", expected)


@pytest.mark.parametrize(("second", "expected"), [(5, "unknown"), (50, "none")], ids=["while it may follow", "later"])
def test_a_connection_may_have_been_in_a_gap(second: int, expected: str) -> None:
    told = coverage()
    gap = told.nodes[0].gaps.add(reason=flows_pb2.LOST)
    getattr(gap, "from").FromNanoseconds(START + second * SECOND)
    gap.to.FromNanoseconds(START + (second + 1) * SECOND)
    (row,) = rows(fed(NamesAnswer(), ANSWERED.flows(), told))
    assert row["connection"] == expected


def test_connections_are_asked_for_by_client_and_address() -> None:
    answer = NamesAnswer()
    for flow in ANSWERED.flows():
        answer.add(flow)
    answer.end()
    (wanted,) = answer.more()
    assert (list(wanted.source_ip), list(wanted.destination_ip)) == (["10.0.1.1"], ["93.184.216.34"])
    answer.looked()
    assert answer.more() == ()
