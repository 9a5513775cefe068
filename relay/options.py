"""Command line of `flows relay`: flags, checked, as data."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flows.relay.discovery.static import peers
from flows.wire.addresses import listen_address
from flows.wire.flags import Parser, add_server_flags, check_files, open_addresses, server_files
from flows.wire.tls import SERVER_NAME, ClientFiles, ClientTls, ServerFiles, TlsError, server_name

if TYPE_CHECKING:
    from flows.relay.discovery.found import Found

LISTEN: Final = ("unix:///run/flows/relay.sock", "localhost:4245")  # where Hubble's clients look by default
METRICS_LISTEN: Final = "localhost:9966"  # Hubble relay's port
NOWHERE: Final = "off"

EPILOG: Final = """examples:
  flows relay --peers node-1=10.0.0.1:4244,node-2=10.0.0.2:4244
  flows relay --agents-service kube-system/flows-agent --peer-tls-ca-file ca --peer-tls-cert-file crt --peer-tls-key-file key
  flows relay --peer-service hubble-peer.kube-system.svc:80
  flows relay --peers 10.0.0.1:4244 --listen 0.0.0.0:4245 --tls-cert-file s.crt --tls-key-file s.key --kubeconfig ~/.kube/config
"""

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SERVICE = re.compile(rf"{_LABEL}/{_LABEL}(:{_LABEL})?")
_DNS_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """A whole `flows relay`."""

    listen: tuple[str, ...]
    cluster: str
    peers: tuple[Found, ...]
    agents_service: str
    peer_service: str
    kubernetes: bool  # whether there is an API server to ask who callers are
    kubeconfig: str | None
    context: str | None
    peer_tls: ClientFiles | None
    peer_server_name: str
    tls: ServerFiles | None
    allow_unauthenticated: bool
    metrics_listen: str  # "": nowhere

    @property
    def remote(self) -> tuple[str, ...]:
        """The listeners that others than this machine can reach."""
        return tuple(open_addresses(self.listen))

    @property
    def sockets(self) -> tuple[str, ...]:
        """The unix sockets, whose files say who on this machine may use them."""
        return tuple(address for address in self.listen if address.startswith("unix:"))

    @property
    def loopback(self) -> tuple[str, ...]:
        """The TCP listeners that everybody on this machine can reach, and who may port-forward to it."""
        return tuple(address for address in self.listen if address not in (*self.remote, *self.sockets))


def service(text: str) -> str:
    """`namespace/name` or `namespace/name:port-name`."""
    if not _SERVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no Service: expected NAMESPACE/NAME, e.g. kube-system/flows-agent")
    return text


def tcp_address(text: str) -> str:
    """`host:port`."""
    if text.startswith("unix:"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected host:port")
    return listen_address(text)


def metrics_address(text: str) -> str:
    """`host:port`, or "" for `off`."""
    return "" if text == NOWHERE else tcp_address(text)


def name_pattern(text: str) -> str:
    """A DNS name in which {node} and {cluster} stand for those of an agent."""
    if not _DNS_NAME.fullmatch(server_name(text, "node", "cluster")):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name: expected a DNS name with {{node}} and {{cluster}}, e.g. {SERVER_NAME}"
        )
    return text


def build_parser() -> Parser:
    """The parser of `flows relay`."""
    parser = Parser(
        "flows relay", description="Serve the flows of all agents as one: Hubble's Observer API over a whole cluster.",
        epilog=EPILOG, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_agent_flags(parser)
    add_server_flags(
        parser, LISTEN, "let anybody who reaches a TCP listener read all flows, also without TLS",
        "; where Kubernetes is asked who callers are, only a unix socket needs no token",
    )  # fmt: skip
    add = parser.add_argument
    add("--kubeconfig", metavar="FILE", help="ask the API of this kubeconfig who callers are and what they may see")
    add("--kube-context", metavar="NAME", help="context in the kubeconfig")
    add("--metrics-listen", type=metrics_address, default=METRICS_LISTEN, metavar="ADDRESS",
        help=f"host:port of Prometheus metrics, or {NOWHERE}; default {METRICS_LISTEN}")  # fmt: skip
    return parser


def _add_agent_flags(parser: Parser) -> None:
    """Which agents there are, and how to reach them."""
    add = parser.add_argument
    add("--peers", type=peers, action="append", metavar="[NAME=]ADDRESS,...",
        help="agents by address; repeatable; a name that is left out is asked for")  # fmt: skip
    add("--agents-service", type=service, metavar="NAMESPACE/NAME",
        help="agents by the EndpointSlices of their headless Service; [:PORT-NAME], default its first port")  # fmt: skip
    add("--peer-service", type=tcp_address, metavar="HOST:PORT",
        help="agents as a peer.Peer service tells them, e.g. hubble-peer.kube-system.svc:80")  # fmt: skip
    add("--cluster", default="default", help="this cluster's name, shown as cluster/node; default: default")
    add("--peer-tls-ca-file", type=Path, metavar="FILE", help="speak TLS with agents; CA of their certificates")
    add("--peer-tls-cert-file", type=Path, metavar="FILE", help="certificate to show to agents")
    add("--peer-tls-key-file", type=Path, metavar="FILE", help="its key")
    add("--peer-tls-server-name", type=name_pattern, default=SERVER_NAME, metavar="PATTERN",
        help=f"name in an agent's certificate; default {SERVER_NAME}")  # fmt: skip


def parse(argv: list[str]) -> RelayOptions:
    """Check a command line; exits with status 2 and one line if it is wrong."""
    parser = build_parser()
    words = parser.parse_args(argv)
    options = RelayOptions(
        listen=tuple(dict.fromkeys(words.listen or LISTEN)),
        cluster=words.cluster,
        peers=tuple(one for group in words.peers or () for one in group),
        agents_service=words.agents_service or "",
        peer_service=words.peer_service or "",
        kubernetes=bool(words.kubeconfig or words.kube_context or words.agents_service or in_pod()),
        kubeconfig=words.kubeconfig,
        context=words.kube_context,
        peer_tls=_peer_files(parser, words),
        peer_server_name=words.peer_tls_server_name,
        tls=server_files(words),
        allow_unauthenticated=words.allow_unauthenticated,
        metrics_listen=words.metrics_listen,
    )
    _check(parser, words, options)
    return options


def in_pod() -> bool:
    """Whether the kubelet told us where the API server is."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def _peer_files(parser: Parser, words: argparse.Namespace) -> ClientFiles | None:
    ca, cert, key = words.peer_tls_ca_file, words.peer_tls_cert_file, words.peer_tls_key_file
    if (cert is None) != (key is None):
        parser.error("--peer-tls-cert-file and --peer-tls-key-file go together")
    if ca is None:
        if cert is not None:
            parser.error("--peer-tls-cert-file: --peer-tls-ca-file must say whom to show it to")
        return None
    files = ClientFiles(ca, cert, key)
    try:
        ClientTls(files)
    except TlsError as error:
        parser.error(str(error))
    return files


def _check(parser: Parser, words: argparse.Namespace, options: RelayOptions) -> None:
    if not (options.peers or options.agents_service or options.peer_service):
        parser.error("no agents to ask: give --peers, --agents-service or --peer-service; for one agent no relay is needed")
    if options.peer_tls is None and any(one.tls for one in options.peers):
        parser.error("--peers tls://...: --peer-tls-ca-file must have the CA of the agents' certificates")
    if (words.tls_cert_file is None) != (words.tls_key_file is None):
        parser.error("--tls-cert-file and --tls-key-file go together")
    if options.tls is None and words.tls_client_ca_file is not None:
        parser.error("--tls-client-ca-file needs --tls-cert-file and --tls-key-file")
    check_files(parser, options.tls)
    if options.remote and options.tls is None and not options.allow_unauthenticated:
        parser.error(
            f"--listen {options.remote[0]}: others can reach it, and tokens and flows must not cross a network in the clear: "
            "give --tls-cert-file and --tls-key-file, or say --allow-unauthenticated"
        )
