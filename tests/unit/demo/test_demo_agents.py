"""How agents are announced in the API, and the certificates by which relay and agents know each other."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.demo import announcement, layout
from flows.demo.api.bootstrap import bootstrap
from flows.demo.api.storage import Storage
from flows.demo.client import in_order, parse_manifests
from flows.demo.node import agent, certificates, image
from flows.demo.node.unit import Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

N1, N2 = layout.NODES[:2]


def unit(node: layout.NodeLayout, *, ready: bool) -> Unit:
    made = Unit(agent.program(node, Path("/cgroup")), lambda: None)
    made.ready = ready
    return made


def announced(storage: Storage) -> dict[str, tuple[str, bool]]:
    found = storage.get("endpointslices", announcement.NAMESPACE, announcement.SLICE)
    assert found is not None
    assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "flows-agent"
    assert [(port["name"], port["port"]) for port in found["ports"]] == [("hubble", 4244)]
    return {row["nodeName"]: (row["addresses"][0], row["conditions"]["ready"]) for row in found["endpoints"]}


def test_agents_are_announced_with_node_address_and_readiness() -> None:
    storage = Storage()
    bootstrap(storage)
    agents = [(N1, unit(N1, ready=True)), (N2, unit(N2, ready=False))]
    announcement.announce(storage, agents)
    assert announced(storage) == {"node-1": ("172.31.77.11", True), "node-2": ("172.31.77.12", False)}
    version = storage.version
    announcement.announce(storage, agents)
    assert storage.version == version
    agents[0][1].ready = False
    announcement.announce(storage, agents)
    assert announced(storage)["node-1"] == ("172.31.77.11", False)


def test_all_manifests_are_what_the_api_knows() -> None:
    storage = Storage()
    bootstrap(storage)
    storage.create("namespaces", {"metadata": {"name": "demo"}})
    storage.create("namespaces", {"metadata": {"name": "other"}})
    for path in (layout.MANIFESTS / "00-agent.yaml", layout.MANIFESTS / "40-users.yaml", layout.RELAY_MANIFEST):
        for manifest in in_order(parse_manifests(path.read_text(), path.name)):
            storage.create(manifest.kind.plural, manifest.body)
    relay = storage.get("deployments", "kube-system", "flows-relay")
    assert relay is not None
    container = relay["spec"]["template"]["spec"]["containers"][0]
    assert image.command_line(container["image"], [], container["args"]) == [layout.flows_program(), *container["args"]]


@pytest.fixture
def pki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    places = {"AGENT_PKI": "agent", "RELAY_PKI": "relay", "SECURE_PKI": "secure", "FLOWS_CA": "flows-ca.crt"}
    for name, folder in places.items():
        monkeypatch.setattr(layout, name, tmp_path / folder)
    certificates.write_certificates()
    return tmp_path


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """TLS in memory; ssl.SSLError as the sides say it."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(there, back, server_side=True), client.wrap_bio(back, there, server_hostname=name)]
    done: set[int] = set()
    while len(done) < 2:
        for number in (1, 0):
            try:
                ends[number].do_handshake()
                done.add(number)
            except ssl.SSLWantReadError:
                continue
    ends[1].write(b"x")
    assert ends[0].read() == b"x"


def contexts(pki: Path, pair: Sequence[str] | None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pki / "agent/tls.crt", pki / "agent/tls.key")
    server.load_verify_locations(pki / "agent/ca.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(pki / "relay/ca.crt"))
    if pair:
        certificate, key = pair
        client.load_cert_chain(pki / certificate, pki / key)
    return server, client


CLIENT = ("relay/client.crt", "relay/client.key")


def test_relay_and_agent_know_each_other(pki: Path) -> None:
    handshake(*contexts(pki, CLIENT), "node-2.demo.hubble-grpc.cilium.io")


@pytest.mark.parametrize(
    ("pair", "name", "words"),
    [
        (None, "node-2.demo.hubble-grpc.cilium.io", "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        (CLIENT, "node-2.other.hubble-grpc.cilium.io", "Hostname mismatch"),
        (("relay/tls.crt", "relay/tls.key"), "node-2.demo.hubble-grpc.cilium.io", "unsuitable certificate purpose"),
    ],
)
def test_strangers_are_refused(pki: Path, pair: Sequence[str] | None, name: str, words: str) -> None:
    with pytest.raises(ssl.SSLError, match=words):
        handshake(*contexts(pki, pair), name)


def test_keys_are_the_owners_alone(pki: Path) -> None:
    keys = sorted(path for path in pki.rglob("*.key"))
    assert [path.stat().st_mode & 0o777 for path in keys] == [0o600] * 4
    assert [(pki / name).stat().st_mode & 0o777 for name in ("agent", "relay", "secure")] == [0o700] * 3
