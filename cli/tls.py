"""TLS: the channel credentials that the `--tls...` flags ask for, and why a connection fails."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from flows.cli.options import UsageError
from flows.wire.addresses import host_and_port

if TYPE_CHECKING:
    from flows.cli.login import Login
    from flows.cli.options import ServerOptions
    from flows.cli.servers import Server

ChannelOptions = list[tuple[str, str | int]]

# The authorities that gRPC trusts when none is named.
_DEFAULT_ROOTS = Path(grpc.__file__).parent / "_cython" / "_credentials" / "roots.pem"


def credentials(server: Server, options: ServerOptions, login: Login) -> tuple[grpc.ChannelCredentials, ChannelOptions]:
    """Credentials for a server, and the channel options that go with them. Blocks.

    Raises UsageError for a file that cannot be read, OSError when a server's certificate cannot be got.
    """
    roots = b"".join(_read("--tls-ca-cert-files", path) for path in options.tls_ca_cert_files) or None
    name = options.tls_server_name
    if options.tls_allow_insecure:
        roots, name = _accept_any(server, name)
    cert_file, key_file = _own(options, login)
    key, certificate = _read("--tls-client-key-file", key_file), _read("--tls-client-cert-file", cert_file)
    made = grpc.ssl_channel_credentials(roots, key or None, certificate or None)
    return made, [("grpc.ssl_target_name_override", name)] if name else []


def diagnosis(server: Server, options: ServerOptions, login: Login) -> str:
    """Why the server cannot be connected to, where more can be told than gRPC does; "" otherwise. Blocks for some seconds."""
    try:
        from flows.wire.diagnosis import Flags, diagnose  # noqa: PLC0415 - for failures only
        from flows.wire.tls import ClientFiles  # noqa: PLC0415

        if not server.tls:
            return diagnose(server.host_port, None, "", Flags("--tls", "--tls-client-cert-file", "--tls-server-name"))
        if options.tls_allow_insecure or len(options.tls_ca_cert_files) > 1:
            return ""
        cert, key = (Path(name) if name else None for name in _own(options, login))
        files = ClientFiles(Path(options.tls_ca_cert_files[0]) if options.tls_ca_cert_files else _DEFAULT_ROOTS, cert, key)
        name = options.tls_server_name or host_and_port(server.host_port)[0]
        return diagnose(
            server.host_port, files, name, Flags("--tls-ca-cert-files", "--tls-client-cert-file", "--tls-server-name")
        )
    except (ImportError, OSError, ValueError):  # it looks inside certificates with a library that not every machine has
        return ""


def _own(options: ServerOptions, login: Login) -> tuple[str, str]:
    """The files of our own certificate and key, shown to a server that asks for one."""
    if bool(options.tls_client_cert_file) != bool(options.tls_client_key_file):
        raise UsageError("--tls-client-cert-file and --tls-client-key-file must be given together")
    if options.tls_client_cert_file or login.certificate is None:
        return options.tls_client_cert_file, options.tls_client_key_file
    return login.certificate


def _read(flag: str, path: str) -> bytes:
    if not path:
        return b""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror}") from error


def _accept_any(server: Server, name: str) -> tuple[bytes, str]:
    """The server's own certificate as root, and a name that it holds: gRPC cannot skip verification."""
    host, port = host_and_port(server.host_port)
    certificate = ssl.get_server_certificate((host, port), timeout=5.0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with socket.create_connection((host, port), 5.0) as plain, context.wrap_socket(plain) as secure:
        held: Any = (secure.getpeercert() or {}).get("subjectAltName", ())
    names = [value for kind, value in held if kind in {"DNS", "IP Address"}]
    return certificate.encode(), name or (names[0].replace("*", "any", 1) if names else "")
