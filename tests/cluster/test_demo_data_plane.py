"""The demo's data plane: Services, DNS, routing, cgroups and exec, as pods see them."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from waiting import eventually

if TYPE_CHECKING:
    from demo_command import Demo

NODE_PORT = """
apiVersion: v1
kind: Service
metadata: {name: svc-b-node, namespace: demo}
spec:
  type: NodePort
  selector: {app: svc-b}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
"""

EMPTY = """
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: demo}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
"""

DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-svc-a, namespace: demo}
spec:
  podSelector: {matchLabels: {app: svc-b}}
  policyTypes: [Ingress]
  ingress:
    - from: [{podSelector: {matchLabels: {app: svc-a}}}]
      ports: [{port: http}]
"""


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_service_name_leads_to_both_replicas(demo: Demo, family: str) -> None:
    replicas = {pod["name"] for pod in demo.pods("demo/svc-b-")}
    loop = f"for i in $(seq 40); do curl -s {family} svc-b; done"
    answers = Counter(demo.exec("svc-a", "sh", "-c", loop).split())
    assert len(replicas) == 2
    assert answers.keys() == replicas
    assert sum(answers.values()) == 40


def test_name_is_found_through_the_search_domains_of_the_pods_namespace(demo: Demo) -> None:
    options = demo.exec("svc-a", "cat", "/etc/resolv.conf")
    assert options == ("search demo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n")
    for name in ("svc-b", "svc-b.demo", "svc-b.demo.svc", "svc-b.demo.svc.cluster.local"):
        assert "svc-b.demo.svc.cluster.local" in demo.exec("demo/svc-a", "getent", "ahosts", name)
    assert demo.run("exec", "other/visitor", "--", "getent", "ahosts", "svc-b").returncode == 2


def test_headless_service_is_its_pods_addresses(demo: Demo) -> None:
    found = set(re.findall(r"^(\S+)\s+STREAM", demo.exec("svc-a", "getent", "ahosts", "svc-b-pods"), re.MULTILINE))
    assert found == {ip for pod in demo.pods("demo/svc-b-") for ip in pod["ips"]}


@pytest.mark.parametrize("family", [0, 1])
def test_pods_reach_each_other_by_address_across_nodes(demo: Demo, family: int) -> None:
    clients, servers = demo.pods("demo/svc-a-"), demo.pods("demo/svc-b-")
    for client in clients:
        for server in servers:
            host = server["ips"][family] if family == 0 else f"[{server['ips'][family]}]"
            assert demo.exec(f"demo/{client['name']}", "curl", "-s", f"http://{host}:8080").strip() == server["name"]


def test_host_network_pod_has_the_nodes_address_and_its_own_cgroup(demo: Demo) -> None:
    (watch,) = demo.pods("demo/node-watch")
    (node,) = [n for n in demo.status()["nodes"] if n["name"] == watch["node"]]
    assert watch["hostNetwork"]
    assert watch["ips"] == node["addresses"]
    assert watch["netns"] == node["netns"]
    assert watch["pid"] in map(int, Path(watch["cgroup"], "cgroup.procs").read_text().split())
    assert demo.exec("node-watch", "curl", "-s", "svc-b").startswith("svc-b-")


def test_each_node_lays_its_cgroups_out_as_its_runtime_does(demo: Demo) -> None:
    shapes = {
        "node-1": r"/kubepods\.slice/.+\.slice/cri-containerd-[0-9a-f]{64}\.scope$",
        "node-2": r"/kubepods\.slice/.+\.slice/crio-[0-9a-f]{64}\.scope$",
        "node-3": r"/kubepods/[a-z]+/pod[0-9a-f-]{36}/[0-9a-f]{64}$",
    }
    for pod in (pod for pod in demo.status()["pods"] if pod["containers"]):
        assert re.search(shapes[pod["node"]], pod["cgroup"])
        assert f"/flows-demo/{pod['node']}/" in pod["cgroup"]


@pytest.mark.parametrize(
    ("command", "code"),
    [(["true"], 0), (["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], -9), (["no-such-program"], 127)],
)
def test_exec_ends_as_its_command_does(demo: Demo, command: list[str], code: int) -> None:
    assert demo.run("exec", "svc-a", "--", *command).returncode == code


def test_exec_passes_standard_input_and_runs_inside_the_pod(demo: Demo) -> None:
    pod = demo.pods("demo/svc-a-")[0]
    name = f"demo/{pod['name']}"
    assert demo.ok("exec", name, "--", "cat", text="hello") == "hello"
    assert demo.exec(name, "hostname").strip() == pod["name"]
    assert demo.exec(name, "cat", "/proc/self/cgroup").rstrip().endswith(pod["cgroup"].split("/flows-demo/")[1])


def test_errors_of_exec_are_one_line(demo: Demo) -> None:
    done = demo.run("exec", "nobody", "--", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"flows: no pod's name begins with 'nobody'; pods: .+\n", done.stderr)


def test_what_a_pod_writes_stays_in_the_pod(demo: Demo) -> None:
    demo.exec("svc-a", "sh", "-c", "echo x > /etc/flows-demo-test; mkdir /flows-demo-test; echo y > /tmp/flows-demo-test")
    assert not any(Path(p).exists() for p in ("/etc/flows-demo-test", "/flows-demo-test", "/tmp/flows-demo-test"))


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["curl", "-s", "--max-time", "5", "http://svc-b:81"], 7),  # a port the Service does not have: rejected
        (["curl", "-s", "--max-time", "5", "http://svc-c"], 6),  # no such name
        (["curl", "-s", "--max-time", "5", "http://192.0.2.77"], 7),  # the world is unreachable, at once
    ],
)
def test_failures_fail_as_in_a_cluster(demo: Demo, command: list[str], code: int) -> None:
    assert demo.run("exec", "svc-a", "--", *command).returncode == code


def test_api_is_reached_through_its_service_and_from_the_machine(demo: Demo) -> None:
    inside = demo.exec("svc-a", "curl", "-sk", "https://kubernetes.default/version")
    assert '"gitVersion"' in inside
    kubectl = ["kubectl", "--kubeconfig", demo.status()["kubeconfig"], "get", "pods", "-A", "--no-headers"]
    listed = subprocess.run(kubectl, capture_output=True, text=True, check=True).stdout.splitlines()
    # The CronJob's come and go each minute.
    pods = {tuple(line.split()[:2]) for line in listed if "audit-" not in line}
    assert pods == {(pod["namespace"], pod["name"]) for pod in demo.status()["pods"] if not pod["name"].startswith("audit-")}


def test_network_policy_is_enforced(demo: Demo) -> None:
    ask = ["curl", "-s", "-o", "/dev/null", "--max-time", "1", "http://svc-b.demo"]
    with demo.applied(DENY):
        eventually("others are kept out", lambda: demo.run("exec", "visitor", "--", *ask).returncode == 28)
        assert demo.run("exec", "svc-a", "--", *ask).returncode == 0
    eventually("others are let in", lambda: demo.run("exec", "visitor", "--", *ask).returncode == 0)


def answers_from(address: str) -> set[str]:
    """Who answers 20 connections from the machine itself."""
    url = [f"http://{address}:30080"] * 20
    ask = ["curl", "-s", "--max-time", "3", "-H", "Connection: close", *url]
    return set(subprocess.run(ask, capture_output=True, text=True, check=False).stdout.split())


def test_node_port_leads_from_the_machine_to_pods_on_every_node(demo: Demo) -> None:
    replicas = {pod["name"] for pod in demo.pods("demo/svc-b-")}
    addresses = [node["addresses"][0] for node in demo.status()["nodes"]]
    with demo.applied(NODE_PORT):
        eventually("both answer", lambda: all(answers_from(address) == replicas for address in addresses))


def test_pod_reaches_itself_through_its_service(demo: Demo) -> None:
    for pod in demo.pods("demo/svc-b-"):
        loop = "for i in $(seq 20); do curl -s --max-time 3 svc-b || echo lost; done"
        assert pod["name"] in set(demo.exec(f"demo/{pod['name']}", "sh", "-c", loop).split())
        assert "lost" not in demo.exec(f"demo/{pod['name']}", "sh", "-c", loop)


def test_service_without_endpoints_refuses_at_once(demo: Demo) -> None:
    ask = ["curl", "-s", "-4", "--max-time", "3", "-o", "/dev/null", "-w", "%{time_total}", "http://empty"]
    with demo.applied(EMPTY):
        eventually("it is refused", lambda: demo.run("exec", "svc-a", "--", *ask).returncode == 7)
