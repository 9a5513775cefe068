"""What a user gets from the relay while an agent is missing, across its restart, and without the API server."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from application import Application, Made, seen
from google.protobuf.field_mask_pb2 import FieldMask
from told import NODES, moment, nanoseconds, node_of
from waiting import eventually

from flows.agent.observer.coverage import BUSY
from flows.cli.batches import BatchResponses
from flows.demo import layout
from flows.flow.protojson import to_json
from flows.proto import flow_pb2, flows_pb2, flows_pb2_grpc, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo_command import Demo

Json = dict[str, Any]
FOLLOW_SECONDS = 16  # until the client's end, 6 s before that the application's: an agent that was killed is back 1 to 5 s later
UNSENT_NS = 10**9  # agents send ten times a second; the rest is for a machine that has much to do
OTHERS = "spec.nodeName!"  # an agent lists its own node's pods and those of others apart
SETTLE_SECONDS = 2.0  # from a socket's end to the relay's answer: ring, batch, merge


# One agent away


def test_a_missing_agent_is_told_and_changes_the_exit_code(without_node_2: Demo) -> None:
    answer = without_node_2.ask("--last", "50", "--exit-code")
    assert (answer.code, len(answer.flows)) == (3, 50)
    assert {flow["node_name"] for flow in answer.flows} <= NODES
    assert "node-2" in answer.errors
    assert answer.gaps("demo/node-2") == ["DOWN"]
    assert not answer.coverage.get("complete")


def test_a_restarted_agent_makes_answers_complete_again(demo: Demo) -> None:
    demo.ok("stop", "agent/node-2")
    demo.ok("start", "agent/node-2")

    def complete() -> bool:
        since = moment(time.time_ns() - 2 * 10**9)
        return demo.ask("--since", since, "--until", moment(time.time_ns()), "--exit-code").code == 0

    eventually("the answer is complete", complete)


@dataclass(frozen=True)
class Followed:
    """What a follower was told while an agent went away and came back, and what the application made: the truth."""

    made: dict[int, Made]  # by source port
    flows: list[Json]
    coverage: Json
    client: str  # nodes
    server: str

    def gaps(self) -> dict[str, list[Json]]:
        """What the last word on coverage says is missing, by node; not what it says of the moment when it was asked."""
        nodes = {node["node"]: node.get("gaps", []) for node in self.coverage["nodes"]}
        return {node: [gap for gap in gaps if gap.get("message") != BUSY] for node, gaps in nodes.items()}

    def ports(self, node: str) -> set[int]:
        """Whose end a node has told."""
        return {one.port for one in seen(self.flows) if one.node == node}


def followed(demo: Demo, away: Callable[[str], None]) -> Followed:
    """Follow an application's connections to a pod whose node's agent is away for a moment."""
    server = demo.pods("demo/store-0")[0]
    client = next(pod for pod in demo.pods("demo/svc-") if pod["node"] != server["node"])
    query = observer_pb2.GetFlowsRequest(whitelist=[flow_pb2.FlowFilter(destination_ip=[server["ip"]])], follow=True)
    query.until.FromNanoseconds(time.time_ns() + FOLLOW_SECONDS * 10**9)
    with ThreadPoolExecutor(1) as following:
        answer = following.submit(batched, query)
        time.sleep(2)
        application = Application(demo, f"demo/{client['name']}", server["ip"], 8080, seconds=FOLLOW_SECONDS - 6)
        time.sleep(2)
        away(server["node"])
        made = {one.port: one for one in application.made()}
        flows, coverage = answer.result(2 * FOLLOW_SECONDS)
    assert max(Counter(seen(flows)).values()) == 1
    assert {one.port for one in seen(flows)} <= set(made)
    return Followed(made, flows, coverage, node_of(client), node_of(server))


def batched(query: observer_pb2.GetFlowsRequest) -> tuple[list[Json], Json]:
    """The flows and the last word on coverage of an answer in batches: one that is followed has an end in it, too."""
    reader, flows, coverage = BatchResponses(FieldMask()), list[Json](), flows_pb2.Coverage()
    with grpc.insecure_channel(f"unix://{layout.RELAY_SOCKET}") as channel:
        stub: Any = flows_pb2_grpc.FlowsStub(channel)  # type: ignore[no-untyped-call] # generated
        for message in stub.GetFlows(flows_pb2.FlowsRequest(query=query)):
            flows += [json.loads(to_json(response.flow)) for response in reader.read(message) if response.HasField("flow")]
            coverage = message.coverage if message.HasField("coverage") else coverage
    return flows, json.loads(to_json(coverage))


def test_a_follower_has_no_hole_and_no_duplicate_across_an_agents_restart(demo: Demo) -> None:
    """What happened while the agent was away waited in the kernel. Who asks afterwards is told that it has forgotten the rest."""

    def restart(node: str) -> None:
        demo.ok("stop", f"agent/{node}")
        time.sleep(1)
        demo.ok("start", f"agent/{node}")

    told = followed(demo, restart)
    assert told.ports(told.client) == told.ports(told.server) == set(told.made)
    assert len(told.made) > 100
    assert not any(told.gaps().values()), told.gaps()
    began, ended = min(one.began for one in told.made.values()), max(one.ended for one in told.made.values())
    answer = demo.ask("--since", moment(began), "--until", moment(ended), "--exit-code")
    assert (answer.code, answer.gaps(told.server), answer.gaps(told.client)) == (3, ["LATE"], [])


def test_what_an_agent_had_not_sent_when_it_was_killed_is_a_gap(demo: Demo) -> None:
    def kill(node: str) -> None:
        agent = next(one for one in demo.status()["agents"] if one["node"] == node)
        os.kill(agent["pid"], signal.SIGKILL)

    told = followed(demo, kill)
    assert told.ports(told.client) == set(told.made)
    missing = [told.made[port] for port in set(told.made) - told.ports(told.server)]
    known = told.gaps()
    assert known[told.client] == []
    times = [(nanoseconds(gap["from"]), nanoseconds(gap["to"])) for gap in known[told.server]]
    assert all(to - since < UNSENT_NS for since, to in times), known
    assert all(any(since <= one.ended <= to for since, to in times) for one in missing), (missing, known)


# The API server away


def lists(demo: Demo, since: float) -> list[Json]:
    rows = [json.loads(line) for line in demo.ok("api", "requests", "--since", str(since)).splitlines()]
    return [row for row in rows if row["verb"] == "list" and ":kube-system:flows-" in row["user"]]


def test_without_the_api_flows_go_on_names_stay_and_nobody_thunders_when_it_is_back(demo: Demo) -> None:
    demo.ok("stop", "api")
    try:
        time.sleep(15)
        application = Application(demo, "svc-a", "svc-b", 80, seconds=2)
        made = application.made()
        time.sleep(SETTLE_SECONDS)
        answer = demo.ask("--since", moment(made[0].began), "--from-pod", "demo/svc-a", "--to", "svc-b", "--exit-code")
    finally:
        back = time.time()
        demo.ok("start", "api")
    ends = seen([flow for flow in answer.flows if flow["source"].get("pod_name", "").startswith("svc-a-")])
    assert {one.port for one in ends} == {one.port for one in made}
    eventually("watches are there again", lambda: has_watches(demo, back))
    time.sleep(15)
    asked = Counter((row["user"], row["resource"], OTHERS in row["query"]) for row in lists(demo, back))
    assert all(count <= len(NODES) for count in asked.values()), asked  # each agent at most once
    seconds = Counter(int(row["time"]) for row in lists(demo, back))
    assert max(seconds.values(), default=0) <= 12, seconds  # and not all at once


def has_watches(demo: Demo, since: float) -> bool:
    rows = [json.loads(line) for line in demo.ok("api", "requests", "--since", str(since)).splitlines()]
    watching = Counter(row["resource"] for row in rows if row["verb"] == "watch" and row["code"] == 200)
    return watching["pods"] >= len(NODES)
