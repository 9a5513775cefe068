"""The demo's data plane: Services, DNS, routing, cgroups and exec, as pods see them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Demo

WAIT_SECONDS = 20.0

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: other}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: nginx
          image: nginx:1.27
          ports: [{name: http, containerPort: 80}]
          readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: other}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
"""

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

ONCE = """
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: other}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: c
          image: busybox
          command: [sh, -c, "test $(cat /conf/word) = $WORD && curl -sf svc-b.demo"]
          env: [{name: WORD, valueFrom: {configMapKeyRef: {name: once, key: word}}}]
          volumeMounts: [{name: conf, mountPath: /conf}]
      volumes: [{name: conf, configMap: {name: once}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: once, namespace: other}
data: {word: hello}
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


def eventually(what: str, condition: Callable[[], bool]) -> None:
    """Wait until something is so, for a bounded time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS:.0f} s: {what}"
        time.sleep(0.1)


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
    for pod in demo.status()["pods"]:
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
    assert len(listed) == len(demo.status()["pods"])


def test_ordinary_manifest_is_applied_served_and_deleted(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(WEB)
    assert demo.ok("apply", "-f", str(path)) == "service/web created\ndeployment.apps/web created\n"
    try:
        eventually("three replicas", lambda: sum(p["ready"] for p in demo.pods("other/web-")) == 3)
        names = {pod["name"] for pod in demo.pods("other/web-")}
        loop = "for i in $(seq 60); do curl -s web; done"
        eventually("all of them answer", lambda: set(demo.exec("other/visitor", "sh", "-c", loop).split()) == names)
        assert demo.exec("other/visitor", "curl", "-s", "-6", "web").strip() in names
        assert demo.ok("apply", "-f", str(path)) == "service/web unchanged\ndeployment.apps/web unchanged\n"
    finally:
        demo.ok("delete", "-f", str(path))
    eventually("they are gone", lambda: not demo.pods("other/web-"))
    eventually("the name is gone", lambda: demo.run("exec", "visitor", "--", "getent", "hosts", "web").returncode == 2)


def test_network_policy_is_enforced(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "deny.yaml"
    path.write_text(DENY)
    ask = ["curl", "-s", "-o", "/dev/null", "--max-time", "1", "http://svc-b.demo"]
    demo.ok("apply", "-f", str(path))
    try:
        eventually("others are kept out", lambda: demo.run("exec", "visitor", "--", *ask).returncode == 28)
        assert demo.run("exec", "svc-a", "--", *ask).returncode == 0
    finally:
        demo.ok("delete", "-f", str(path))
    eventually("others are let in", lambda: demo.run("exec", "visitor", "--", *ask).returncode == 0)


@contextmanager
def applied(demo: Demo, manifest: str) -> Iterator[None]:
    """A manifest for the time of a `with`."""
    demo.ok("apply", "-f", "-", text=manifest)
    try:
        yield
    finally:
        demo.ok("delete", "-f", "-", text=manifest)


def answers_from(address: str) -> set[str]:
    """Who answers 20 connections from the machine itself."""
    url = [f"http://{address}:30080"] * 20
    ask = ["curl", "-s", "--max-time", "3", "-H", "Connection: close", *url]
    return set(subprocess.run(ask, capture_output=True, text=True, check=False).stdout.split())


def test_node_port_leads_from_the_machine_to_pods_on_every_node(demo: Demo) -> None:
    replicas = {pod["name"] for pod in demo.pods("demo/svc-b-")}
    addresses = [node["addresses"][0] for node in demo.status()["nodes"]]
    with applied(demo, NODE_PORT):
        eventually("both answer", lambda: all(answers_from(address) == replicas for address in addresses))


def test_pod_reaches_itself_through_its_service(demo: Demo) -> None:
    for pod in demo.pods("demo/svc-b-"):
        loop = "for i in $(seq 20); do curl -s --max-time 3 svc-b || echo lost; done"
        assert pod["name"] in set(demo.exec(f"demo/{pod['name']}", "sh", "-c", loop).split())
        assert "lost" not in demo.exec(f"demo/{pod['name']}", "sh", "-c", loop)


def test_service_without_endpoints_refuses_at_once(demo: Demo) -> None:
    ask = ["curl", "-s", "-4", "--max-time", "3", "-o", "/dev/null", "-w", "%{time_total}", "http://empty"]
    with applied(demo, EMPTY):
        eventually("it is refused", lambda: demo.run("exec", "svc-a", "--", *ask).returncode == 7)


def test_job_runs_once_to_its_end(demo: Demo) -> None:
    kubectl = ["kubectl", "--kubeconfig", demo.status()["kubeconfig"], "-n", "other"]
    ask = [*kubectl, "get", "job", "once", "-o", "jsonpath={.status.succeeded}"]
    with applied(demo, ONCE):
        eventually("it succeeds", lambda: subprocess.run(ask, capture_output=True, check=False).stdout == b"1")
        assert [pod["phase"] for pod in demo.pods("other/once-")] == ["Succeeded"]


def test_stateful_pod_has_a_name_of_its_own(demo: Demo) -> None:
    assert demo.exec("svc-a", "curl", "-s", "store-0.store:8080").strip() == "store-0"


def test_killed_container_is_started_again(demo: Demo) -> None:
    (before,) = demo.pods("demo/store-0")
    os.kill(before["pid"], signal.SIGKILL)
    eventually("it is back", lambda: [(p["restarts"], p["ready"]) for p in demo.pods("demo/store-0")] == [(1, True)])
    (after,) = demo.pods("demo/store-0")
    assert (after["uid"], after["ips"]) == (before["uid"], before["ips"])
    assert after["containers"][0]["id"] != before["containers"][0]["id"]


def test_unknown_image_says_what_to_do(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: own, namespace: other}\n"
        "spec: {containers: [{name: c, image: 'registry.example/own:1'}]}\n"
    )
    demo.ok("apply", "-f", str(path))
    try:
        eventually("it waits", lambda: [p["waiting"] for p in demo.pods("other/own")] == ["ImagePullBackOff"])
    finally:
        demo.ok("delete", "-f", str(path))
    eventually("it is gone", lambda: not demo.pods("other/own"))


def test_somebody_elses_broken_pod_does_not_keep_up_waiting(demo: Demo) -> None:
    broken = "apiVersion: v1\nkind: Pod\nmetadata: {name: broken}\n"
    broken += "spec: {containers: [{name: c, image: busybox, command: [no-such-program]}]}\n"
    with applied(demo, broken):
        eventually("it fails", lambda: [p["waiting"] for p in demo.pods("default/broken")] == ["CrashLoopBackOff"])
        assert demo.pods("default/broken")[0]["problem"] == 'exec: "no-such-program": executable file not found in $PATH'
        demo.up()
