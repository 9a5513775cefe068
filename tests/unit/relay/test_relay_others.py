"""The other view of a connection is asked for where it may be, put into the flows, and brings flows that only it tells of."""

from __future__ import annotations

from typing import Any

import pytest
from join_peers import NOW, Agent, Query, extension, names, views
from join_samples import CLIENT, MS, SERVER, UNNAMED, WEB, S, end
from others_samples import AT, FROM_HOSTNET, HOST_SERVER, NODE_1, NODE_2, POD, SEEN, source, target

from flows.flow.ends import EndTable
from flows.flow.filter import FilterError
from flows.proto import extension_pb2, flows_pb2
from flows.relay import extra_flows, inquiry
from flows.relay.others import AGAIN_NS, RECENT_NS


async def test_the_flow_that_only_the_other_end_s_name_makes_a_match_comes_in_addition() -> None:
    agents = Agent("node-1"), Agent("node-2", [target()])
    query = Query(*agents, **FROM_HOSTNET)
    flows = await query.window(source(POD))
    assert names(flows) == [("hostnet", "server")] * 2
    assert [flow.uuid for flow in flows] == [f"s{AT}", f"t{AT + MS}"]
    assert views(flows) == [SEEN, SEEN]
    assert extension(flows[1]).source.evidence == extension_pb2.PEER
    assert extension(flows[1]).source.process.name == "curl"
    assert extension(flows[0]).destination.evidence == extension_pb2.PEER
    assert [len(agent.asked) for agent in agents] == [0, 1]
    assert query.counts == inquiry.Counts(joined=1, asked=1, added=1)


async def test_the_opener_s_flow_comes_in_addition_too_and_in_its_place() -> None:
    query = Query(Agent("node-1", [source()]), whitelist=[{"destination_pod": ["ops/exporter"]}])
    flows = await query.window(target(server=HOST_SERVER))
    assert [flow.uuid for flow in flows] == [f"s{AT}", f"t{AT + MS}"]
    assert names(flows) == [("hostnet", "exporter")] * 2


async def test_through_a_service_the_destination_stays_and_who_answered_is_told() -> None:
    server = target(CLIENT, tuple=71, server=SERVER)
    agents = Agent("node-1"), Agent("node-2", [server]), Agent("node-3")
    query = Query(*agents, whitelist=[{"source_pod": ["shop/client"]}])
    flows = await query.window(source(WEB, CLIENT))
    assert len(flows) == 1  # the server's matches by itself: its own agent sends it
    assert (flows[0].destination_service.name, flows[0].destination.pod_name) == ("web", "")
    backend = extension(flows[0]).connection.backend
    assert (backend.address, backend.port, backend.node) == ("10.0.2.2", 8080, "node-2")
    assert (backend.endpoint.pod_name, backend.endpoint.namespace) == ("server", "shop")
    assert flows[0].Summary == "TCP Flags: SYN, ACK; backend shop/server:8080"
    assert [len(agent.asked) for agent in agents] == [1, 1, 1]


async def test_a_host_network_pod_through_a_service_both_names_right() -> None:
    server = target(NODE_1, tuple=71)
    query = Query(Agent("node-1"), Agent("node-2", [server]), **FROM_HOSTNET)
    flows = await query.window(source(WEB))
    assert names(flows) == [("hostnet", ""), ("hostnet", "server")]
    assert flows[0].Summary.endswith("; backend shop/server:8080")
    assert flows[1].Summary == "TCP Flags: SYN, ACK"


@pytest.mark.parametrize(
    ("server", "address", "summary"),
    [
        (UNNAMED, ("10.0.2.2", 443), "10.0.2.2:443"),
        (UNNAMED, ("fd00::2", 443), "[fd00::2]:443"),
        (SERVER, ("10.0.2.2", 0), "shop/server"),
    ],
)
async def test_a_backend_is_named_by_pod_or_address(server: flows_pb2.End, address: tuple[str, int], summary: str) -> None:
    flows = await Query().window(source(WEB), target(NODE_1, server, tuple=71, address=address))
    assert flows[0].Summary == f"TCP Flags: SYN, ACK; backend {summary}"
    assert names(flows) == [("hostnet", ""), ("hostnet", server.endpoint.pod_name)]


async def test_what_the_agent_has_seen_of_both_ends_stays() -> None:
    own = end(pod="server", node="node-1", evidence=extension_pb2.CONNECTION)
    flows = await Query().window(source(own), target(own, server=end(pod="other", evidence=extension_pb2.CGROUP), node=0))
    assert [extension(flow).connection.other_view for flow in flows] == [SEEN, SEEN]
    assert names(flows) == [("hostnet", "server"), ("server", "other")]


async def test_the_service_of_an_address_stays_when_the_end_is_named() -> None:
    both = end(pod="", service="balanced", node="node-2")
    both.endpoint.pod_name = "guess"
    flows = await Query().window(source(both), target())
    assert (flows[0].destination.pod_name, flows[0].destination_service.name) == ("server", "balanced")


async def test_a_flow_that_matches_by_itself_is_left_to_its_agent() -> None:
    query = Query(Agent("node-2", [target()]), whitelist=[{"source_pod": ["ops/"]}, {"destination_pod": ["shop/"]}])
    assert len(await query.window(source(POD))) == 1


@pytest.mark.parametrize(
    "request_",
    [
        {"whitelist": [{"source_pod": ["ops/"], "traffic_direction": ["EGRESS"]}]},
        {"whitelist": [{"source_pod": ["ops/"], "node_name": ["node-1"]}]},
        {"whitelist": [{"source_pod": ["ops/"]}], "blacklist": [{"destination_pod": ["shop/server"]}]},
        {"whitelist": [{"source_pod": ["ops/"]}], "until": "1970-01-01T00:16:30Z"},
        {"whitelist": [{"source_pod": ["ops/"]}], "since": "1970-01-01T00:16:30.002Z"},
    ],
    ids=["direction", "node", "deny", "until", "since"],
)
async def test_flows_in_addition_are_of_the_query_in_every_respect(request_: dict[str, Any]) -> None:
    query = Query(Agent("node-2", [target()]), **request_)
    assert [flow.uuid for flow in await query.window(source(POD))] == [f"s{AT}"]
    assert query.counts.added == 0


async def test_a_flow_that_the_join_turns_into_a_denied_one_stays() -> None:
    query = Query(blacklist=[{"source_pod": ["ops/hostnet"]}])
    assert names(await query.window(source(POD), target())) == [("hostnet", "server")] * 2


async def test_of_a_follower_only_what_is_newer_than_its_question_comes_in_addition() -> None:
    query = Query(Agent("node-2", [target(), target(time=NOW + S)]), follow=True, **FROM_HOSTNET)
    query.now = NOW + 2 * S
    assert [flow.uuid for flow in await query.window(source(POD, time=NOW + S))] == [f"s{NOW + S}", f"t{NOW + S}"]


async def test_of_the_last_n_nothing_older_than_the_first_comes_in_addition() -> None:
    query = Query(Agent("node-2", [target(time=AT + S), target(time=AT + 3 * S)]), number=5, **FROM_HOSTNET)
    flows = await query.window(source(POD, time=AT + 2 * S))
    assert [flow.uuid for flow in flows] == [f"s{AT + 2 * S}", f"t{AT + 3 * S}"]


@pytest.mark.parametrize(("namespaces", "count"), [({"ops"}, 2), ({"shop"}, 1), (set(), 1)])
async def test_flows_in_addition_are_such_that_the_caller_may_see(namespaces: set[str], count: int) -> None:
    server = end(pod="", node="node-2", identity=1, evidence=extension_pb2.CGROUP)
    query = Query(Agent("node-2", [target(server=server)]), namespaces=frozenset(namespaces))
    assert len(await query.window(source(NODE_2))) == count


async def test_a_flow_comes_in_addition_once() -> None:
    query = Query(Agent("node-2", [target()]), **FROM_HOSTNET)
    first = await query.window(source(POD))
    again = await query.window(source(POD, time=AT + S))
    assert [len(first), len(again)] == [2, 1]
    assert query.counts.asked == 2


async def test_what_was_given_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra_flows, "REMEMBERED", 2)
    query = Query(Agent("node-2", [target(time=AT + number * MS) for number in range(5)]), **FROM_HOSTNET)
    assert len(await query.window(source(POD))) == 6
    assert len(query.others._extra._given) == 2


async def test_more_flows_in_addition_than_one_window_bears_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra_flows, "MOST_ROWS", 3)
    query = Query(Agent("node-2", [target(time=AT + number * MS) for number in range(5)]), **FROM_HOSTNET)
    assert len(await query.window(source(POD))) == 4
    assert query.counts.skipped == 2


async def test_a_follower_asks_once_more_for_what_comes_later() -> None:
    agent = Agent("node-2")
    query = Query(agent, follow=True, **FROM_HOSTNET)
    assert len(await query.window(source(POD, time=NOW))) == 1
    agent.rows = [target(time=NOW + 500 * MS)]
    assert await query.window() == []
    query.now += AGAIN_NS
    assert names(await query.window()) == [("hostnet", "server")]
    query.now += AGAIN_NS
    assert await query.window() == []
    assert len(agent.asked) == 2


async def test_a_view_of_the_window_before_is_joined_without_asking() -> None:
    agent = Agent("node-1")
    query = Query(agent, follow=True)
    agent.batched = False
    await query.window(source(POD, time=NOW))
    agent.batched = True
    assert names(await query.window(target(time=NOW))) == [("hostnet", "server")]
    assert not agent.asked
    query.now += RECENT_NS + S
    await query.window()
    assert names(await query.window(target(time=NOW))) == [("", "server")]


async def test_what_is_remembered_moves_into_new_tables() -> None:
    query = Query(follow=True)
    await query.window(source(POD, time=NOW))
    query.ends, query.nodes = EndTable(), ["node-3", "node-2"]
    query.ends.number(WEB.SerializeToString())
    query.others.change_tables(query.ends, query.nodes)
    assert query.nodes == ["node-3", "node-2", "node-1"]
    assert names(await query.window(target(time=NOW))) == [("hostnet", "server")]


def test_a_filter_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(FilterError):
        Query(whitelist=[{"source_ip": ["nowhere"]}])
