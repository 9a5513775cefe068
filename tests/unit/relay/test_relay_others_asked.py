"""Whom a relay asks for the other view of a connection, how often, and what becomes of questions without an answer."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from join_peers import Agent, Query, views
from join_samples import CLIENT, MS, SERVER, WEB, S, end
from others_samples import AT, FROM_HOSTNET, NODE_1, NODE_2, POD, SEEN, UNKNOWN, source, target

from flows.proto import extension_pb2, flows_pb2, relay_pb2
from flows.relay import inquiry


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
