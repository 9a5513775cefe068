"""TLS: the channel credentials that the `--tls...` flags ask for."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from flows.cli.options import UsageError

if TYPE_CHECKING:
    from flows.cli.options import ServerOptions
    from flows.cli.servers import Server

ChannelOptions = list[tuple[str, str | int]]


def credentials(server: Server, options: ServerOptions) -> tuple[grpc.ChannelCredentials, ChannelOptions]:
    """Credentials for a server, and the channel options that go with them.

    Raises UsageError for a file that cannot be read, OSError when a server's certificate cannot be got.
    """
    if bool(options.tls_client_cert_file) != bool(options.tls_client_key_file):
        raise UsageError("--tls-client-cert-file and --tls-client-key-file must be given together")
    roots = b"".join(_read("--tls-ca-cert-files", path) for path in options.tls_ca_cert_files) or None
    name = options.tls_server_name
    if options.tls_allow_insecure:
        roots, name = _accept_any(server, name)
    key = _read("--tls-client-key-file", options.tls_client_key_file)
    certificate = _read("--tls-client-cert-file", options.tls_client_cert_file)
    made = grpc.ssl_channel_credentials(roots, key or None, certificate or None)
    return made, [("grpc.ssl_target_name_override", name)] if name else []


def _read(flag: str, path: str) -> bytes:
    if not path:
        return b""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror}") from error


def _accept_any(server: Server, name: str) -> tuple[bytes, str]:
    """The server's own certificate as root, and a name that it holds: gRPC cannot skip verification."""
    host, port = server.host_port
    certificate = ssl.get_server_certificate((host, port), timeout=5.0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with socket.create_connection((host, port), 5.0) as plain, context.wrap_socket(plain) as secure:
        held: Any = (secure.getpeercert() or {}).get("subjectAltName", ())
    names = [value for kind, value in held if kind in {"DNS", "IP Address"}]
    return certificate.encode(), name or (names[0].replace("*", "any", 1) if names else "")
