"""Certificates, ServiceAccount tokens and kubeconfigs of the demo cluster.

One CA signs the server's certificate and those of clients (common name = user, organizations = groups, as Kubernetes
reads them); tokens are JWTs signed with RS256 by a key of their own. Every private file has mode 0600.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
import uuid
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from flows.demo.api.authority import Authority, write_private

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Json = dict[str, Any]
ISSUER = "https://kubernetes.default.svc"
"""Issuer and audience of tokens, as in a cluster with the default domain."""
TOKEN_SECONDS = 365 * 24 * 3600
"""Longer than any demo cluster lives: nothing renews the tokens of its agents."""
ADMIN = "kubernetes-admin"
ADMIN_GROUP = "system:masters"


class Pki:
    """The cluster's CA and token key, kept in a directory made with mode 0700."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._ca = Authority("kubernetes")
        self._token_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ca_path = directory / "ca.crt"
        self.ca_path.write_bytes(self.ca_pem)

    @property
    def ca_pem(self) -> bytes:
        """The CA's certificate."""
        return self._ca.pem

    def client_certificate(self, user: str, groups: Sequence[str] = ()) -> tuple[bytes, bytes]:
        """(certificate, private key) in PEM for a user in groups."""
        return self._ca.client_certificate(user, groups)

    def server_context(self, names: Sequence[str]) -> ssl.SSLContext:
        """TLS for the server, good for `names` (DNS names and addresses); clients may show a certificate."""
        certificate, key = self._ca.server_certificate("kube-apiserver", names)
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


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encode(value: Json) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _text64(data: bytes) -> str:
    return base64.b64encode(data).decode()
