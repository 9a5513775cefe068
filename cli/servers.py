"""Servers: what `--server` names, and which server is meant when nobody names one."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.options import DEFAULT_SERVER, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flows.cli.options import ServerOptions

# Where `flows agent` and `flows local` listen unless told otherwise.
LOCAL_SOCKET = "unix:///run/flows/flows.sock"
# Written by `flows demo up`: a JSON list of the addresses of its agents.
DEMO_AGENTS = Path("/run/flows/demo/agents.json")
# A look at a server of this machine; one that needs longer to accept is not there.
PROBE_TIMEOUT_S = 0.5
# Where a server may be named once for all; Hubble's is the second.
VARIABLES = ("FLOWS_SERVER", "HUBBLE_SERVER")
CURE = "start one with `flows local`, `flows demo up` or `flows agent`, or name one with --server"

_FORMS = "expected host:port, tls://host:port or unix:///path"
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):(?P<port>[0-9]+)", re.ASCII)


class NoServerError(Exception):
    """No server is there to ask: one line that says what was tried and how to start one; exit status 1."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server: its address as people write it, and whether TLS is spoken."""

    address: str
    tls: bool = False

    @property
    def target(self) -> str:
        """The address as gRPC wants it."""
        return self.address if self.unix_path else f"dns:///{self.address.removeprefix('tls://')}"

    @property
    def unix_path(self) -> str:
        """The path of a unix socket; empty for TCP."""
        return self.address.removeprefix("unix://") if self.address.startswith("unix://") else ""

    @property
    def host_port(self) -> tuple[str, int]:
        """Host and port of a TCP address, the host without brackets."""
        host, _, port = self.address.removeprefix("tls://").rpartition(":")
        return host.strip("[]"), int(port)


class ServerError(Exception):
    """A call to a server failed: one line with server, cause and cure; status is the exit status."""

    def __init__(self, server: Server, cause: str, *, cure: str = "", status: int = 1) -> None:
        super().__init__(f"{server.address}: {cause}{'; ' if cure else ''}{cure}")
        self.server, self.cause, self.status = server, cause, status


@dataclass(frozen=True, slots=True)
class Choice:
    """The servers that were named, and the command line and environment that are left for the other flags."""

    addresses: tuple[str, ...]
    arguments: list[str]
    env: Mapping[str, str]

    def servers(self, options: ServerOptions) -> list[Server]:
        """The servers to ask: those named here, else the configuration file's, else what this machine has."""
        if self.addresses:
            return parse_servers(",".join(self.addresses), tls=options.tls)
        if options.address != DEFAULT_SERVER:
            return parse_servers(options.address, tls=options.tls)
        return find_servers()


def choose(arguments: Sequence[str], env: Mapping[str, str]) -> Choice:
    """Takes what names servers: `--server`, also repeated, else FLOWS_SERVER or HUBBLE_SERVER.

    One address stays where it was, for the rules that other flags have about it. Raises UsageError.
    """
    named, rest, words = [], [], iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag == "--server":
            named.append(value if equals else next(words, ""))
        else:
            rest.append(word)
    if named:
        return Choice(tuple(named), [*rest, f"--server={_one(named)}"], env)
    variable = next((name for name in VARIABLES if env.get(name)), None)
    if variable is None:
        return Choice((), rest, env)
    return Choice((env[variable],), rest, {**env, variable: _one([env[variable]])})


def _one(named: Sequence[str]) -> str:
    """An address that stands for all: one with TLS if there is any."""
    servers = parse_servers(",".join(named))
    return next((server for server in servers if server.tls), servers[0]).address


def parse_servers(addresses: str, *, tls: bool = False) -> list[Server]:
    """The servers of a comma-separated list. Raises UsageError naming the address that is malformed."""
    return [_parse(address.strip(), tls=tls) for address in addresses.split(",")]


def find_servers() -> list[Server]:
    """The servers of this machine, when nobody named one: local agent, else demo cluster, else Hubble's port.

    Raises NoServerError when none accepts.
    """
    tried: list[str] = []
    for candidates in (_local(), _demo(tried), [Server(DEFAULT_SERVER)]):
        accepting = [server for server in candidates if _accepts(server, tried)]
        if accepting:
            return accepting
    raise NoServerError(f"no server found: tried {', '.join(tried)}; {CURE}")


def _parse(address: str, *, tls: bool) -> Server:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise UsageError(f'--server "{address}": {_FORMS}; the path must be absolute, e.g. {LOCAL_SOCKET}')
        return Server(f"unix://{path}")
    scheme = "tls://" if address.startswith("tls://") else ""
    match = _HOST_PORT.fullmatch(address.removeprefix(scheme))
    if match is None:
        raise UsageError(f'--server "{address}": {_FORMS}, e.g. {_suggestion(address)}')
    if not 0 < int(match["port"]) < 1 << 16:
        raise UsageError(f'--server "{address}": {_FORMS}; the port must be between 1 and 65535')
    return Server(address, tls=tls or bool(scheme))


def _suggestion(address: str) -> str:
    if address.startswith("/"):
        return f"unix://{address}"
    bare = re.sub(r"^\w+:/+", "", address).rstrip("/")
    host = re.sub(r":[^:\]]*$", "", bare) if bare.count(":") == 1 else bare
    if not re.fullmatch(r"[\w.:%\[\]-]+", host):
        return DEFAULT_SERVER
    return f"[{host.strip('[]')}]:4245" if ":" in host else f"{host}:4245"


def _local() -> list[Server]:
    return [Server(LOCAL_SOCKET)]


def _demo(tried: list[str]) -> Iterator[Server]:
    try:
        addresses = json.loads(DEMO_AGENTS.read_bytes())
        yield from parse_servers(",".join(addresses))
    except OSError as error:
        tried.append(f"{DEMO_AGENTS} ({_reason(error)})")
    except (ValueError, TypeError, UsageError) as error:
        tried.append(f"{DEMO_AGENTS} (not a list of addresses: {error})")


def _accepts(server: Server, tried: list[str]) -> bool:
    try:
        _connect(server)
    except OSError as error:
        tried.append(f"{server.address} ({_reason(error)})")
        return False
    return True


def _connect(server: Server) -> None:
    if not server.unix_path:
        socket.create_connection(server.host_port, PROBE_TIMEOUT_S).close()
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        probe.connect(server.unix_path)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
