"""Command lines of the relay: what is understood, and one line for what is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))

from wire_certificates import issue

from flows.relay.options import LISTEN, METRICS_LISTEN, parse
from flows.wire.tls import ClientFiles, ServerFiles

PEERS = ["--peers", "n=10.0.0.1:4244"]


@pytest.fixture(autouse=True)
def outside_of_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def test_defaults() -> None:
    options = parse(PEERS)
    assert (options.listen, options.metrics_listen, options.cluster) == (LISTEN, METRICS_LISTEN, "default")
    assert (options.tls, options.peer_tls, options.kubernetes) == (None, None, False)
    assert (options.sockets, options.loopback, options.remote) == (LISTEN[:1], LISTEN[1:], ())


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--peers", "a:1,b:2", "--peers", "c:3"], "peers", 3 + 1),
        (["--agents-service", "kube-system/flows-agent:grpc"], "agents_service", "kube-system/flows-agent:grpc"),
        (["--agents-service", "kube-system/flows-agent"], "kubernetes", True),
        (["--peer-service", "hubble-peer:80"], "peer_service", "hubble-peer:80"),
        (["--kubeconfig", "/k"], "kubernetes", True),
        (["--metrics-listen", "off"], "metrics_listen", ""),
        (["--peer-tls-server-name", "agents.{cluster}.test"], "peer_server_name", "agents.{cluster}.test"),
        (["--listen", "0.0.0.0:1", "--allow-unauthenticated"], "remote", ("0.0.0.0:1",)),
        (["--listen", "localhost:1", "--listen", "localhost:1"], "listen", ("localhost:1",)),
    ],
)
def test_what_is_understood(words: list[str], field: str, value: object) -> None:
    taken = getattr(parse([*PEERS, *words]), field)
    assert (len(taken) if field == "peers" else taken) == value


def test_in_a_pod_there_is_an_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert parse(PEERS).kubernetes


def test_tls_both_ways(tmp_path: Path) -> None:
    ca = issue(tmp_path, "CA")
    own, client = issue(tmp_path, "s", ca), issue(tmp_path, "c", ca)
    words = ["--listen", "0.0.0.0:1", "--tls-cert-file", own.cert_file, "--tls-key-file", own.key_file]
    words += [
        "--peer-tls-ca-file",
        ca.cert_file,
        "--peer-tls-cert-file",
        client.cert_file,
        "--peer-tls-key-file",
        client.key_file,
    ]
    options = parse([*PEERS, *map(str, words)])
    assert options.tls == ServerFiles(own.cert_file, own.key_file)
    assert options.peer_tls == ClientFiles(ca.cert_file, client.cert_file, client.key_file)
    with pytest.raises(SystemExit):
        parse([*PEERS, "--tls-cert-file", str(own.cert_file), "--tls-key-file", str(client.key_file)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no agents to ask: give --peers, --agents-service or --peer-service"),
        (["--pears", "a:1"], "did you mean --peers?"),
        (["--peers", "a"], "expected host:port"),
        (["--peers", "a=tls://b:1"], "--peer-tls-ca-file must have the CA"),
        (["--agents-service", "flows-agent"], "expected NAMESPACE/NAME"),
        (["--peer-service", "unix:///a"], "expected host:port"),
        ([*PEERS, "--listen", "0.0.0.0:1"], "must not cross a network in the clear"),
        ([*PEERS, "--tls-cert-file", "/x"], "go together"),
        ([*PEERS, "--tls-client-ca-file", "/x"], "needs --tls-cert-file"),
        ([*PEERS, "--tls-cert-file", "/x", "--tls-key-file", "/x"], "reading /x"),
        ([*PEERS, "--peer-tls-key-file", "/x"], "go together"),
        ([*PEERS, "--peer-tls-cert-file", "/x", "--peer-tls-key-file", "/x"], "--peer-tls-ca-file must say"),
        ([*PEERS, "--peer-tls-ca-file", "/x"], "reading /x: No such file"),
        ([*PEERS, "--peer-tls-server-name", "{nod}.test"], "expected a DNS name with {node}"),
        ([*PEERS, "--peer-tls-server-name", "a b"], "expected a DNS name with {node}"),
        ([*PEERS, "--peer-tls-server-name", "{node.__class__}"], "expected a DNS name with {node}"),
        ([*PEERS, "--metrics-listen", "9966"], "expected host:port"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(words)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert said in error
    assert error.count("\n") == 1
