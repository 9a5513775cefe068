"""`-P`: through the Kubernetes API to a pod behind the relay's Service."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cli_cluster import TOKEN, Cluster, cluster
from cli_samples import answered, at, batch, covered, shown
from cli_server import Batches, Observer, Serve
from test_cli_tls import authority, issue

from flows.cli.backend import PortForwardError, backend
from flows.cli.main import main
from flows.proto.observer_pb2 import ServerStatusResponse

if TYPE_CHECKING:
    from pathlib import Path

    from test_cli_tls import Identity

__all__ = ["authority", "cluster"]

Capture = pytest.CaptureFixture[str]


def test_the_relay_is_reached_with_the_kubeconfigs_token(serve: Serve, cluster: Cluster, capsys: Capture) -> None:
    relay = Batches(answer=lambda _: [batch(range(1, 500)), covered(answered("a"))])
    cluster.pods = {"relay-0": "127.0.0.1:9", "relay-1": serve(relay, tcp=True)}
    cluster.unready = {"relay-0"}
    assert main(["observe", "-P", "--kubeconfig", cluster.kubeconfig]) == 0
    out, err = capsys.readouterr()
    assert shown(out) == [f"n{n}" for n in range(1, 500)]
    assert err == ""
    assert cluster.forwarded == ["relay-1:4245"]
    assert cluster.tokens == {f"Bearer {TOKEN}"}
    assert ("authorization", f"Bearer {TOKEN}") in [tuple(each) for each in relay.metadata]


def test_the_usual_kubeconfig_and_hubbles_relay(
    serve: Serve, cluster: Cluster, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.service, cluster.namespace = "hubble-relay", "cilium"
    cluster.pods = {"hubble-relay-0": serve(Observer([at(1)], status=ServerStatusResponse(num_flows=1)), tcp=True)}
    monkeypatch.setenv("KUBECONFIG", cluster.kubeconfig)
    monkeypatch.setenv("FLOWS_SERVER", "192.0.2.1:1")
    where = ["-P", "--kube-namespace", "cilium"]
    assert main(["observe", *where]) == 0
    assert shown(capsys.readouterr().out) == ["n1"]
    assert main(["status", *where]) == 0
    assert "Healthcheck (via cilium/hubble-relay (port-forward)): Ok" in capsys.readouterr().out


def test_tls_goes_through_it(serve: Serve, cluster: Cluster, authority: Identity, tmp_path: Path, capsys: Capture) -> None:
    identity = issue(tmp_path, "relay.flows.test", authority)
    server = serve(Observer([at(1)]), grpc.ssl_server_credentials([(identity.key_pem, identity.pem)]))
    cluster.pods = {"relay-0": server}
    trust = ["--tls", "--tls-ca-cert-files", authority.files()[0]]
    command = ["observe", "-P", "--kubeconfig", cluster.kubeconfig, *trust]
    assert main([*command, "--tls-server-name", "relay.flows.test"]) == 0
    assert shown(capsys.readouterr().out) == ["n1"]
    assert main(command) == 1
    assert "its certificate is for relay.flows.test, expected 127.0.0.1: set --tls-server-name" in capsys.readouterr().err


def test_a_relay_that_lets_nobody_in_names_the_token(serve: Serve, cluster: Cluster, capsys: Capture) -> None:
    cluster.pods = {"relay-0": serve(Observer(failure=(grpc.StatusCode.UNAUTHENTICATED, "no")), tcp=True)}
    assert main(["observe", "-P", "--kubeconfig", cluster.kubeconfig]) == 1
    expected = "kube-system/flows-relay (port-forward): it wants to know who you are: no; the server does not accept"
    assert expected in capsys.readouterr().err


def test_a_chosen_port_is_listened_on(serve: Serve, cluster: Cluster, capsys: Capture) -> None:
    cluster.pods = {"relay-0": serve(Observer([at(1)]), tcp=True)}
    command = ["observe", "-P", "--kubeconfig", cluster.kubeconfig, "--port-forward-port"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([*command, str(port)]) == 1
        assert f"--port-forward-port {port}: " in capsys.readouterr().err
    assert main([*command, str(port)]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"service": "other"}, "no Service flows-relay or hubble-relay in namespace kube-system; name the relay's namespace"),
        ({"pods": {}}, "Service kube-system/flows-relay has no ready pod; see: kubectl -n kube-system get pods"),
        ({"unready": {"relay-0"}}, "has no ready pod"),
        ({"forbidden": "pods is\x1b forbidden"}, "pods is^[ forbidden; grant create on pods/portforward"),
        ({}, "an error occurred forwarding 4245: connection refused"),
        ({"url": "http://127.0.0.1:9"}, "--port-forward: GET /api/v1/namespaces/kube-system/services/flows-relay"),
    ],
)
def test_no_way_is_one_line_with_its_reason(cluster: Cluster, capsys: Capture, change: dict[str, Any], message: str) -> None:
    cluster.pods = {"relay-0": "127.0.0.1:9"}
    for name, value in change.items():
        setattr(cluster, name, value)
    assert main(["observe", "-P", "--kubeconfig", cluster.kubeconfig]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_replaced_pod_is_found_while_following(serve: Serve, cluster: Cluster) -> None:
    relays = [Batches(answer=answer, hold=True) for answer in (lambda _: [batch([1])], lambda _: [batch([2])])]
    cluster.pods = {"relay-old": serve(relays[0], tcp=True)}
    command = [sys.executable, "-m", "flows.cli.main", "observe", "-f", "-P", "--kubeconfig", cluster.kubeconfig]
    with subprocess.Popen(command, env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(b"(n1)\n")
        cluster.pods = {"relay-new": serve(relays[1], tcp=True)}
        cluster.cut()
        assert process.stderr.readline().endswith(b"; trying again\n")
        assert process.stdout.readline().endswith(b"(n2)\n")
        assert process.stderr.readline().endswith(b"connected again\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert cluster.forwarded == ["relay-old:4245", "relay-new:4245"]


class Answers:
    """An API that gives these bodies, whatever they are."""

    def __init__(self, *bodies: Any) -> None:
        self._bodies = list(bodies)

    def read(self, path: str, query: dict[str, str]) -> bytes:
        return json.dumps(self._bodies.pop(0)).encode()


@pytest.mark.parametrize(
    "slices",
    [
        {},
        {"items": None},
        {"items": [{"endpoints": None, "ports": None}]},
        {"items": [{"endpoints": [{"targetRef": {"kind": "Node", "name": "n"}}], "ports": [{"port": 1}]}]},
        {"items": [{"endpoints": [{"targetRef": {"kind": "Pod", "name": "p"}}], "ports": [{"name": "other", "port": 1}]}]},
    ],
)
def test_a_service_without_what_is_needed_has_no_ready_pod(slices: Any) -> None:
    with pytest.raises(PortForwardError, match="no ready pod"):
        backend(Answers({"spec": {"ports": [{"port": 80}]}}, slices), "ns")


def test_an_endpoint_of_which_nothing_is_said_is_ready() -> None:
    slices = {"items": [{"endpoints": [{"targetRef": {"kind": "Pod", "name": "p"}}], "ports": [{"port": 4245}]}]}
    found = backend(Answers({"spec": {"ports": [{"port": 80}]}}, slices), "ns")
    assert (found.pod, found.port) == ("p", 4245)
