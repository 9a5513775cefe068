"""`flows dns names`: the connection that followed from a lookup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from answer_feeds import coverage, fed, rows
from answer_samples import UPSTREAM, A, B, Pod, Query, connection

from flows.flow.answers.names import NamesAnswer

if TYPE_CHECKING:
    from flows.proto.flow_pb2 import Flow

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
