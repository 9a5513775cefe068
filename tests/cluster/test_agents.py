"""The agents of the demo cluster: what a user asks, and what the flows say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from programs import programs
from waiting import eventually

from flows.agent.probe.compile import PROGRAMS

if TYPE_CHECKING:
    from pathlib import Path

    from demo_command import Demo

Json = dict[str, Any]
# Programs that one agent loads: bpf/flows.c. Those of plaintext, which come some seconds later, are not counted.
NAMES = {f"flows_{name}"[:15] for name in PROGRAMS}


def extension(flow: Json) -> Json:
    found: Json = flow["extensions"]
    return found


def port(flow: Json) -> int:
    layer = flow["l4"].get("TCP") or flow["l4"].get("UDP") or {}
    return int(layer.get("source_port", 0))


def test_a_call_through_a_service_shows_both_legs(demo: Demo) -> None:
    demo.exec("svc-a", "curl", "-s", "svc-b")
    asked = ("--from", "svc-a", "--to", "svc-b", "--last", "20")
    service = demo.observed(lambda flow: flow.get("destination_service", {}).get("name") == "svc-b", *asked)
    assert service["source"]["pod_name"].startswith("svc-a-")
    assert service["destination_service"] == {"name": "svc-b", "namespace": "demo"}
    arrived = (*asked, "--traffic-direction", "ingress")
    pod = demo.observed(lambda flow: flow["destination"].get("pod_name", "").startswith("svc-b-"), *arrived)
    assert pod["source"]["pod_name"].startswith("svc-a-")
    assert pod["destination"]["workloads"] == [{"name": "svc-b", "kind": "Deployment"}]
    assert {"name": "svc-b", "namespace": "demo"} in extension(pod)["destination"]["services"]
    assert pod["traffic_direction"] == "INGRESS"


@pytest.mark.parametrize("family", ["4", "6"])
def test_both_legs_are_one_connection_of_the_same_ports(demo: Demo, family: str) -> None:
    name = demo.pods("demo/svc-a")[0]["name"]
    demo.exec(name, "curl", f"-{family}", "-s", "--local-port", "61001-61999", "svc-b")

    def leg(flow: Json) -> bool:
        return 61001 <= port(flow) <= 61999 and extension(flow)["connection"]["event"] == "CLOSED"

    asked = ("--from-pod", f"demo/{name}", "--protocol", "tcp", "--ip-version", family, "--last", "500")
    client = demo.observed(lambda flow: leg(flow) and flow["traffic_direction"] == "EGRESS", *asked)
    server = demo.observed(
        lambda flow: leg(flow) and flow["traffic_direction"] == "INGRESS" and port(flow) == port(client), *asked
    )
    ours, theirs = extension(client)["connection"], extension(server)["connection"]
    assert ours["from_source"]["bytes"] == theirs["from_source"]["bytes"]
    assert ours["from_destination"]["bytes"] == theirs["from_destination"]["bytes"]
    assert extension(client)["source"]["process"]["name"] == "curl"
    assert extension(server)["destination"]["process"]["name"] == "nginx"


def test_a_host_network_pod_has_its_own_name_on_its_node(demo: Demo) -> None:
    pod = demo.pods("demo/node-watch")[0]

    def its_own(flow: Json) -> bool:
        """The other node's view of the same connection has the other node's name."""
        return flow["l4"].get("TCP") is not None and flow["traffic_direction"] == "EGRESS"

    flow = demo.observed(its_own, "--from-pod", "demo/node-watch", "--last", "40")
    assert flow["node_name"] == f"demo/{pod['node']}"
    assert flow["IP"]["source"] in pod["ips"]
    assert flow["source"]["pod_name"] == "node-watch"
    assert extension(flow)["source"]["evidence"] == "CGROUP"


def test_dns_of_a_pod_is_named_at_both_ends(demo: Demo) -> None:
    asked = ("--from", "other/visitor", "--protocol", "udp", "--port", "53", "--last", "50")
    flow = demo.observed(lambda flow: flow["destination"].get("pod_name", "").startswith("kube-dns-"), *asked)
    assert flow["source"] | {"pod_name": "visitor", "namespace": "other"} == flow["source"]


def test_a_refused_connection_is_told_by_who_was_refused(demo: Demo) -> None:
    address = demo.pods("demo/svc-b")[0]["ip"]
    assert demo.run("exec", "svc-a", "--", "curl", "-s", f"{address}:81").returncode == 7
    flow = demo.observed(lambda _: True, "--from", "svc-a", "--to-ip", address, "--to-port", "81", "--last", "5")
    assert extension(flow)["connection"]["event"] == "REFUSED"
    assert "refused" in flow["Summary"]


POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody, namespace: demo}
spec: {podSelector: {matchLabels: {app: store}}, policyTypes: [Ingress], ingress: []}
"""


def test_a_connection_that_policy_drops_is_unanswered(demo: Demo, tmp_path: Path) -> None:
    manifest = tmp_path / "policy.yaml"
    manifest.write_text(POLICY)
    store = demo.pods("demo/store")[0]
    demo.ok("apply", "-f", str(manifest))
    try:
        ask = ("exec", "svc-a", "--", "curl", "-s", "--max-time", "4", f"{store['ip']}:8080")
        eventually("nobody gets in", lambda: demo.run(*ask).returncode == 28)
        asked = ("--from", "svc-a", "--to-ip", store["ip"], "--verdict", "ERROR", "--last", "5")
        flow = demo.observed(lambda _: True, *asked)
    finally:
        demo.ok("delete", "-f", str(manifest))
    assert extension(flow)["connection"]["event"] == "UNANSWERED"
    assert flow["destination"]["pod_name"] == "store-0"
    assert "drop_reason_desc" not in flow


def loaded() -> int:
    return sum(name in NAMES for name in programs("flows_"))


def serves(server: str) -> bool:
    argv = [sys.executable, "-m", "flows.cli.main", "status", "--server", server]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_a_killed_agent_comes_back_and_leaves_no_second_copy(demo: Demo) -> None:
    agents = demo.status()["agents"]
    assert loaded() == len(NAMES) * len(agents)
    os.kill(agents[0]["pid"], signal.SIGKILL)
    end = time.monotonic() + 30
    while demo.status()["agents"][0]["pid"] in (None, 0, agents[0]["pid"]) or not serves(agents[0]["socket"]):
        assert time.monotonic() < end
        time.sleep(0.1)
    flow = demo.observed(lambda _: True, "--server", agents[0]["socket"], "--last", "5")
    assert flow["node_name"] == f"demo/{agents[0]['node']}"
    eventually("its programs are gone", lambda: loaded() == len(NAMES) * len(agents))


def test_following_ends_quietly_on_ctrl_c(demo: Demo) -> None:
    argv = [sys.executable, "-m", "flows.cli.main", "observe", "-f", "--from", "svc-a", "--to", "svc-b"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        lines = [following.stdout.readline() for _ in range(3)]
        following.send_signal(signal.SIGINT)
        _, errors = following.communicate(timeout=20)
    assert all("demo/svc-a-" in line and "demo/svc-b" in line for line in lines)
    assert (following.returncode, errors) == (130, "")


def test_labels_and_workloads_select(demo: Demo) -> None:
    for words in (["--label", "app=svc-a"], ["--workload", "Deployment/svc-a"], ["--from", "app=svc-a"], ["--pod", "demo/svc-a"]):
        flow = demo.observed(lambda _: True, *words, "--last", "1")
        assert "svc-a-" in flow["source"].get("pod_name", "") + flow["destination"].get("pod_name", "")
