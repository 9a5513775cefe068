"""Servers: what `--server` names, and which server is meant when nobody names one."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.flow.filter.errors import FilterError

if TYPE_CHECKING:
    from flows.cli.options import ServerOptions

# Where `flows relay`, then `flows agent` and `flows local` listen unless told otherwise.
RELAY_SOCKET = "unix:///run/flows/relay.sock"
LOCAL_SOCKET = "unix:///run/flows/flows.sock"
# Where `flows demo up` has its relay.
DEMO_SOCKET = "unix:///run/flows/demo/relay.sock"
# Hubble's port: whoever forwards a Hubble relay to this machine needs no flag.
HUBBLE_PORT = "localhost:4245"
# A look at a server of this machine; one that needs longer to accept is not there.
PROBE_TIMEOUT_S = 0.5
CURE = (
    "start one with `flows local`, `flows demo up`, `flows agent` or `flows relay`, name one with --server, "
    "or ask a cluster's with -P"
)

_EXPECTED = "expected host:port, tls://host:port or unix:///path"
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\],]+):(?P<port>[0-9]+)", re.ASCII)


class NoServerError(Exception):
    """No server is there to ask: one line that says what was tried and how to start one; exit status 1."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server: its address as people write it, whether TLS is spoken, and how it is called if not by its address."""

    address: str
    tls: bool = False
    label: str = ""

    def __str__(self) -> str:
        return self.label or self.address

    @property
    def target(self) -> str:
        """The address as gRPC wants it."""
        return self.address if self.unix_path else f"dns:///{self.host_port}"

    @property
    def host_port(self) -> str:
        """A TCP address without scheme."""
        return self.address.removeprefix("tls://")

    @property
    def unix_path(self) -> str:
        """The path of a unix socket; empty for TCP."""
        return self.address.removeprefix("unix://") if self.address.startswith("unix://") else ""


class ServerError(Exception):
    """A call to a server failed: one line with server, cause and cure; status is the exit status, code gRPC's."""

    def __init__(self, server: Server, cause: str, *, cure: str = "", status: int = 1, code: str = "") -> None:
        super().__init__(f"{server}: {cause}{'; ' if cure else ''}{cure}")
        self.server, self.cause, self.status, self.code = server, cause, status, code


def server_of(options: ServerOptions) -> Server:
    """The server that is named, else one that this machine has. Raises NoServerError."""
    return parse_server(options.address, tls=options.tls) if options.address else find_server(tls=options.tls)


def parse_server(address: str, *, tls: bool = False) -> Server:
    """Raises FilterError with a valid address like it."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/") or path == "/":
            raise FilterError("server", address, f"{_EXPECTED}; the path must be absolute, e.g. {LOCAL_SOCKET}")
        return Server(f"unix://{path}")
    scheme = "tls://" if address.startswith("tls://") else ""
    match = _HOST_PORT.fullmatch(address.removeprefix(scheme))
    if match is None:
        raise FilterError("server", address, _EXPECTED, _suggestion(address))
    if not 0 < int(match["port"][:6]) < 1 << 16:
        raise FilterError("server", address, f"{_EXPECTED}; the port must be between 1 and 65535", _suggestion(address))
    return Server(address, tls=tls or bool(scheme))


def find_server(*, tls: bool = False) -> Server:
    """The server of this machine, when nobody named one: its relay, its agent, the demo's relay, what is at Hubble's port.

    Raises NoServerError when none accepts.
    """
    tried: list[str] = []
    for address in (RELAY_SOCKET, LOCAL_SOCKET, DEMO_SOCKET, HUBBLE_PORT):
        server = parse_server(address, tls=tls)
        if _accepts(server, tried):
            return server
    raise NoServerError(f"no server found: tried {', '.join(tried)}; {CURE}")


def _suggestion(address: str) -> str:
    if address.startswith("/"):
        return f"unix://{address}"
    bare = re.sub(r"^\w+:/+", "", address).rstrip("/")
    host = re.sub(r":[^:\]]*$", "", bare) if bare.count(":") == 1 else bare
    if not re.fullmatch(r"[\w.:%\[\]-]+", host):
        return HUBBLE_PORT
    return f"[{host.strip('[]')}]:4245" if ":" in host else f"{host}:4245"


def _accepts(server: Server, tried: list[str]) -> bool:
    try:
        _connect(server)
    except OSError as error:
        tried.append(f"{server} ({_reason(error)})")
        return False
    return True


def _connect(server: Server) -> None:
    if not server.unix_path:
        host, _, port = server.host_port.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT_S).close()
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        probe.connect(server.unix_path)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
