"""One view of all nodes: what a user gets from the relay with all agents there."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from told import NODES, moment, nanoseconds, node_of
from waiting import eventually

if TYPE_CHECKING:
    from demo_command import Answer, Demo

Json = dict[str, Any]


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
    everything = answered(demo, 0, "--since", since, "--until", until).flows
    assert len(everything) > 20
    keys = [(flow["time"], flow["node_name"], flow["Summary"]) for flow in everything]
    for words, expected in ((["--first", "10"], keys[:10]), (["--last", "10"], keys[-10:])):
        found = demo.observe("--since", since, "--until", until, *words)
        assert [(flow["time"], flow["node_name"], flow["Summary"]) for flow in found] == expected


def test_nothing_found_is_told_apart_from_nothing_known(demo: Demo) -> None:
    since = moment(time.time_ns())
    time.sleep(1)
    answer = answered(demo, 1, "--since", since, "--until", moment(time.time_ns()), "--port", "4")
    assert (answer.flows, answer.coverage.get("complete")) == ([], True)


def answered(demo: Demo, code: int, *words: str) -> Answer:
    """What is answered once agents have read all that happened until then: a busy one takes its time."""

    def ended_so() -> Answer | None:
        answer = demo.ask(*words, "--exit-code")
        return answer if answer.code == code else None

    found: Answer = eventually(f"exit code {code}", ended_so)
    return found


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
