"""The other view of a connection is asked for where it may be, put into the flows, and brings flows that only it tells of."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from join_peers import NOW, Agent, Query, extension, names, views
from join_samples import CLIENT, MS, SERVER, UNNAMED, WEB, Row, S, end

from flows.flow.ends import EndTable
from flows.flow.filter import FilterError
from flows.proto import extension_pb2, flows_pb2, relay_pb2
from flows.relay import extra_flows, inquiry
from flows.relay.others import AGAIN_NS, RECENT_NS

SEEN, UNKNOWN = extension_pb2.SEEN, extension_pb2.OTHER_VIEW_UNKNOWN
NODE_1, NODE_2 = end(node="node-1", identity=6), end(node="node-2", identity=6)
POD = end(pod="server", node="node-2", services=("web",))
HOST_CLIENT = end(pod="hostnet", namespace="ops", node="node-1", evidence=extension_pb2.CGROUP, process="curl")
HOST_SERVER = end(pod="exporter", namespace="ops", node="node-2", evidence=extension_pb2.CGROUP, process="exporter")
AT = NOW - 10 * S
FROM_HOSTNET: dict[str, Any] = {"whitelist": [{"source_pod": ["ops/hostnet"]}]}


def source(destination: flows_pb2.End = NODE_2, client: flows_pb2.End = HOST_CLIENT, time: int = AT, **more: Any) -> Row:
    return Row(0, True, time, AT, source=client, destination=destination, uuid=f"s{time}", **more)


def target(
    client: flows_pb2.End = NODE_1, server: flows_pb2.End = SERVER, time: int = AT + MS, node: int = 1, **more: Any
) -> Row:
    return Row(node, False, time, AT, source=client, destination=server, uuid=f"t{time}", **more)


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


@pytest.mark.parametrize(
    ("remote", "client", "asked"),
    [
        (NODE_2, "", [0, 1, 0]),
        (end(pod="server", node="node-2"), "", [0, 1, 0]),
        (end(pod="server", node="node-9"), "", [0, 0, 0]),
        (end(pod="server"), "192.168.0.3", [0, 0, 0]),
        (end(identity=2, evidence=extension_pb2.RANGE), "192.168.0.3", [0, 0, 0]),
        (end(identity=7), "192.168.0.3", [0, 0, 1]),
        (end(identity=0), "192.168.0.9", [0, 0, 0]),
        (WEB, "", [1, 1, 1]),
        (end(pod="server", node="node-2", evidence=extension_pb2.CONNECTION), "", [0, 0, 0]),
    ],
    ids=["node", "pod", "no agent there", "nothing but a pod", "world", "by address", "unknown address", "Service", "observed"],
)
async def test_who_is_asked(remote: flows_pb2.End, client: str, asked: list[int]) -> None:
    agents = [Agent("node-1"), Agent("node-2"), Agent("node-3", addresses=["192.168.0.3"])]
    await Query(*agents, **FROM_HOSTNET).window(source(remote, address=(client, 80)))
    assert [len(agent.asked) for agent in agents] == asked


async def test_nodes_of_other_clusters_are_not_taken_for_ours() -> None:
    agents = Agent("west/node-2"), Agent("node-2")
    far = end(node="node-2", identity=6)
    far.endpoint.cluster_name = "west"
    await Query(*agents).window(source(far))
    assert [len(agent.asked) for agent in agents] == [1, 0]


async def test_following_everything_only_nodes_of_known_backends_are_asked_for_a_service() -> None:
    agents = Agent("node-1"), Agent("node-2"), Agent("node-3")
    query = Query(*agents, follow=True)
    await query.window(source(WEB), target(CLIENT, SERVER, opener=99, tuple=98))
    assert [len(agent.asked) for agent in agents] == [0, 1, 0]
    assert agents[1].openers() == [[7]]


@pytest.mark.parametrize(("state", "batched"), [(relay_pb2.NODE_UNAVAILABLE, True), (relay_pb2.NODE_CONNECTED, False)])
async def test_agents_that_cannot_answer_are_not_asked(state: relay_pb2.NodeState, batched: bool) -> None:
    agent = Agent("node-2", state=state, batched=batched)
    assert len(await Query(agent).window(source())) == 1
    assert not agent.asked


async def test_an_agent_that_fails_is_counted_and_left_alone_for_a_while() -> None:
    agent = Agent("node-2", [target()])
    agent.fails = grpc.StatusCode.DEADLINE_EXCEEDED
    query = Query(agent, **FROM_HOSTNET)
    assert views(await query.window(source(POD))) == [UNKNOWN]
    assert views(await query.window(source(POD))) == [UNKNOWN]
    assert (len(agent.asked), query.counts.failed) == (1, 1)


async def test_an_answer_that_makes_no_sense_is_counted() -> None:
    agent = Agent("node-2")
    agent.answer = lambda _: _answer(flows_pb2.FlowBatch(flows=[b""], time_ns=b"short"))
    query = Query(agent)
    assert views(await query.window(source(POD))) == [UNKNOWN]
    assert query.counts.failed == 1


async def _answer(message: flows_pb2.FlowBatch) -> flows_pb2.FlowBatch:
    return message


async def test_agents_that_do_not_answer_hold_a_window_up_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "WINDOW_SECONDS", 0.05)
    agent, well = Agent("node-2"), Agent("node-3", [target(NODE_1, node=2, tuple=71)])
    agent.answer = lambda _: asyncio.sleep(60, flows_pb2.FlowBatch())
    query = Query(agent, well, **FROM_HOSTNET)
    assert len(await query.window(source(WEB))) == 2
    assert query.counts.failed == 1


async def test_a_window_of_too_many_connections_is_shown_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "MOST_OPENERS", 2)
    agent = Agent("node-2")
    query = Query(agent)
    flows = await query.window(*(source(opener=opener, tuple=opener) for opener in (1, 2, 3)))
    assert (views(flows), query.counts.skipped, agent.asked) == ([UNKNOWN] * 3, 3, [])


async def test_many_openers_are_asked_for_in_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "MOST_OPENERS_PER_CALL", 2)
    agent = Agent("node-2")
    await Query(agent).window(*(source(opener=opener, tuple=opener) for opener in (3, 1, 2, 3)))
    assert agent.openers() == [[1, 2], [3]]


async def test_a_query_makes_no_more_calls_than_it_is_allowed() -> None:
    agents = Agent("node-1"), Agent("node-2")
    query = Query(*agents, **FROM_HOSTNET)
    query.others._inquiry._allowance = inquiry.Allowance(most=3, per_second=0)
    for _ in range(2):
        await query.window(source(WEB), source(NODE_2, opener=8))
    assert [len(agent.asked) for agent in agents] == [1, 2]
    assert query.counts.skipped == 2


async def test_the_question_is_in_the_other_node_s_time() -> None:
    agent = Agent("node-2", [target(time=AT + 3600 * S)], offset=3600 * S, error=MS)
    agent.rows[0].start += 3600 * S
    flows = await Query(agent, **FROM_HOSTNET).window(source(POD))
    assert views(flows) == [SEEN, SEEN]
    since = agent.asked[0].since.ToNanoseconds()
    assert AT + 3598 * S < since < AT + 3600 * S


def test_a_filter_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(FilterError):
        Query(whitelist=[{"source_ip": ["nowhere"]}])
