"""TLS: credentials from files that may change. That only version 1.3 is spoken is the business of environment.py."""

from __future__ import annotations

import ssl
import threading
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Final

import grpc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SERVER_NAME: Final = "{node}.{cluster}.hubble-grpc.cilium.io"  # as Cilium's certificates for Hubble have it

_Stamp = tuple[tuple[int, int, int], ...]


class TlsError(Exception):
    """TLS files that cannot be used; the text names the file, the cause and the cure."""


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """PEM files of a server. client_ca: clients must show a certificate that it issued."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """PEM files of a client. cert and key: what it shows to servers that ask."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


def server_name(pattern: str, node: str, cluster: str) -> str:
    """The name in the certificate of a node's server: its dots and its cluster's are no levels of the DNS name."""
    return pattern.replace("{node}", node.replace(".", "-")).replace("{cluster}", cluster.replace(".", "-"))


class ServerTls:
    """A server's credentials, which follow their files: a new connection gets what they hold then, open ones stay.

    Files that do not fit together (half of a renewal) are left alone until they do. `error` says so; "" otherwise.
    """

    def __init__(self, files: ServerFiles) -> None:
        """Raises TlsError."""
        self.error = ""
        self.files = files
        self.read()

    def credentials(self) -> grpc.ServerCredentials:
        """For one port: each follows the files on its own. Raises TlsError."""
        follower = _Follower(self)
        required = self.files.client_ca is not None
        # The stubs do not know that None means: no change.
        return grpc.dynamic_ssl_server_credentials(follower.first, follower.fetch, required)  # type: ignore[arg-type]

    def stamp(self) -> _Stamp:
        """Raises TlsError."""
        return _stamp(_paths(self.files))

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold now. Raises TlsError."""
        files = self.files
        check_pair(files.cert, files.key)
        roots = None if files.client_ca is None else read_roots(files.client_ca)
        return grpc.ssl_server_certificate_configuration([(_bytes(files.key), _bytes(files.cert))], roots)


class _Follower:
    """What one port has of the files."""

    def __init__(self, tls: ServerTls) -> None:
        self._tls, self._lock = tls, threading.Lock()
        self._stamp = tls.stamp()
        self.first = tls.read()

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC before each handshake, from its threads; None: nothing is new."""
        with self._lock:
            try:
                return self._news()
            except TlsError as error:
                self._tls.error = str(error)
                return None

    def _news(self) -> grpc.ServerCertificateConfiguration | None:
        stamp = self._tls.stamp()
        if stamp == self._stamp:
            return None
        read = self._tls.read()
        if self._tls.stamp() != stamp:  # changed while it was read: the next connection sees it whole
            return None
        self._tls.error, self._stamp = "", stamp
        return read


class ClientTls:
    """A client's credentials: one object for all channels as long as the files stay the same."""

    def __init__(self, files: ClientFiles) -> None:
        """Raises TlsError."""
        self.files = files
        self._stamp: _Stamp = ()
        self._made: grpc.ChannelCredentials = self.credentials()

    def credentials(self) -> grpc.ChannelCredentials:
        """Those of the files as they are now. Raises TlsError."""
        stamp = _stamp(_paths(self.files))
        if stamp != self._stamp:
            self._made, self._stamp = self._read(), stamp
        return self._made

    def _read(self) -> grpc.ChannelCredentials:
        files = self.files
        roots = read_roots(files.ca)
        if files.cert is None or files.key is None:
            return grpc.ssl_channel_credentials(roots)
        check_pair(files.cert, files.key)
        return grpc.ssl_channel_credentials(roots, _bytes(files.key), _bytes(files.cert))


def read_roots(path: Path) -> bytes:
    """The certificates of a CA file. Raises TlsError."""
    content = _bytes(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("latin-1"))
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"reading {path}: no PEM certificate of a CA in it ({_reason(error)})") from error
    return content


def check_pair(cert: Path, key: Path) -> None:
    """Raises TlsError unless key is the certificate's key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        cure = "they must be PEM, belong together, and the key must not be encrypted"
        raise TlsError(f"reading {cert} and {key}: {_reason(error)}; {cure}") from error
    except OSError as error:
        raise TlsError(f"reading {cert} and {key}: {error.strerror}") from error


def _no_password() -> str:
    return ""  # without it OpenSSL would ask the terminal


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__).lower().replace("_", " ")


def _paths(files: ServerFiles | ClientFiles) -> list[Path]:
    return [path for path in astuple(files) if path is not None]


def _stamp(paths: Sequence[Path]) -> _Stamp:
    """What changes when a file is written or replaced, also through the links of a mounted Secret."""
    try:
        stats = [path.stat() for path in paths]
    except OSError as error:
        raise TlsError(f"reading {error.filename}: {error.strerror}") from error
    return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in stats)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"reading {path}: {error.strerror}") from error
