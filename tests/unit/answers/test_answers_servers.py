"""Where DNS servers run: addresses that each node has, and servers that answer where nobody watches."""

from __future__ import annotations

from dataclasses import replace

import pytest
from answer_feeds import coverage, fed, gap, rows
from answer_samples import Pod, Query, ordered, server_view

from flows.flow.answers import servers
from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.servers import Servers
from flows.flow.answers.view import view_of

LINK_LOCAL = "169.254.20.10"
HERE, THERE = Pod("demo/svc-a-1", "10.0.1.1", "node-1", pid=77), Pod("demo/svc-b-1", "10.0.2.1", "node-2", pid=78)


def judged(queries: list[Query], covered: object) -> tuple[str, str]:
    """Cause and evidence of the first of them."""
    found = rows(fed(DnsAnswer(), ordered(flow for query in queries for flow in query.flows()), covered))  # type: ignore[arg-type]
    return next((row["cause"], row["evidence"]) for row in found if row["name"] == queries[0].name and row["cause"])


def of_node_2(address: str) -> list[Query]:
    """A query to a server of that address on node-2, as both ends saw it."""
    known = Query("ok.example.com", client=THERE, server=Pod("", address), at=-1, node="node-2", number=70, connection=70)
    return [known, server_view(known, client=THERE, server=Pod("", address, "node-2", pid=60))]


@pytest.mark.parametrize("address", [LINK_LOCAL, "127.0.0.53", "::1", "fe80::1"])
@pytest.mark.parametrize(
    ("flawed", "cause", "evidence"),
    [
        ("node-1", "unknown", "not seen at {}, but node-1 has a gap then (it lost events)"),
        ("node-2", "LOST_TO_SERVER", "left node-1, not seen at {}, though node-1 lost nothing"),
    ],
)
def test_an_address_that_each_node_has_is_that_of_the_client_s_node(address: str, flawed: str, cause: str, evidence: str) -> None:
    lost = Query("lost.example.com", client=HERE, server=Pod("", address), took=None, gave_up=5.0)
    assert judged([lost, *of_node_2(address)], gap(flawed)) == (cause, evidence.format(address))


def test_a_link_local_address_that_no_node_was_seen_to_have_may_be_outside() -> None:
    """169.254.169.254 answers DNS in some clouds."""
    lost = Query("lost.example.com", client=HERE, server=Pod("", "169.254.169.254"), took=None, gave_up=5.0)
    assert judged([lost], coverage()) == (
        "unknown",
        "169.254.169.254 is on a node that is not known, so whether it got the query was not seen",
    )


@pytest.mark.parametrize("flawed", ["node-2", "node-3", "node-4"])
def test_of_an_address_that_was_seen_on_several_nodes_all_nodes_must_have_been_watched(flawed: str) -> None:
    nodes = ["node-1", "node-2", "node-3", "node-4"]
    address = "192.0.2.53"
    known = of_node_2(address)
    moved = [replace(each, at=each.at - 5, number=each.number + 1, query_id=9) for each in known]
    moved[1] = replace(moved[1], server=Pod("", address, "node-3"), node="node-3")
    lost = Query("lost.example.com", client=HERE, server=Pod("", address), took=None, gave_up=5.0)
    assert judged([lost, *moved, *known], coverage(nodes=nodes)) == (
        "LOST_TO_SERVER",
        "left node-1, not seen at 192.0.2.53, though node-2, node-3 lost nothing",
    )
    assert judged([lost, *moved, *known], gap(flawed, nodes=nodes)) == (
        "unknown",
        f"not seen at 192.0.2.53, but {flawed} has a gap then (it lost events)",
    )


def test_nodes_of_an_address_are_bounded() -> None:
    made = Servers()
    for number in range(100):
        made._note(["192.0.2.53"], "192.0.2.53", f"node-{number}")
    view = view_of(Query("x", server=Pod("", "192.0.2.53")).flows()[0])
    assert view is not None
    homes = made.homes(view)
    assert (len(homes.nodes), homes.anywhere) == (servers.MOST_NODES, True)
