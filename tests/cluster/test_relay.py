"""One view of all nodes: what a user gets from the relay, with all agents there, with one missing, and across its restart."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import grpc
import pytest
from application import Application, Made, seen
from google.protobuf.field_mask_pb2 import FieldMask

from flows.cli.batches import BatchResponses
from flows.demo import layout
from flows.flow.protojson import to_json
from flows.proto import flow_pb2, flows_pb2, flows_pb2_grpc, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Answer, Demo

Json = dict[str, Any]
NODES = {"demo/node-1", "demo/node-2", "demo/node-3"}
WAIT_SECONDS = 30.0
FOLLOW_SECONDS = 16  # until the client's end, 6 s before that the application's: an agent that was killed is back 1 to 5 s later
UNSENT_NS = 10**9  # agents send ten times a second; the rest is for a machine that has much to do
OTHERS = "spec.nodeName!"  # an agent lists its own node's pods and those of others apart
SETTLE_SECONDS = 2.0  # from a socket's end to the relay's answer: ring, batch, merge


def eventually(what: str, condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)
    return found


def nanoseconds(text: str) -> int:
    """Of a time in a flow, to the last digit."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def moment(ns: int) -> str:
    """A time as --since and --until take it."""
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat().replace("+00:00", "Z")


def gaps(answer: Answer, node: str) -> list[str]:
    """Why a node's part of an answer is not complete."""
    row = next(row for row in answer.coverage["nodes"] if row["node"] == node)
    return [gap["reason"] for gap in row.get("gaps", [])]


def node_of(pod: Json) -> str:
    return f"demo/{pod['node']}"


# History


def test_the_last_flows_are_of_all_nodes_in_order_of_time(demo: Demo) -> None:
    def from_all() -> Answer | None:
        answer = demo.ask("--last", "50", "--exit-code")
        complete = answer.code == 0  # not while an agent that has just begun may lack one of the 50
        return answer if complete and {flow["node_name"] for flow in answer.flows} == NODES else None

    answer = eventually("flows of all nodes are among the last 50", from_all)
    times = [nanoseconds(flow["time"]) for flow in answer.flows]
    assert (len(times), times) == (50, sorted(times))
    assert (answer.errors, answer.coverage["complete"]) == ("", True)


def test_first_is_of_the_oldest_and_last_of_the_newest_of_all_nodes(demo: Demo) -> None:
    since = moment(time.time_ns())
    time.sleep(4)
    until = moment(time.time_ns() - 10**9)
    everything = demo.observe("--since", since, "--until", until)
    assert len(everything) > 20
    keys = [(flow["time"], flow["node_name"], flow["Summary"]) for flow in everything]
    for words, expected in ((["--first", "10"], keys[:10]), (["--last", "10"], keys[-10:])):
        found = demo.observe("--since", since, "--until", until, *words)
        assert [(flow["time"], flow["node_name"], flow["Summary"]) for flow in found] == expected


def test_nothing_found_is_told_apart_from_nothing_known(demo: Demo) -> None:
    since = moment(time.time_ns())
    time.sleep(1)
    answer = demo.ask("--since", since, "--until", moment(time.time_ns()), "--port", "4", "--exit-code")
    assert (answer.flows, answer.code, answer.coverage.get("complete")) == ([], 1, True)


# Both ends


def test_a_host_network_pods_call_through_a_service_has_both_names_on_both_sides(demo: Demo) -> None:
    pod = demo.pods("demo/node-watch")[0]
    backends = {backend["name"]: node_of(backend) for backend in demo.pods("demo/svc-b-")}

    def sides() -> tuple[Json, Json] | None:
        answer = demo.ask("--from-pod", "demo/node-watch", "--protocol", "tcp", "--last", "40")
        closed = [flow for flow in answer.flows if flow["extensions"]["connection"]["event"] == "CLOSED"]
        ports = Counter(flow["l4"]["TCP"]["source_port"] for flow in closed)
        both = [port for port, count in ports.items() if count == 2]
        if not both:
            return None
        one, other = (flow for flow in closed if flow["l4"]["TCP"]["source_port"] == both[-1])
        return (one, other) if one["extensions"]["connection"].get("observed_at_source") else (other, one)

    ours, theirs = eventually("both sides of one call", sides)
    assert (ours["node_name"], ours["source"]["pod_name"]) == (node_of(pod), "node-watch")
    assert ours["destination_service"] == {"name": "svc-b", "namespace": "demo"}
    backend = ours["extensions"]["connection"]["backend"]
    assert backends[backend["endpoint"]["pod_name"]] == backend["node"] == theirs["node_name"]
    assert theirs["source"]["pod_name"] == "node-watch"
    assert theirs["destination"]["pod_name"] == backend["endpoint"]["pod_name"]
    assert {flow["extensions"]["connection"]["other_view"] for flow in (ours, theirs)} == {"SEEN"}


# One agent away


@pytest.fixture
def nobody_on_node_2(demo: Demo) -> Iterator[Demo]:
    demo.ok("stop", "agent/node-2")
    yield demo
    demo.ok("start", "agent/node-2")


def test_a_missing_agent_is_told_and_changes_the_exit_code(nobody_on_node_2: Demo) -> None:
    answer = nobody_on_node_2.ask("--last", "50", "--exit-code")
    assert (answer.code, len(answer.flows)) == (3, 50)
    assert {flow["node_name"] for flow in answer.flows} <= NODES
    assert "node-2" in answer.errors
    assert gaps(answer, "demo/node-2") == ["DOWN"]
    assert not answer.coverage.get("complete")


def test_a_restarted_agent_makes_answers_complete_again(demo: Demo) -> None:
    demo.ok("stop", "agent/node-2")
    demo.ok("start", "agent/node-2")

    def complete() -> bool:
        since = moment(time.time_ns() - 2 * 10**9)
        return demo.ask("--since", since, "--until", moment(time.time_ns()), "--exit-code").code == 0

    eventually("the answer is complete", complete)


class Follower:
    """`flows observe --follow` in the background; its output goes to a file."""

    def __init__(self, path: Path, *words: str) -> None:
        self.path = path
        argv = [sys.executable, "-m", "flows.cli.main", "observe", "-f", *words, "-o", "json"]
        with path.open("wb") as output, path.with_suffix(".err").open("wb") as errors:
            self.process = subprocess.Popen(argv, stdout=output, stderr=errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def flows(self) -> list[Json]:
        rows = [json.loads(line) for line in self.path.read_text().splitlines() if line.endswith("}")]
        return [row["flow"] for row in rows if "flow" in row]

    def end(self) -> list[Json]:
        """Ctrl-C, and what it had shown."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=20) in {0, 130}, self.path.with_suffix(".err").read_text()
        return self.flows()


@dataclass(frozen=True)
class Followed:
    """What a follower was told while an agent went away and came back, and what the application made: the truth."""

    made: dict[int, Made]  # by source port
    flows: list[Json]
    coverage: Json
    client: str  # nodes
    server: str

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
        for message in flows_pb2_grpc.FlowsStub(channel).GetFlows(flows_pb2.FlowsRequest(query=query)):
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
    assert told.coverage.get("complete"), [node.get("gaps") for node in told.coverage["nodes"]]
    began, ended = min(one.began for one in told.made.values()), max(one.ended for one in told.made.values())
    answer = demo.ask("--since", moment(began), "--until", moment(ended), "--exit-code")
    assert (answer.code, gaps(answer, told.server), gaps(answer, told.client)) == (3, ["LATE"], [])


def test_what_an_agent_had_not_sent_when_it_was_killed_is_a_gap(demo: Demo) -> None:
    def kill(node: str) -> None:
        agent = next(one for one in demo.status()["agents"] if one["node"] == node)
        os.kill(agent["pid"], signal.SIGKILL)

    told = followed(demo, kill)
    assert told.ports(told.client) == set(told.made)
    missing = [told.made[port] for port in set(told.made) - told.ports(told.server)]
    known = {node["node"]: node.get("gaps", []) for node in told.coverage["nodes"]}
    assert known[told.client] == []
    times = [(nanoseconds(gap["from"]), nanoseconds(gap["to"])) for gap in known[told.server]]
    assert all(to - since < UNSENT_NS for since, to in times), known
    assert all(any(since <= one.ended <= to for since, to in times) for one in missing), (missing, known)


# Users


@pytest.fixture(scope="module")
def relay_server(demo: Demo) -> tuple[str, ...]:
    """Flags of a user who is not root of this machine: TLS to a node port."""
    address = f"tls://{layout.NODES[0].address}:31245"
    return ("--server", address, "--tls-ca-cert-files", str(layout.FLOWS_CA))


def token_file(demo: Demo, account: str, folder: Path) -> str:
    path = folder / account.replace("/", "-")
    path.write_text(demo.ok("token", account))
    return str(path)


def namespaces(flow: Json) -> set[str]:
    return {flow.get(end, {}).get("namespace", "") for end in ("source", "destination")} | {
        flow.get(f"{end}_service", {}).get("namespace", "") for end in ("source", "destination")
    }


@pytest.mark.parametrize("namespace", ["demo", "other"])
def test_a_user_sees_flows_with_an_end_in_his_namespace_only(
    demo: Demo, relay_server: tuple[str, ...], tmp_path: Path, namespace: str
) -> None:
    token = token_file(demo, f"{namespace}/viewer", tmp_path)

    def found() -> list[Json]:
        return demo.observe(*relay_server, "--token-file", token, "--last", "100")

    flows = eventually("some flows", found)
    assert all(namespace in namespaces(flow) for flow in flows)
    everything = eventually("flows of others", lambda: demo.observe("--last", "100"))
    assert not all(namespace in namespaces(flow) for flow in everything)


def test_an_administrator_sees_all(demo: Demo, relay_server: tuple[str, ...], tmp_path: Path) -> None:
    token = token_file(demo, "demo/admin", tmp_path)
    flows = demo.observe(*relay_server, "--token-file", token, "--last", "200")
    assert {flow["node_name"] for flow in flows} == NODES
    assert any(namespaces(flow).isdisjoint({"demo"}) for flow in flows)


def test_who_has_no_binding_is_told_what_to_grant(demo: Demo, relay_server: tuple[str, ...], tmp_path: Path) -> None:
    answer = demo.ask(*relay_server, "--token-file", token_file(demo, "demo/nobody", tmp_path), "--last", "1")
    assert (answer.rows, answer.code) == ([], 1)
    assert all(word in answer.errors for word in ("get", "flows", "flows.dev", "system:serviceaccount:demo:nobody")), answer


def test_who_has_no_token_and_who_has_a_bad_one_are_refused(demo: Demo, relay_server: tuple[str, ...], tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("eyJhbGciOiJSUzI1NiJ9.e30.AAAA")
    for words in ((), ("--token-file", str(bad))):
        answer = demo.ask(*relay_server, *words, "--last", "1")
        assert (answer.rows, answer.code) == ([], 1)
        assert "token" in answer.errors


def test_a_user_is_forwarded_to_the_relay_by_the_api(demo: Demo, relay_server: tuple[str, ...], tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(demo.ok("token", "--kubeconfig", "demo/viewer"))
    flows = demo.observe("-P", "--tls", "--kubeconfig", str(kubeconfig), *relay_server[2:], "--last", "20")
    assert flows
    assert all("demo" in namespaces(flow) for flow in flows)


def test_agents_are_direct_servers_for_who_has_the_relays_certificate(demo: Demo) -> None:
    agent = demo.status()["agents"][0]
    files = ["--tls-ca-cert-files", str(layout.FLOWS_CA), "--tls-server-name", "node-1.demo.hubble-grpc.cilium.io"]
    pair = ["--tls-client-cert-file", f"{layout.RELAY_PKI}/client.crt", "--tls-client-key-file", f"{layout.RELAY_PKI}/client.key"]
    server = ["--server", f"tls://{agent['address']}"]
    assert {flow["node_name"] for flow in demo.observe(*server, *files, *pair, "--last", "5")} == {"demo/node-1"}
    answer = demo.ask(*server, *files, "--last", "5")
    assert (answer.rows, answer.code) == ([], 1)
    assert re.search("certificate|handshake", answer.errors, re.IGNORECASE), answer


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
