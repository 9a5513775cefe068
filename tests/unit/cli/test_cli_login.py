"""Who the caller says to be: tokens from files and kubeconfigs, and where they must not go."""

from __future__ import annotations

import base64
import json
import stat
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from cli_samples import at, shown
from cli_server import Observer, Serve
from test_cli_tls import authority, issue

from flows.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from test_cli_tls import Identity

__all__ = ["authority"]

Capture = pytest.CaptureFixture[str]


def kubeconfig(folder: Path, **user: Any) -> str:
    """A kubeconfig of one context, `it`, whose user is as given."""
    file = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
    }
    file.write_text(yaml.safe_dump(content))
    return str(file)


def plugin(folder: Path, script: str) -> dict[str, Any]:
    """An exec plugin (client.authentication.k8s.io) that is this shell script."""
    file = folder / "plugin"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(stat.S_IRWXU)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(file), "interactiveMode": "Never"}}


def credential(**status: str) -> str:
    message = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"echo '{json.dumps(message)}'"


def authorizations(observer: Observer) -> list[str]:
    return [value for key, value in observer.metadata if key == "authorization"]


@pytest.mark.parametrize("kind", ["token", "tokenFile", "exec"])
@pytest.mark.parametrize("tcp", [True, False])
def test_the_token_of_a_kubeconfigs_user(serve: Serve, tmp_path: Path, kind: str, tcp: bool) -> None:
    (tmp_path / "its-token").write_text("secret\n")
    users = {
        "token": {"token": "secret"},
        "tokenFile": {"tokenFile": str(tmp_path / "its-token")},
        "exec": plugin(tmp_path, credential(token="secret")),
    }
    file, observer = kubeconfig(tmp_path, **users[kind]), Observer([at(1)])
    assert main(["observe", "--kubeconfig", file, "--kube-context", "it", "--server", serve(observer, tcp=tcp)]) == 0
    assert authorizations(observer)[-1] == "Bearer secret"


def test_the_environment_names_the_token(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("mine")
    monkeypatch.setenv("FLOWS_TOKEN_FILE", str(tmp_path / "token"))
    observer = Observer([at(1)])
    assert main(["observe", "--server", serve(observer)]) == 0
    assert authorizations(observer) == ["Bearer mine"]


def test_no_token_is_shown_unless_asked_for(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, token="secret"))
    observer = Observer([at(1)])
    assert main(["observe", "--server", serve(observer)]) == 0
    assert authorizations(observer) == []


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("exit 3", "the user's credentials cannot be had: exec: process returned 3"),
        ("echo 'no\x1bjson'", "the user's credentials cannot be had: exec: failed to decode process output"),
        (credential(), "the user's credentials cannot be had: exec: missing token or clientCertificateData"),
    ],
)
def test_a_plugin_that_fails_is_one_line(serve: Serve, capsys: Capture, tmp_path: Path, user: str, message: str) -> None:
    file = kubeconfig(tmp_path, **plugin(tmp_path, user))
    assert main(["observe", "--kubeconfig", file, "--server", serve(Observer())]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff\xfe", b"caf\xc3\xa9"])
def test_a_file_without_a_token_is_refused(serve: Serve, capsys: Capture, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    observer = Observer()
    assert main(["observe", "--token-file", str(file), "--server", serve(observer)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"flows: --token-file {file}: ")
    assert err.count("\n") == 1
    assert observer.requests == []


@pytest.mark.parametrize("content", ["", "a: [", "clusters: 7", "current-context: none"])
def test_a_kubeconfig_that_is_none_is_one_line(serve: Serve, capsys: Capture, tmp_path: Path, content: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(content)
    assert main(["observe", "--kubeconfig", str(file), "--server", serve(Observer())]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"flows: --kubeconfig: Kubernetes configuration from {file}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (["--server", "192.0.2.1:4245"], "the token would go to 192.0.2.1:4245 unencrypted: use --tls"),
        (["--server", "tls://192.0.2.1:1", "--tls-allow-insecure"], "whose certificate nobody checks"),
    ],
)
@pytest.mark.parametrize("flag", ["--token-file", "--kubeconfig"])
def test_a_token_goes_nowhere_where_it_can_be_read(
    capsys: Capture, tmp_path: Path, where: list[str], message: str, flag: str
) -> None:
    (tmp_path / "token").write_text("secret")
    file = {"--token-file": str(tmp_path / "token"), "--kubeconfig": kubeconfig(tmp_path, token="secret")}[flag]
    for command in (["observe"], ["status"], ["list", "nodes"], ["watch", "peers"]):
        assert main([*command, flag, file, *where]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"flows: {flag}: the token would go to ")
        assert message in err


def test_over_verified_tls_it_goes_anywhere(serve: Serve, authority: Identity, tmp_path: Path, capsys: Capture) -> None:
    identity = issue(tmp_path, "a.flows.test", authority)
    observer = Observer([at(1)])
    server = serve(observer, grpc.ssl_server_credentials([(identity.key_pem, identity.pem)]))
    trust = ["--tls", "--tls-ca-cert-files", authority.files()[0], "--tls-server-name", "a.flows.test"]
    (tmp_path / "token").write_text("secret")
    assert main(["observe", "--server", server, *trust, "--token-file", str(tmp_path / "token")]) == 0
    assert authorizations(observer) == ["Bearer secret"]


def test_a_user_with_a_certificate_shows_it_over_tls(serve: Serve, authority: Identity, tmp_path: Path, capsys: Capture) -> None:
    identity, client = issue(tmp_path, "a.flows.test", authority), issue(tmp_path, "client", authority)
    mutual = grpc.ssl_server_credentials([(identity.key_pem, identity.pem)], authority.pem, True)
    data = {"client-certificate-data": client.pem, "client-key-data": client.key_pem}
    file = kubeconfig(tmp_path, **{name: base64.b64encode(value).decode() for name, value in data.items()})
    trust = ["--tls", "--tls-ca-cert-files", authority.files()[0], "--tls-server-name", "a.flows.test"]
    observer = Observer([at(1)])
    assert main(["observe", "--server", serve(observer, mutual), *trust, "--kubeconfig", file]) == 0
    assert shown(capsys.readouterr().out) == ["n1"]
    assert authorizations(observer) == []


REFUSAL = (grpc.StatusCode.UNAUTHENTICATED, "no credentials")


@pytest.mark.parametrize(
    ("user", "cure"),
    [
        (None, "give a token: --kubeconfig FILE has the one of that user, --token-file FILE holds one"),
        ({"token": "old"}, "the server does not accept the kubeconfig user's token"),
        ({"username": "u", "password": "p"}, "the kubeconfig's user has no token: create one with `kubectl create token"),
        ("certificate", "the kubeconfig's user has a client certificate, but a token is needed: create one with"),
    ],
)
def test_a_server_that_wants_to_know_who_it_is_says_how(
    serve: Serve, capsys: Capture, authority: Identity, tmp_path: Path, user: Any, cure: str
) -> None:
    if user == "certificate":
        certificate, key = authority.files()
        user = {"client-certificate": certificate, "client-key": key}
    flags = [] if user is None else ["--kubeconfig", kubeconfig(tmp_path, **user)]
    server = serve(Observer(failure=REFUSAL))
    assert main(["observe", "--server", server, *flags]) == 1
    assert f"flows: {server}: it wants to know who you are: no credentials; {cure}" in capsys.readouterr().err
