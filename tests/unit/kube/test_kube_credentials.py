"""Credentials that change while a client is in use are read again, and what errors say does not tell them."""

from __future__ import annotations

import base64
import json
import os
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from api_server import ApiServer
from kube_authority import Authority
from kube_samples import THINGS
from kubernetes.config import incluster_config

from flows.kube.client import ApiClient
from flows.kube.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def secure(authority: Authority) -> Iterator[ApiServer]:
    """A server with a certificate that asks for its clients'."""
    certificate, key = authority.issue("api", hosts=("127.0.0.1",))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.load_verify_locations(authority.path)
    tls.verify_mode = ssl.CERT_OPTIONAL
    server = ApiServer(tls=tls)
    yield server
    server.stop()


def kubeconfig(folder: Path, server: ApiServer, authority: Authority, **user: Any) -> str:
    cluster = {"server": f"https://127.0.0.1:{server.port}", "certificate-authority": str(authority.path)}
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "config").write_text(yaml.safe_dump(config), "ascii")
    return str(folder / "config")


def plugin(script: str) -> dict[str, Any]:
    """A user's credential plugin."""
    version = "client.authentication.k8s.io/v1"
    return {"apiVersion": version, "command": "sh", "args": ["-c", script], "interactiveMode": "Never"}


def accept(server: ApiServer, token: str) -> None:
    """Let the server refuse every other token, as it does when one has ended."""
    server.admits = lambda headers: headers.get("Authorization", "").lower() == f"bearer {token}"


def persist(read: Callable[[], bytes]) -> bytes:
    """As a reflector does: ask again after a refusal."""
    try:
        return read()
    except ApiError:
        return read()


def test_a_projected_token_is_read_again_when_the_old_one_is_refused(
    secure: ApiServer, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("one", "ascii")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(secure.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority.path))
    api = ApiClient()
    accept(secure, "one")
    assert b"resourceVersion" in api.read(THINGS, {})
    token.write_text("two", "ascii")  # the kubelet's rename; the client itself would look in a minute
    accept(secure, "two")
    with pytest.raises(ApiError, match="the token is refused") as refused:
        api.read(THINGS, {})
    assert refused.value.code == 401
    assert b"resourceVersion" in api.read(THINGS, {})
    api.close()


def test_a_kubeconfigs_token_file_is_read_again(secure: ApiServer, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one", "ascii")
    api = ApiClient(kubeconfig(tmp_path, secure, authority, tokenFile=str(tmp_path / "token")))
    accept(secure, "one")
    api.read(THINGS, {})
    (tmp_path / "token").write_text("two", "ascii")
    accept(secure, "two")
    assert persist(lambda: api.read(THINGS, {}))
    api.close()


def test_a_kubeconfig_that_changed_is_read_before_anything_is_refused(
    secure: ApiServer, authority: Authority, tmp_path: Path
) -> None:
    api = ApiClient(kubeconfig(tmp_path, secure, authority, token="one"))
    accept(secure, "one")
    api.read(THINGS, {})
    kubeconfig(tmp_path, secure, authority, token="second")
    accept(secure, "second")
    api.read(THINGS, {})
    (tmp_path / "config").write_text("{", "ascii")  # half written: what is known goes on
    api.read(THINGS, {})
    api.close()


@pytest.mark.parametrize("seconds", [3600, -1])
def test_an_exec_credential_is_asked_for_again_when_it_ends(
    secure: ApiServer, authority: Authority, tmp_path: Path, seconds: int
) -> None:
    """seconds: of life that the plugin gives its token; one that has ended already is not even sent again."""
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    script = (
        f"""cd {tmp_path}; n=$(($(cat count 2>/dev/null || echo 0) + 1)); echo $n >count; printf '%s' """
        f"""'{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"""
        f""""expirationTimestamp":"{ends:%Y-%m-%dT%H:%M:%SZ}","token":"t'$n'"}}}}'"""
    )
    api = ApiClient(kubeconfig(tmp_path, secure, authority, exec=plugin(script)))
    accept(secure, "t1" if seconds > 0 else "t2")
    api.read(THINGS, {})
    accept(secure, "t2" if seconds > 0 else "t3")
    assert persist(lambda: api.read(THINGS, {})) if seconds > 0 else api.read(THINGS, {})
    api.close()


def test_a_client_certificate_that_changed_is_used_for_new_connections(
    secure: ApiServer, authority: Authority, tmp_path: Path
) -> None:
    seen: list[str] = []
    wrapped = secure.server.get_request

    def get_request() -> Any:
        connection, address = wrapped()
        assert isinstance(connection, ssl.SSLSocket)
        peer: Any = connection.getpeercert() or {}
        subject = dict(pair[0] for pair in peer.get("subject", ()))
        seen.append(subject.get("commonName", ""))
        return connection, address

    secure.server.get_request = get_request  # type: ignore[method-assign]
    certificate, key = authority.issue("first")
    api = ApiClient(kubeconfig(tmp_path, secure, authority, **{"client-certificate": str(certificate), "client-key": str(key)}))
    api.read(THINGS, {})
    for old, new in zip((certificate, key), authority.issue("second"), strict=True):
        new.replace(old)
    api.read(THINGS, {})
    api.read(THINGS, {})
    assert seen == ["first", "second"]  # and the second connection is kept
    api.close()


def test_a_certificate_that_the_server_refuses_in_the_handshake_is_read_again(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("api", hosts=("127.0.0.1",))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.load_verify_locations(authority.path)
    tls.verify_mode = ssl.CERT_REQUIRED
    server = ApiServer(tls=tls)
    try:
        _credential(tmp_path, *authority.issue("old", days=-1))
        api = ApiClient(kubeconfig(tmp_path, server, authority, exec=plugin(f"cat {tmp_path}/credential")))
        _credential(tmp_path, *authority.issue("new"))
        with pytest.raises(ApiError) as refused:
            api.read(THINGS, {})
        assert refused.value.code == 0
        assert api.read(THINGS, {})
        api.close()
    finally:
        server.stop()


def _credential(folder: Path, certificate: Path, key: Path) -> None:
    status = {"clientCertificateData": certificate.read_text("ascii"), "clientKeyData": key.read_text("ascii")}
    body = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    (folder / "credential").write_text(json.dumps(body), "ascii")


def test_the_token_is_not_in_what_errors_say(api: ApiServer, tmp_path: Path) -> None:
    secret = base64.b64encode(os.urandom(12)).decode()
    config = api.kubeconfig(tmp_path)
    (tmp_path / "token").write_text(secret, "ascii")
    made = ApiClient(config)
    api.on_list(THINGS, b"{}", status=401)
    with pytest.raises(ApiError) as refused:
        made.read(THINGS, {})
    assert secret not in str(refused.value)
    made.close()
