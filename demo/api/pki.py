"""Certificates, ServiceAccount tokens and kubeconfigs of the demo cluster.

One CA signs the server's certificate and those of clients (common name = user, organizations = groups, as Kubernetes
reads them); tokens are JWTs signed with RS256 by a key of their own. Every private file has mode 0600.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import ssl
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Json = dict[str, Any]
ISSUER = "https://kubernetes.default.svc"
"""Issuer and audience of tokens, as in a cluster with the default domain."""
CERTIFICATE_DAYS = 365
TOKEN_SECONDS = 365 * 24 * 3600
"""Longer than any demo cluster lives: nothing renews the tokens of its agents."""
ADMIN = "kubernetes-admin"
ADMIN_GROUP = "system:masters"


def write_private(path: Path, data: bytes) -> Path:
    """Write a file only its owner can read, from its first byte on."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path


class Pki:
    """The cluster's CA and token key, kept in a directory made with mode 0700."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        self._ca = self._authority()
        self._token_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ca_path = directory / "ca.crt"
        self.ca_path.write_bytes(self.ca_pem)

    @property
    def ca_pem(self) -> bytes:
        """The CA's certificate."""
        return self._ca.public_bytes(serialization.Encoding.PEM)

    def _authority(self) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=True,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        public = self._ca_key.public_key()
        return (
            _certificate(self._ca_name, self._ca_name, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._ca_key, hashes.SHA256())
        )

    def _issue(self, subject: x509.Name, use: x509.ObjectIdentifier, sans: Sequence[x509.GeneralName]) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _certificate(subject, self._ca_name, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        certificate = builder.sign(self._ca_key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)

    def client_certificate(self, user: str, groups: Sequence[str] = ()) -> tuple[bytes, bytes]:
        """(certificate, private key) in PEM for a user in groups."""
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        return self._issue(subject, ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def server_context(self, names: Sequence[str]) -> ssl.SSLContext:
        """TLS for the server, good for `names` (DNS names and addresses); clients may show a certificate."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
        sans = [_general_name(name) for name in dict.fromkeys(names)]
        certificate, key = self._issue(subject, ExtendedKeyUsageOID.SERVER_AUTH, sans)
        (self.directory / "apiserver.crt").write_bytes(certificate)
        key_path = write_private(self.directory / "apiserver.key", key)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca_path))
        context.load_cert_chain(self.directory / "apiserver.crt", key_path)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context

    def service_account_token(self, namespace: str, name: str, uid: str, lifetime_seconds: int = TOKEN_SECONDS) -> str:
        """A bearer token of a ServiceAccount."""
        now = int(time.time())
        account = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        claims = {"aud": [ISSUER], "exp": now + lifetime_seconds, "iat": now, "iss": ISSUER, "nbf": now}
        claims |= {"jti": str(uuid.uuid4()), "kubernetes.io": account}
        claims["sub"] = f"system:serviceaccount:{namespace}:{name}"
        signed = f"{_encode({'alg': 'RS256', 'typ': 'JWT'})}.{_encode(claims)}"
        signature = self._token_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"

    def token_claims(self, token: str) -> Json | None:
        """The claims of a token of ours that is valid now; None for anything else."""
        try:
            signed, signature = token.rsplit(".", 1)
            public = self._token_key.public_key()
            public.verify(_unbase64(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            claims: Json = json.loads(_unbase64(signed.split(".")[1]))
        except (ValueError, IndexError, InvalidSignature):
            return None
        return claims if claims["nbf"] - 60 <= time.time() < claims["exp"] else None


def write_kubeconfig(
    path: Path,
    server_url: str,
    pki: Pki,
    *,
    user: str = ADMIN,
    groups: Sequence[str] = (ADMIN_GROUP,),
    token: str = "",
    cluster: str = "flows-demo",
    namespace: str = "default",
) -> Path:
    """Write a kubeconfig (mode 0600) with everything inside: a fresh client certificate, or the token given."""
    if token:
        credentials: Json = {"token": token}
    else:
        certificate, key = pki.client_certificate(user, groups)
        credentials = {"client-certificate-data": _text64(certificate), "client-key-data": _text64(key)}
    context = {"cluster": cluster, "user": user, "namespace": namespace}
    server = {"server": server_url, "certificate-authority-data": _text64(pki.ca_pem)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": server}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": cluster, "context": context}],
        "current-context": cluster,
    }
    # JSON is YAML, and needs no YAML writer here.
    return write_private(path, json.dumps(config, indent=2).encode() + b"\n")


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    # An hour back: clocks of containers and their host may differ.
    start = datetime.now(UTC) - timedelta(hours=1)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start)
    return builder.not_valid_after(start + timedelta(days=CERTIFICATE_DAYS))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encode(value: Json) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _text64(data: bytes) -> str:
    return base64.b64encode(data).decode()
