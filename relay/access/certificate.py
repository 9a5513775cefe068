"""Who a client certificate speaks for, read as kube-apiserver reads it: common name = user, organizations = groups."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Holder:
    """The user of a certificate; "" if it names none."""

    user: str
    groups: tuple[str, ...]
    expires: float  # seconds since 1970


def holder(pem: bytes) -> Holder:
    """Read a certificate that TLS has verified. Raises ValueError if it is none.

    Of several common names the last counts, as in Go's crypto/x509, which kube-apiserver reads certificates with.
    """
    from cryptography import x509  # noqa: PLC0415 - 9 MB, only for servers that take client certificates
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    certificate = x509.load_pem_x509_certificate(pem)
    users = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return Holder(
        _text(users[-1].value) if users else "",
        tuple(_text(group.value) for group in groups),
        certificate.not_valid_after_utc.timestamp(),
    )


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
