"""TLS to a server, in each of the ways that the flags offer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from cli_samples import at, shown
from cli_server import Observer, Serve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flows.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
NOW = datetime.now(UTC)


@dataclass
class Identity:
    """A certificate and its key, in memory and as files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    directory: Path

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        unprotected = serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unprotected)

    def files(self) -> tuple[str, str]:
        name = f"{self.certificate.serial_number}"
        (self.directory / f"{name}.crt").write_bytes(self.pem)
        (self.directory / f"{name}.key").write_bytes(self.key_pem)
        return f"{self.directory}/{name}.crt", f"{self.directory}/{name}.key"


def issue(directory: Path, name: str, issuer: Identity | None = None) -> Identity:
    """A certificate for a DNS name; without issuer a self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return Identity(certificate, key, directory)


@pytest.fixture
def authority(tmp_path: Path) -> Identity:
    return issue(tmp_path, "authority")


@pytest.fixture
def secure(serve: Serve, authority: Identity, tmp_path: Path) -> str:
    """A server whose certificate, for *.flows.test, the authority signed."""
    identity = issue(tmp_path, "*.flows.test", authority)
    credentials = grpc.ssl_server_credentials([(identity.key_pem, identity.pem)])
    return serve(Observer([at(1)]), credentials)


@pytest.mark.parametrize("scheme", [True, False])
def test_a_trusted_authority_and_the_expected_name(secure: str, authority: Identity, capsys: Capture, scheme: bool) -> None:
    where = ["--server", f"tls://{secure}"] if scheme else ["--tls", "--server", secure]
    trust = ["--tls-ca-cert-files", authority.files()[0], "--tls-server-name", "a.flows.test"]
    assert main(["observe", *where, *trust]) == 0
    assert shown(capsys.readouterr().out) == ["n1"]


@pytest.mark.parametrize("name", [[], ["--tls-server-name", "other.name"]])
def test_a_server_that_is_not_trusted_is_one_line(secure: str, authority: Identity, capsys: Capture, name: list[str]) -> None:
    trust = ["--tls-ca-cert-files", authority.files()[0], *name] if name else []
    assert main(["observe", "--tls", "--server", secure, *trust]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"flows: {secure}: cannot reach it: " in err


def test_allow_insecure_takes_any_certificate(secure: str, capsys: Capture) -> None:
    assert main(["observe", "--tls", "--tls-allow-insecure", "--server", secure]) == 0
    assert shown(capsys.readouterr().out) == ["n1"]


def test_allow_insecure_takes_a_self_signed_certificate(serve: Serve, authority: Identity, capsys: Capture) -> None:
    server = serve(Observer([at(1)]), grpc.ssl_server_credentials([(authority.key_pem, authority.pem)]))
    assert main(["observe", "--tls", "--tls-allow-insecure", "--server", server]) == 0
    assert shown(capsys.readouterr().out) == ["n1"]


def test_the_client_shows_its_certificate_and_password(
    serve: Serve, authority: Identity, tmp_path: Path, capsys: Capture
) -> None:
    identity, client = issue(tmp_path, "a.flows.test", authority), issue(tmp_path, "client", authority)
    mutual = grpc.ssl_server_credentials([(identity.key_pem, identity.pem)], authority.pem, True)
    observer = Observer([at(1)])
    server = serve(observer, mutual)
    certificate, key = client.files()
    trust = ["--tls-ca-cert-files", authority.files()[0], "--tls-server-name", "a.flows.test"]
    proof = ["--tls-client-cert-file", certificate, "--tls-client-key-file", key]
    login = ["--basic-auth-username", "me", "--basic-auth-password", "secret"]
    assert main(["observe", "--tls", "--server", server, *trust, *proof, *login]) == 0
    assert ("authorization", "Basic bWU6c2VjcmV0") in [tuple(each) for each in observer.metadata]
    assert shown(capsys.readouterr().out) == ["n1"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tls-ca-cert-files", "/none"], "--tls-ca-cert-files /none: No such file or directory"),
        (["--tls-client-cert-file", "/none"], "must be given together"),
        (["--tls-allow-insecure"], "cannot get the server's certificate"),
    ],
)
def test_what_is_missing_is_named(capsys: Capture, flags: list[str], message: str) -> None:
    assert main(["observe", "--tls", "--server", "127.0.0.1:9", *flags]) in {1, 2}
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
