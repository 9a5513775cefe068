"""A certificate authority for the tests of the Kubernetes client."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path


class Authority:
    """Signs; its own certificate is at path."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.path = folder, folder / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authority")
        builder = self._builder(self._name, self._key, 1).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.path.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def issue(self, name: str, hosts: tuple[str, ...] = (), days: int = 1) -> tuple[Path, Path]:
        """A certificate and its key; days until it ends, negative for one that has."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key, days)
        if hosts:
            addresses = [x509.IPAddress(ipaddress.ip_address(host)) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        paths = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        paths[0].write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, none))
        return paths

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        ends = datetime.now(UTC) + timedelta(days)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        return builder.not_valid_before(ends - timedelta(10)).not_valid_after(ends)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
