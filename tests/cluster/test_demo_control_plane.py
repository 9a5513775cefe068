"""The demo's control plane: agents announced, stopped and started; an API server that is killed, throttles and forgets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from waiting import eventually

from flows.agent.enrich.kube_objects import resources
from flows.demo import layout

if TYPE_CHECKING:
    from demo_command import Demo

Json = dict[str, Any]
QUIET_SECONDS = 3.0
PAUSE_SECONDS = 90.0  # whose watches ended again and again asks again after 30 s at most
# What an agent asks of the API server once it has its lists.
AGENT = "system:serviceaccount:kube-system:flows-agent"


def kubectl(*words: str, kubeconfig: str = str(layout.KUBECONFIG)) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KUBECONFIG": kubeconfig}
    return subprocess.run(["kubectl", *words], capture_output=True, text=True, timeout=30, check=False, env=environment)


def ready_agents() -> dict[str, bool]:
    done = kubectl("get", "endpointslices", "-n", "kube-system", "-l", "kubernetes.io/service-name=flows-agent", "-o", "json")
    slices = json.loads(done.stdout)["items"]
    assert {port["port"] for piece in slices for port in piece["ports"]} == {layout.AGENT_PORT}
    return {row["nodeName"]: row["conditions"]["ready"] for piece in slices for row in piece["endpoints"]}


def test_agents_are_announced_as_they_come_and_go(demo: Demo) -> None:
    eventually("all are ready", lambda: ready_agents() == dict.fromkeys(("node-1", "node-2", "node-3"), True))
    demo.ok("stop", "agent/node-2")
    eventually("one is not", lambda: ready_agents() == {"node-1": True, "node-2": False, "node-3": True})
    demo.ok("start", "agent/node-2")
    eventually("it is again", lambda: all(ready_agents().values()))


def test_a_stopped_agent_stays_stopped_and_is_shown_so(without_node_2: Demo) -> None:
    time.sleep(2.5)  # longer than a dead one takes to come back
    agent = without_node_2.status()["agents"][1]
    assert (agent["unit"], agent["pid"], agent["stopped"], agent["ready"]) == ("agent/node-2", 0, True, False)
    assert "agent/node-2  172.31.77.12:4244  unix:///run/flows/demo/node-2.sock  stopped" in without_node_2.ok("status")


def test_a_unit_that_is_none_is_told(demo: Demo) -> None:
    done = demo.run("stop", "node-2")
    assert (done.returncode, done.stdout) == (2, "")
    expected = "flows: demo stop: there is no 'node-2'; expected one of api, agent/node-1, agent/node-2, agent/node-3\n"
    assert done.stderr == expected


# TLS of the agents


def handshake(address: str, context: ssl.SSLContext) -> str:
    """The TLS version an agent speaks with this client; raises ssl.SSLError. The first byte read tells what it thinks of us."""
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="node-1.demo.hubble-grpc.cilium.io") as tls,
    ):
        assert tls.recv(9)[3] == 4  # the SETTINGS frame of an HTTP/2 server
        return str(tls.version())


def test_agents_serve_those_who_show_the_relays_certificate(demo: Demo) -> None:
    address = demo.status()["agents"][0]["address"]
    relay = ssl.create_default_context(cafile=str(layout.FLOWS_CA))
    relay.load_cert_chain(layout.RELAY_PKI / "client.crt", layout.RELAY_PKI / "client.key")
    assert handshake(address, relay) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
        handshake(address, ssl.create_default_context(cafile=str(layout.FLOWS_CA)))


# Users


def can_get_flows(demo: Demo, account: str, namespace: str) -> bool:
    """What the API answers to who asks with a token of an account."""
    attributes = {"verb": "get", "group": "flows.dev", "resource": "flows", "namespace": namespace}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    context = ssl.create_default_context(cafile=str(layout.PKI / "ca.crt"))
    connection = http.client.HTTPSConnection(layout.API_ADDRESS, layout.API_PORT, context=context, timeout=10)
    headers = {"Authorization": f"Bearer {demo.ok('token', account).strip()}", "Content-Type": "application/json"}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    connection.request("POST", path, json.dumps({**review, "spec": {"resourceAttributes": attributes}}), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize(
    ("account", "allowed"),
    [
        ("demo/viewer", ["demo"]),
        ("other/viewer", ["other"]),
        ("demo/nobody", []),
        ("demo/admin", ["demo", "other", ""]),
    ],
)
def test_users_may_see_what_their_bindings_say(demo: Demo, account: str, allowed: list[str]) -> None:
    assert [namespace for namespace in ("demo", "other", "") if can_get_flows(demo, account, namespace)] == allowed


def test_a_token_of_nobody_is_told(demo: Demo) -> None:
    done = demo.run("token", "demo/nix")
    assert (done.returncode, done.stderr) == (1, 'flows: serviceaccounts "nix" not found\n')


# The API server


def requests(demo: Demo, since: float, *, user: str = AGENT) -> list[Json]:
    rows = [json.loads(line) for line in demo.ok("api", "requests", "--since", str(since)).splitlines()]
    return [row for row in rows if row["user"] == user]


def settled(demo: Demo) -> bool:
    """Whether agents watch all that they want, and have asked for nothing more for a while."""
    watching = [row for row in requests(demo, 0) if row["open"]]
    return len(watching) == len(layout.NODES) * len(resources("")) and not requests(demo, time.time() - QUIET_SECONDS)


def refused() -> bool:
    try:
        socket.create_connection((layout.API_ADDRESS, layout.API_PORT), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_killed_api_server_resets_refuses_and_comes_back(demo: Demo) -> None:
    pid = demo.status()["api"]["pid"]
    version = kubectl("get", "deployment", "svc-a", "-n", "demo", "-o", "jsonpath={.metadata.uid}").stdout
    with socket.create_connection((layout.API_ADDRESS, layout.API_PORT), timeout=10) as idle:
        began = time.time()
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            assert idle.recv(1) == b""
    eventually("its port refuses", refused)
    eventually("it is back", lambda: kubectl("get", "ns").returncode == 0)
    assert demo.status()["api"]["pid"] != pid
    uid = kubectl("get", "deployment", "svc-a", "-n", "demo", "-o", "jsonpath={.metadata.uid}").stdout
    assert uid == version  # what is stored lives on
    eventually("agents watch again", lambda: [row for row in requests(demo, began) if row["verb"] == "watch"])


def test_a_stopped_api_server_stays_away_until_it_is_started(demo: Demo) -> None:
    demo.ok("stop", "api")
    try:
        time.sleep(2)
        assert refused()
        assert demo.status()["api"]["stopped"]
    finally:
        demo.ok("start", "api")
    assert kubectl("get", "ns").returncode == 0


def test_compaction_makes_watchers_list_again(demo: Demo) -> None:
    eventually("agents are settled", lambda: settled(demo), PAUSE_SECONDS)
    began = time.time()
    assert json.loads(demo.ok("api", "compact"))["watches"] > 0
    lists = eventually("they list", lambda: [row for row in requests(demo, began) if row["verb"] == "list"])
    assert all(row["code"] == 200 for row in lists)


def test_closed_watches_go_on_without_a_list(demo: Demo) -> None:
    eventually("agents are settled", lambda: settled(demo), PAUSE_SECONDS)
    began = time.time()
    demo.ok("api", "close-watches")
    eventually("they watch again", lambda: len([row for row in requests(demo, began) if row["verb"] == "watch"]) >= 3)
    assert not [row for row in requests(demo, began) if row["verb"] == "list"]


def test_throttled_agents_are_told_to_wait_and_administrators_are_not(demo: Demo) -> None:
    eventually("agents are settled", lambda: settled(demo), PAUSE_SECONDS)
    began = time.time()
    demo.ok("api", "throttle", "0", "3")
    demo.ok("api", "close-watches")
    refusals = eventually("agents are refused", lambda: [row for row in requests(demo, began) if row["code"] == 429])
    assert kubectl("get", "ns").returncode == 0
    demo.ok("api", "throttle", "0", "0")
    eventually("they watch again", lambda: [row for row in requests(demo, began) if row["code"] == 200])
    assert len(refusals) < 200
