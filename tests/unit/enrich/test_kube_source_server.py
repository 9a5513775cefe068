"""Which server the Kubernetes source asks and trusts, and what becomes of names while that is away."""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from api_server import ApiServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from enrich_samples import packed
from kube_samples import eventually, page
from kube_source_samples import PODS, Followed
from test_kube_objects import body

from flows.agent.enrich.entities import API_SERVER
from flows.agent.enrich.kube_objects import resources
from flows.agent.enrich.kube_source import KubernetesSource
from flows.agent.enrich.kubernetes import connect
from flows.kube.client import ApiClient
from flows.kube.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

RESOURCES = resources("node-0")

pytestmark = pytest.mark.usefixtures("hurry")


def test_names_come_back_with_the_server(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, page("5", "a"))
    followed = follow()
    eventually(lambda: followed.names() == ["a"] and followed.source.status().in_sync)
    port = api.port
    api.stop()
    eventually(lambda: "pods" in followed.source.status().errors)  # each resource notices for itself
    lost = followed.source.status()
    assert (lost.in_sync, followed.names()) == (False, ["a"])
    time.sleep(0.05)
    assert followed.source.status().since == lost.since

    def expired(server: ApiServer) -> None:
        server.on_list(PODS, page("9", "b"))
        server.on_watch(PODS, body("watch-expired-410"))
        server.on_watch(PODS, None)

    again = ApiServer(port, prepare=expired)
    try:
        eventually(lambda: followed.names() == ["b"] and followed.source.status().in_sync)
    finally:
        followed.source.stop()
        again.stop()


def test_an_unreachable_server_is_a_state_and_no_exception(tmp_path: Path, api: ApiServer) -> None:
    config = api.kubeconfig(tmp_path)
    api.stop()
    source = connect("node-0", config)
    assert not source.status().in_sync
    source.start(lambda _: None)
    eventually(lambda: any("refused" in error for error in source.status().errors.values()))
    assert set(source.status().errors) == {one.name for one in RESOURCES}
    source.stop()


@pytest.mark.parametrize("trusted", [True, False])
def test_server_is_checked_against_the_kubeconfigs_authority(tmp_path: Path, trusted: bool) -> None:
    certificate, key = self_signed(tmp_path, "api")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server = ApiServer(tls=tls)
    server.on_list(PODS, page("5", "a"))
    authority = certificate if trusted else self_signed(tmp_path, "other")[0]
    config = yaml.safe_load(Path(server.kubeconfig(tmp_path)).read_text("ascii"))
    config["clusters"][0]["cluster"] = {
        "server": f"https://127.0.0.1:{server.port}",
        "certificate-authority": str(authority),
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config), "ascii")
    followed = Followed(KubernetesSource(ApiClient(str(tmp_path / "config")), "node-0", ("pods",)))
    try:
        if trusted:
            eventually(lambda: followed.names() == ["a"] and followed.source.status().in_sync)
        else:
            eventually(lambda: "certificate verify failed" in followed.source.status().errors.get("pods", ""))
    finally:
        followed.source.stop()
        server.stop()


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    builder = builder.add_extension(address, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return paths


def test_stop_ends_all_watches_and_threads(api: ApiServer, tmp_path: Path) -> None:
    source = connect("node-0", api.kubeconfig(tmp_path))
    source.start(lambda _: None)
    eventually(lambda: source.status().in_sync)
    assert len([one for one in threading.enumerate() if one.name.startswith("watch-")]) == len(RESOURCES)
    source.stop()
    eventually(lambda: not [one for one in threading.enumerate() if one.name.startswith("watch-")])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://203.0.113.9:6443", packed("203.0.113.9")),
        ("https://[fd00::1]:6443", packed("fd00::1")),
        ("https://127.0.0.1:6443", None),
        ("https://api.example:6443", None),
    ],
)
def test_the_urls_address_is_the_api_servers(api: ApiServer, tmp_path: Path, url: str, expected: bytes | None) -> None:
    config = Path(api.kubeconfig(tmp_path))
    config.write_text(config.read_text("ascii").replace(f"http://127.0.0.1:{api.port}", url), "ascii")
    source = KubernetesSource(ApiClient(str(config)), "node-0", only=())
    followed = Followed(source)
    followed.names()
    owner = followed.known.owner(expected or packed("127.0.0.1"))
    assert owner == (API_SERVER if expected else None)
    source.stop()


@pytest.mark.parametrize("text", ["", "{", "clusters: 7", "current-context: x\nclusters: []\ncontexts: []\nusers: []\n"])
def test_unusable_kubeconfig_is_one_error_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text, "ascii")
    with pytest.raises(ConfigurationError, match="config: "):
        connect("node-0", str(tmp_path / "config"))


def test_no_configuration_at_all_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match=r"service account.*name a kubeconfig"):
        connect("node-0")


def test_while_the_server_is_away_names_stay_and_then_every_watch_resumes(api: ApiServer, tmp_path: Path) -> None:
    """Five minutes, accelerated: the longest back-off is reached many times over."""
    api.on_list(PODS, page("5", "a"))
    followed = Followed(connect("node-0", api.kubeconfig(tmp_path)))
    eventually(lambda: followed.names() == ["a"] and followed.source.status().in_sync)
    port = api.port
    before = time.time()
    api.stop()
    eventually(lambda: len(followed.source.status().errors) == len(RESOURCES))
    time.sleep(1)
    away = followed.source.status()
    assert (followed.names(), away.in_sync, before <= away.since <= before + 1) == (["a"], False, True)
    again = ApiServer(port)
    try:
        eventually(lambda: followed.source.status().in_sync)
        watched = [query for _, query, _ in again.asked]
        assert len(watched) == len(RESOURCES)
        assert all("watch" in query and query["resourceVersion"] in ("1", "5") for query in watched)
        assert not any("sendInitialEvents" in query for query in watched)
        assert followed.names() == ["a"]
    finally:
        followed.source.stop()
        again.stop()
