"""Diagnosis: why a connection fails, in words. gRPC says only that it did; this knocks once more with Python's own TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from flows.wire.addresses import host_and_port
from flows.wire.environment import only_tls13

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from flows.wire.tls import ClientFiles

SECONDS: Final = 3.0  # for each of connecting, the handshake and the first word of the server
NAMES_SHOWN: Final = 5

# OpenSSL's X509_V_ERR_*: no issuer found, self-signed, not verifiable (x509_vfy.h).
_UNTRUSTED = {2, 18, 19, 20, 21}
# Alerts of servers that refuse a client's certificate: RFC 8446, 6.2.
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it asks for one",
    "UNKNOWN_CA": "it does not know the CA that issued it",
    "CERTIFICATE_EXPIRED": "it has expired",
    "BAD_CERTIFICATE": "it does not accept it",
    "CERTIFICATE_UNKNOWN": "it does not accept it",
    "ACCESS_DENIED": "it does not accept it",
}


@dataclass(frozen=True, slots=True)
class Flags:
    """How the flags of the cure are called."""

    ca: str
    cert: str
    name: str


def diagnose(address: str, files: ClientFiles | None, name: str, flags: Flags) -> str:
    """Why `address` cannot be connected to; "" if nothing is wrong. Blocks for some seconds at most; sends no request.

    files: of TLS, None for plain text. name: that the server's certificate must have.
    """
    try:
        with _connect(address) as plain:
            return _knock_plain(plain, flags) if files is None else _knock_secure(plain, address, files, name, flags)
    except TimeoutError:
        return f"no answer within {SECONDS:g} s: is the host up, and does a firewall or network policy let us through?"
    except socket.gaierror as error:
        return f"the name cannot be resolved: {error.strerror}"
    except FileNotFoundError:
        return "no such socket: is the server running?"
    except ConnectionRefusedError:
        return "connection refused: nothing listens there; is the server running?"
    except OSError as error:
        return error.strerror or str(error)


def _connect(address: str) -> socket.socket:
    if not address.startswith("unix:"):
        return socket.create_connection(host_and_port(address), SECONDS)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(SECONDS)
    try:
        made.connect(address.removeprefix("unix://"))
    except BaseException:
        made.close()
        raise
    return made


def _knock_plain(plain: socket.socket, flags: Flags) -> str:
    """A server without TLS waits for us to speak, and ends at a handshake; one that answers it wants TLS."""
    try:
        _context().wrap_socket(plain).close()
    except ssl.SSLError as error:
        if error.reason == "WRONG_VERSION_NUMBER" or isinstance(error, ssl.SSLZeroReturnError | ssl.SSLEOFError):
            return ""
        return f"the server speaks TLS: give {flags.ca}" if "ALERT" in (error.reason or "") else ""
    except OSError:
        return ""
    return f"the server speaks TLS: give {flags.ca}"


def _knock_secure(plain: socket.socket, address: str, files: ClientFiles, name: str, flags: Flags) -> str:
    context = ssl.create_default_context(cafile=str(files.ca))
    context.set_alpn_protocols(["h2"])
    if only_tls13():
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if files.cert is not None:
        context.load_cert_chain(files.cert, files.key)
    try:
        with context.wrap_socket(plain, server_hostname=name or host_and_port(address)[0]) as secure:
            return _first_word(secure, files, flags)
    except ssl.SSLCertVerificationError as error:
        return _refused_by_us(error, address, name, flags)
    except ssl.SSLError as error:
        return _refused_by_server(error, files, flags)


def _first_word(secure: ssl.SSLSocket, files: ClientFiles, flags: Flags) -> str:
    """In TLS 1.3 a client learns only after the handshake that its certificate was refused: an alert, or the end."""
    if secure.selected_alpn_protocol() != "h2":
        return "a server with TLS answers, but not with HTTP/2: this is no gRPC server"
    return "" if secure.recv(1) else _certificate_refused("it ends the connection after the handshake", files, flags)


def _refused_by_us(error: ssl.SSLCertVerificationError, address: str, name: str, flags: Flags) -> str:
    held = server_certificate(address)
    if held is None:
        return f"its certificate is refused: {error.verify_message}"
    match error.verify_code:  # X509_V_ERR_* again
        case 10:
            return f"its certificate expired on {_day(held.not_valid_after_utc)}: renew it, or set this machine's clock"
        case 9:
            return f"its certificate is valid only from {_day(held.not_valid_before_utc)}: set the clocks right"
        case 62 | 64:
            return f"its certificate is for {_names(held)}, expected {name}: set {flags.name} if that is who it should be"
        case code if code in _UNTRUSTED:
            issuer = held.issuer.rfc4514_string()
            return f"its certificate was issued by an unknown CA ({issuer}): {flags.ca} must have that CA's certificate"
    return f"its certificate is refused: {error.verify_message}"


def _refused_by_server(error: ssl.SSLError, files: ClientFiles, flags: Flags) -> str:
    reason = error.reason or ""
    if reason == "WRONG_VERSION_NUMBER":
        return f"the server does not speak TLS: leave {flags.ca} out, or have the server use TLS"
    for alert, cause in _ALERTS.items():
        if reason.endswith(alert):
            return _certificate_refused(cause, files, flags)
    if reason.endswith("PROTOCOL_VERSION"):
        return "the server speaks no TLS 1.3: upgrade it"
    return f"the TLS handshake failed: {(reason or str(error)).lower().replace('_', ' ')}"


def _certificate_refused(cause: str, files: ClientFiles, flags: Flags) -> str:
    if files.cert is None:
        return f"the server wants a client certificate ({cause}): give {flags.cert}"
    ours = _read(files.cert.read_bytes())
    if ours is not None and ours.not_valid_after_utc.timestamp() < time.time():
        return f"our certificate {files.cert} expired on {_day(ours.not_valid_after_utc)}: renew it"
    issuer = f" (issued by {ours.issuer.rfc4514_string()})" if ours is not None else ""
    return f"the server refuses our certificate {files.cert}{issuer}: {cause}; its client CA must have issued it"


def server_certificate(address: str) -> Certificate | None:
    """The certificate that a server shows, unchecked; None if it shows none."""
    with contextlib.suppress(OSError), _connect(address) as plain, _context().wrap_socket(plain) as secure:
        return _read(secure.getpeercert(binary_form=True) or b"")
    return None


def _context() -> ssl.SSLContext:
    """For looking only: nothing is said over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def _read(encoded: bytes) -> Certificate | None:
    """None if there is no certificate in it, or nothing to read it with: a CLI can do without."""
    try:
        from cryptography import x509  # noqa: PLC0415 - 10 MB, for errors only
    except ImportError:
        return None
    try:
        if encoded.startswith(b"\x30"):
            return x509.load_der_x509_certificate(encoded)
        return x509.load_pem_x509_certificate(encoded)
    except ValueError:
        return None


def _names(certificate: Certificate) -> str:
    from cryptography import x509  # noqa: PLC0415

    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return f"no name at all (subject {certificate.subject.rfc4514_string()})"
    names = [*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))]
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
