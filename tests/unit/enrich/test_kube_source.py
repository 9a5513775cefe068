"""The Kubernetes source over a real wire: paging, watching, resuming, 410, refusals, an absent server."""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from api_server import LIST, WATCH, ApiServer, kind_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from enrich_samples import packed
from kube_samples import eventually, page
from test_kube_objects import body

from flows.agent.enrich.directory import Directory
from flows.agent.enrich.entities import API_SERVER
from flows.agent.enrich.kube_objects import resources
from flows.agent.enrich.kube_source import KubernetesSource
from flows.agent.enrich.kubernetes import connect
from flows.kube import backoff
from flows.kube.client import ApiClient
from flows.kube.errors import ConfigurationError
from flows.kube.resource import Changes, Relisted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PODS = "/api/v1/pods"
RESOURCES = resources("node-0")
EXPIRED = body("watch-expired-410")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "SECONDS", (0.01, 0.05))


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    if not server.stopping.is_set():
        server.stop()


class Followed:
    """A directory that follows a source as the enricher does."""

    def __init__(self, source: KubernetesSource) -> None:
        self.source = source
        self.batches: deque[Changes | Relisted] = deque()
        self.known = Directory("node-0", "blue")
        source.start(self.batches.append)

    def names(self) -> list[str]:
        while self.batches:
            batch = self.batches.popleft()
            self.known.relisted(batch) if isinstance(batch, Relisted) else self.known.apply(batch)
        return sorted(pod.name for pod in self.known.pods.values())


@pytest.fixture
def follow(api: ApiServer, tmp_path: Path) -> Iterator[Callable[[], Followed]]:
    made: list[Followed] = []

    def make() -> Followed:
        transport = ApiClient(api.kubeconfig(tmp_path))
        made.append(Followed(KubernetesSource(transport, "node-0", ("pods",))))
        return made[-1]

    yield make
    for one in made:
        one.source.stop()


def test_recorded_pages_and_watch_are_followed(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, body("pods-page-1"), body("pods-page-2"), page("315"))
    recorded = body("pods-watch")
    api.on_watch(PODS, recorded[:1000], recorded[1000:40_000], recorded[40_000:], None)
    followed = follow()
    eventually(lambda: "app-1-1" in followed.names())
    assert "app-0-9" in followed.names()
    assert [query.get("limit") for query in api.queries(PODS, LIST)] == ["500"] * 3
    assert [bool(query.get("continue")) for query in api.queries(PODS, LIST)] == [False, True, True]
    watch = api.queries(PODS, WATCH)[0]
    assert (watch["allowWatchBookmarks"], watch["resourceVersion"]) == ("true", "315")
    assert followed.source.status().in_sync


def test_a_watch_resumes_from_the_last_bookmark(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, page("5", "a"))
    api.on_watch(PODS, b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"77"}}}\n')
    api.on_watch(PODS, None)
    follow()
    eventually(lambda: len(api.queries(PODS, WATCH)) == 2)
    assert [query["resourceVersion"] for query in api.queries(PODS, WATCH)] == ["5", "77"]
    assert len(api.queries(PODS, LIST)) == 1


@pytest.mark.parametrize(("status", "piece"), [(200, EXPIRED), (410, body("list-expired-410"))])
def test_gone_as_event_or_status_lists_again_and_removes_what_vanished(
    api: ApiServer, follow: Callable[[], Followed], status: int, piece: bytes
) -> None:
    api.on_list(PODS, page("5", "a", "b"), page("9", "b", "c"))
    api.on_watch(PODS, piece, status=status)
    api.on_watch(PODS, None)
    followed = follow()
    eventually(lambda: followed.names() == ["b", "c"])
    eventually(lambda: api.queries(PODS, WATCH)[-1]["resourceVersion"] == "9")


def test_an_expired_page_token_starts_the_list_again(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, page("", "a", token="t1"))
    api.on_list(PODS, body("continue-expired-410"), status=410)
    api.on_list(PODS, page("9", "b"))
    followed = follow()
    eventually(lambda: followed.names() == ["b"])
    assert [query.get("continue") for query in api.queries(PODS, LIST)] == [None, "t1", None]


def test_a_watch_that_always_ends_at_once_lists_again(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, page("999"), page("3", "a"))
    for _ in range(5):
        api.on_watch(PODS)  # what a server says to a version from its future
    api.on_watch(PODS, None)
    followed = follow()
    eventually(lambda: followed.names() == ["a"])


def test_other_errors_in_a_watch_are_shown_and_it_goes_on(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, page("5", "a"))
    api.on_watch(PODS, body("watchlist-refused-by-old-etcd"))
    api.on_watch(PODS, b'{"type":"DELETED","object":{"metadata":{"uid":"uid-a","resourceVersion":"6"}}}\n', None)
    followed = follow()
    eventually(lambda: api.queries(PODS, WATCH) and followed.names() == [])
    eventually(lambda: followed.source.status().in_sync)


@pytest.mark.parametrize(
    ("status", "answer", "says"),
    [
        (403, body("forbidden-403"), "grant list and watch"),
        (500, b"<html>oops</html>", "HTTP status 500"),
        (200, b"not json", "not what the API sends"),
    ],
)
def test_refusals_are_told_with_their_cure(
    api: ApiServer, follow: Callable[[], Followed], status: int, answer: bytes, says: str
) -> None:
    api.on_list(PODS, answer, status=status)
    followed = follow()
    eventually(lambda: says in followed.source.status().errors.get("pods", ""))
    assert not followed.source.status().in_sync


def test_a_refused_token_is_read_again(api: ApiServer, follow: Callable[[], Followed], tmp_path: Path) -> None:
    api.on_list(PODS, body("unauthorized-401"), status=401)
    followed = follow()
    eventually(lambda: "token is refused" in followed.source.status().errors.get("pods", ""))
    (tmp_path / "token").write_text("second-token", "ascii")
    api.on_list(PODS, page("5", "a"))
    eventually(lambda: followed.names() == ["a"])
    tokens = [headers.get("authorization", headers.get("Authorization")) for _, _, headers in api.asked]
    assert (tokens[0], tokens[-1]) == ("Bearer first-token", "Bearer second-token")


def test_a_server_without_a_resource_has_none_of_it(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, b'{"code":404}', status=404)
    followed = follow()
    eventually(lambda: followed.source.status().in_sync)
    assert followed.names() == []


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
    again = ApiServer(port)
    try:
        again.on_list(PODS, page("9", "b"))
        again.on_watch(PODS, EXPIRED)
        again.on_watch(PODS, None)
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


def test_only_metadata_is_asked_for_where_that_is_enough(api: ApiServer, tmp_path: Path) -> None:
    source = connect("node-0", api.kubeconfig(tmp_path))
    source.start(lambda _: None)
    eventually(lambda: source.status().in_sync)
    source.stop()
    accepts = {(path, kind_of(query)): headers["Accept"] for path, query, headers in api.asked}
    assert "as=PartialObjectMetadataList" in accepts["/apis/apps/v1/replicasets", LIST]
    assert "as=PartialObjectMetadata;" in accepts["/apis/batch/v1/jobs", WATCH]
    assert accepts[PODS, LIST] == "application/json"
    slices = api.queries("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", LIST)
    assert slices[0]["labelSelector"] == "kubernetes.io/service-name=kubernetes"


@pytest.mark.parametrize("text", ["", "{", "clusters: 7", "current-context: x\nclusters: []\ncontexts: []\nusers: []\n"])
def test_unusable_kubeconfig_is_one_error_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text, "ascii")
    with pytest.raises(ConfigurationError, match="config: "):
        connect("node-0", str(tmp_path / "config"))


def test_no_configuration_at_all_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match=r"service account.*name a kubeconfig"):
        connect("node-0")


def test_pods_elsewhere_are_asked_for_only_while_they_have_an_address(api: ApiServer, tmp_path: Path) -> None:
    source = connect("node-0", api.kubeconfig(tmp_path))
    source.start(lambda _: None)
    eventually(lambda: source.status().in_sync)
    source.stop()
    selectors = {query["fieldSelector"] for query in api.queries(PODS, WATCH)}
    elsewhere = "spec.nodeName!=node-0,status.podIP!=,status.phase!=Succeeded,status.phase!=Failed"
    assert selectors == {elsewhere, "spec.nodeName=node-0"}
    assert {query["labelSelector"] for query in api.queries("/apis/apps/v1/replicasets", WATCH)} == {"!pod-template-hash"}


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


@pytest.mark.parametrize(("nodes", "pods", "seconds"), [(3, 12, 0.001), (1000, 10_000, 60.0), (1000, 1000, 5.0)])
def test_a_new_list_of_everything_is_shared_out_by_the_size_of_the_cluster(
    api: ApiServer, tmp_path: Path, nodes: int, pods: int, seconds: float
) -> None:
    source = connect("node-0", api.kubeconfig(tmp_path))
    source._reflectors["nodes"].count = nodes
    assert source._spread(pods) <= seconds
    assert source._spread(pods) >= seconds * 0.1
    source.stop()
