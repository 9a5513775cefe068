"""Addresses: where servers listen and clients connect, `host:port`, `[ipv6]:port` or `unix:///path`."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import grpc.aio

    from flows.wire.tls import ServerTls

SOCKET_UMASK = 0o117  # a unix socket of mode 0660: for root and its group
_UNIX = re.compile(r"unix://(/[^/\0]+)+")
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:\[\]/\s,=]+):(\d{1,5})", re.ASCII)


class AddressError(Exception):
    """A server cannot listen where it was told to; the text says why, and the cure."""


def listen_address(text: str) -> str:
    """An address as it is written on a command line, checked. Raises argparse.ArgumentTypeError."""
    if _UNIX.fullmatch(text):
        return text
    found = _HOST_PORT.fullmatch(text)
    if not found or not 0 < int(found[2]) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no address: expected host:port, [ipv6]:port or unix:///path")
    return text


def host_and_port(address: str) -> tuple[str, int]:
    """Host without brackets, and port, of a TCP address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def join(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_local(address: str) -> bool:
    """Whether only this machine can reach a listener of this address."""
    if address.startswith("unix:"):
        return True
    host, _ = host_and_port(address)
    if host == "localhost":
        return True
    ip = ip_of(address)
    return ip is not None and ip.is_loopback


def ip_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address of a TCP address; None for a name or a unix socket."""
    if address.startswith("unix:"):
        return None
    try:
        return ipaddress.ip_address(host_and_port(address)[0])
    except ValueError:
        return None


def target(address: str) -> str:
    """The address as a gRPC client wants it: IP addresses past the DNS resolver, which would ask for more than the address."""
    if address.startswith("unix:"):
        return address
    ip = ip_of(address)
    return f"dns:///{address}" if ip is None else f"ipv{ip.version}:{address}"


def prepare_sockets(addresses: Iterable[str]) -> None:
    """Make the folders of unix sockets; refuse to take over a socket that somebody serves. Raises AddressError."""
    for path in (Path(address.removeprefix("unix://")) for address in addresses if address.startswith("unix://")):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AddressError(f"making {path.parent} for --listen unix://{path}: {error.strerror}") from error
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(os.fspath(path))
            raise AddressError(f"listening on unix://{path}: another process serves it; stop that, or name another with --listen")


def bind(server: grpc.aio.Server, addresses: Sequence[str], tls: ServerTls | None) -> list[int]:
    """Have a server listen on all addresses, with TLS where others can reach it if tls is given. Raises AddressError.

    Gives the ports, 1 for a unix socket.
    """
    with _umask(SOCKET_UMASK):
        return [_bind(server, address, tls) for address in addresses]


def _bind(server: grpc.aio.Server, address: str, tls: ServerTls | None) -> int:
    try:
        if tls is not None and not is_local(address):
            return server.add_secure_port(address, tls.credentials())
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise AddressError(f"listening on {address}: the address is in use or not of this machine; see: ss -ltnxp") from error


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
