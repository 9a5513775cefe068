"""Real certificates of any kind, as files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Certificate:
    """A certificate, its key, and the files that hold them."""

    x509: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: Path
    key_file: Path

    def write(self, cert_file: Path, key_file: Path) -> None:
        """Put both where something else reads them, as a renewal does."""
        cert_file.write_bytes(self.cert_file.read_bytes())
        key_file.write_bytes(self.key_file.read_bytes())


def issue(
    directory: Path, name: str, issuer: Certificate | None = None, dns: tuple[str, ...] = (), days: tuple[float, float] = (-2, 2)
) -> Certificate:
    """A certificate, valid between days from now; without issuer that of a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer.x509.subject if issuer else subject, subject, key.public_key(), x509.random_serial_number(),
        now + timedelta(days=days[0]), now + timedelta(days=days[1]),
    ).add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)  # fmt: skip
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in dns]), critical=False)
    made = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    cert_file, key_file = directory / f"{made.serial_number}.crt", directory / f"{made.serial_number}.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    unprotected = serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unprotected))
    return Certificate(made, key, cert_file, key_file)
