"""Certificates, tokens and kubeconfigs."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import pytest

from flows.demo.api.access import certificate_user
from flows.demo.api.authority import write_private
from flows.demo.api.pki import Pki, write_kubeconfig

if TYPE_CHECKING:
    from pathlib import Path


def test_private_files_are_the_owners_alone(pki: Pki, tmp_path: Path) -> None:
    pki.server_context(["127.0.0.1"])
    paths = [pki.directory / "apiserver.key", write_kubeconfig(tmp_path / "k", "https://x", pki)]
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o600, 0o600]


def test_a_looser_old_file_is_replaced_not_reused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


def test_kubeconfig_is_complete_in_itself(pki: Pki, tmp_path: Path) -> None:
    config = json.loads(write_kubeconfig(tmp_path / "k", "https://10.0.0.1:6443", pki, namespace="demo").read_text())
    assert config["contexts"][0]["context"]["namespace"] == "demo"
    assert config["users"][0]["user"].keys() == {"client-certificate-data", "client-key-data"}
    token = json.loads(write_kubeconfig(tmp_path / "t", "https://x", pki, user="agent", token="abc").read_text())
    assert token["users"][0]["user"] == {"token": "abc"}


def test_server_certificate_names_all_addresses(pki: Pki) -> None:
    pki.server_context(["10.1.2.3", "fd00::1", "kubernetes.default"])
    shown = ssl._ssl._test_decode_cert(str(pki.directory / "apiserver.crt"))  # type: ignore[attr-defined]
    names = {value for _, value in shown["subjectAltName"]}
    assert names == {"10.1.2.3", "FD00:0:0:0:0:0:0:1", "kubernetes.default"}


def test_certificate_becomes_user_and_groups() -> None:
    subject = ((("organizationName", "a"),), (("organizationName", "b"),), (("commonName", "me"),))
    user = certificate_user({"subject": subject})
    assert (user.name, user.groups) == ("me", ("a", "b", "system:authenticated"))


def test_token_holds_its_account(pki: Pki) -> None:
    claims = pki.token_claims(pki.service_account_token("ns", "sa", "uid-1"))
    assert claims is not None
    assert claims["kubernetes.io"]["serviceaccount"] == {"name": "sa", "uid": "uid-1"}


def test_tokens_of_others_old_ones_and_changed_ones_are_refused(pki: Pki, tmp_path: Path) -> None:
    good = pki.service_account_token("ns", "sa", "u")
    head, body, signature = good.split(".")
    bad = [
        Pki(tmp_path / "other").service_account_token("ns", "sa", "u"),
        pki.service_account_token("ns", "sa", "u", lifetime_seconds=-1),
        f"{head}.{body[:-2]}xx.{signature}",
        f"{head}..{signature}",
        good[:-5],
    ]
    assert [pki.token_claims(token) for token in bad] == [None] * len(bad)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "a" * 9999])
def test_rubbish_tokens_are_refused(pki: Pki, token: str) -> None:
    assert pki.token_claims(token) is None
