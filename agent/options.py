"""Command lines of `flows agent` and `flows local`: one row per flag, checked, as data."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.agent.l7.dns import TIMEOUT_NS as DNS_TIMEOUT_NS
from flows.agent.l7.http1 import TIMEOUT_NS as HTTP_TIMEOUT_NS
from flows.agent.l7.redact import Redaction
from flows.agent.probe.settings import MAX_DNS_PORTS, OF_A_FLOOD, SECOND, PlaintextSettings, ProbeSettings
from flows.wire.flags import Parser, add_server_flags, check_files, open_addresses, server_files

if TYPE_CHECKING:
    from flows.wire.tls import ServerFiles

DEFAULT_FLOWS = 65_535  # Hubble's largest ring: minutes of history on a busy node, 8 MB
MAX_FLOWS = (1 << 24) - 1  # 2 GB of columns
DEFAULT_REQUESTS = 32_768  # with their answers: as many as their two flows each fill the store with; 21 MB
MAX_REQUESTS = (1 << 22) - 1  # 3 GB of columns
LOCAL_SOCKET = "unix:///run/flows/flows.sock"  # where the CLI looks first
AGENT_LISTEN = (LOCAL_SOCKET, "localhost:4244")  # Hubble agents' port
LOCAL_LISTEN = (LOCAL_SOCKET, "localhost:4245")  # Hubble relays' port, where clients look by default

EPILOG = """examples:
  flows local                                   watch this machine; then: flows observe -f
  flows agent --node node-1 --cgroup /sys/fs/cgroup
  flows agent --listen 0.0.0.0:4244 --tls-cert-file s.crt --tls-key-file s.key --tls-client-ca-file ca.crt
"""


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """A whole `flows agent` or `flows local`."""

    node: str
    cluster: str
    cgroup: Path | None
    keep: Path | None
    listen: tuple[str, ...]
    flows: int
    probe: ProbeSettings
    requests: int
    plaintext: PlaintextSettings | None  # None: it is not read
    redaction: Redaction
    dns_timeout_ns: int
    http_timeout_ns: int
    kubernetes: bool
    kubeconfig: str | None
    context: str | None
    tls: ServerFiles | None


def duration(text: str) -> int:
    """Nanoseconds of `500ms`, `5s`, `2m` or `1h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: expected a number and a unit, e.g. 5s, 500ms, 1m")
    ns = int(float(found[1]) * {"ms": SECOND // 1000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}[found[2]])
    if not SECOND // 10 <= ns <= 3600 * SECOND:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range: expected 100ms to 1h")
    return ns


def capacity(text: str) -> int:
    """Number of flows to keep."""
    if not re.fullmatch(r"\d{1,9}", text) or not 1 <= int(text) <= MAX_FLOWS:
        raise argparse.ArgumentTypeError(f"{text!r} flows: expected a whole number from 1 to {MAX_FLOWS}")
    return int(text)


def request_capacity(text: str) -> int:
    """Number of requests to keep."""
    if not re.fullmatch(r"\d{1,9}", text) or not 1 <= int(text) <= MAX_REQUESTS:
        raise argparse.ArgumentTypeError(f"{text!r} requests: expected a whole number from 1 to {MAX_REQUESTS}")
    return int(text)


def percent(text: str) -> float:
    """A share of something, in percent."""
    if not re.fullmatch(r"\d{1,3}(\.\d{1,3})?", text) or not 0 < float(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} percent: expected a number above 0, up to 100, e.g. 1 or 0.5")
    return float(text)


def ports(text: str) -> tuple[int, ...]:
    """Ports, separated by commas."""
    parts = text.split(",")
    if not all(re.fullmatch(r"\d{1,5}", part) and 0 < int(part) < 65_536 for part in parts) or len(parts) > MAX_DNS_PORTS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected up to {MAX_DNS_PORTS} ports from 1 to 65535, separated by commas")
    return tuple(sorted({int(part) for part in parts}))


def rules(text: str) -> Redaction:
    """Redaction rules: a JSON object, or @ and the name of a file that has one."""
    try:
        settings = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"reading redaction rules: {error}; expected a JSON object or @FILE") from error
    if not isinstance(settings, dict):
        raise argparse.ArgumentTypeError("redaction rules: expected a JSON object, see docs/requests.md")
    try:
        return Redaction.of(settings)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; see docs/requests.md") from error


def ring_size(text: str) -> int:
    """Bytes of a ring: a power of two number of MiB."""
    if not re.fullmatch(r"\d{1,3}", text) or int(text) not in (1 << bit for bit in range(9)):
        raise argparse.ArgumentTypeError(f"{text!r} MiB of ring: expected a power of two from 1 to 256")
    return int(text) << 20


def build_parser(command: str) -> Parser:
    """The parser of `flows agent` or `flows local`."""
    local = command == "local"
    what = (
        "Watch this machine: the agent, and what serves the CLI, in one process; names are containers, units and processes."
        if local
        else "Watch one node: trace its flows with eBPF, name both ends, serve them over Hubble's Observer API."
    )
    parser = Parser(
        f"flows {command}", description=what, epilog=EPILOG, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add, defaults = parser.add_argument, ProbeSettings()
    add(
        "--cgroup",
        type=Path,
        metavar="PATH",
        help="cgroup v2 directory to watch, with all below it; default: all of it",
    )
    add("--keep", type=Path, metavar="PATH",
        help="bpffs directory in which programs and ring outlive the agent, so that the next one misses nothing")  # fmt: skip
    anybody = "let anybody who reaches a TCP listener read all flows"
    add_server_flags(parser, LOCAL_LISTEN if local else AGENT_LISTEN, anybody)
    add(
        "--node",
        default=os.environ.get("NODE_NAME") or socket.gethostname(),
        help="this node's name (default $NODE_NAME, host name)",
    )
    add("--cluster", default="default", help="this cluster's name, shown as cluster/node; default: default")
    add(
        "--flows",
        type=capacity,
        default=DEFAULT_FLOWS,
        metavar="N",
        help=f"how many flows to keep, default {DEFAULT_FLOWS}",
    )
    add(
        "--ring-mib",
        type=ring_size,
        default=defaults.ring_bytes,
        metavar="N",
        help="kernel ring, a power of two, default 8",
    )
    _add_requests(parser, defaults)
    _add_intervals(parser, defaults)
    _add_kubernetes(parser, local=local)
    return parser


def _add_requests(parser: Parser, defaults: ProbeSettings) -> None:
    add = parser.add_argument
    add("--no-requests", action="store_true", help="look at no first bytes: no DNS, HTTP and TLS, only connections")
    add("--no-plaintext", action="store_true", help="do not read what OpenSSL and GnuTLS encrypt: of TLS its ClientHello only")
    add("--no-plaintext-of", metavar="NAMESPACE", action="append", default=[],
        help="do not read what pods of this namespace encrypt; may be repeated")  # fmt: skip
    add("--plaintext-budget", type=percent, default=PlaintextSettings().budget_percent, metavar="PERCENT",
        help="of all CPUs' time, that stopping at calls of these libraries may take; beyond, plaintext is read in slices of a "
        f"second and the rest told as sampled; 100: always read; default {PlaintextSettings().budget_percent:g}")  # fmt: skip
    add("--requests", type=request_capacity, default=DEFAULT_REQUESTS, metavar="N",
        help=f"how many requests to keep with their answers, default {DEFAULT_REQUESTS}")  # fmt: skip
    add("--requests-per-second", type=request_capacity, default=defaults.payloads_per_second // 4, metavar="N",
        help="beyond so many, both ends seen, a share is taken, of a twentieth as many, and the rest told as sampled, "
        f"default {defaults.payloads_per_second // 4}")  # fmt: skip
    add("--dns-ports", type=ports, default=defaults.dns_ports, metavar="PORT,...", help="ports of DNS, default 53")
    add("--dns-timeout", type=duration, default=DNS_TIMEOUT_NS, metavar="TIME",
        help="a DNS query without an answer is reported after, default 5s, as resolvers wait")  # fmt: skip
    add("--http-timeout", type=duration, default=HTTP_TIMEOUT_NS, metavar="TIME",
        help="an HTTP request without an answer is reported after, default 60s")  # fmt: skip
    add("--redact", type=rules, default=Redaction(), metavar="JSON",
        help='what is not to be stored of requests, e.g. {"headers_allow": ["user-agent"]}, or @FILE')  # fmt: skip


def _add_intervals(parser: Parser, defaults: ProbeSettings) -> None:
    for flag, field, meaning in (
        ("--active-interval", "active_interval_ns", "a record this often for active connections"),
        ("--unanswered-after", "unanswered_after_ns", "a SYN without answer is reported after"),
        ("--idle-after", "idle_after_ns", "a UDP, ICMP or SCTP exchange ends by this silence"),
    ):
        default = getattr(defaults, field)
        parser.add_argument(
            flag,
            type=duration,
            default=default,
            metavar="TIME",
            help=f"{meaning}, default {default // SECOND}s",
        )


def _add_kubernetes(parser: Parser, *, local: bool) -> None:
    parser.add_argument("--kubeconfig", metavar="FILE", help="name pods with the API of this kubeconfig")
    parser.add_argument("--kube-context", metavar="NAME", help="context in the kubeconfig")
    if not local:
        parser.add_argument(
            "--no-kubernetes",
            action="store_true",
            help="do not ask the Kubernetes API: containers, units and addresses only",
        )


def parse(command: str, argv: list[str]) -> AgentOptions:
    """Check a command line; exits with status 2 and one line if it is wrong."""
    parser = build_parser(command)
    words = parser.parse_args(argv)
    listen = tuple(words.listen or (LOCAL_LISTEN if command == "local" else AGENT_LISTEN))
    tls = _tls(parser, words)
    open_ = open_addresses(listen)
    if open_ and tls is None and not words.allow_unauthenticated:
        parser.error(
            f"--listen {open_[0]}: others can reach it, so clients must show a certificate: give --tls-cert-file, "
            "--tls-key-file and --tls-client-ca-file, or say --allow-unauthenticated"
        )
    return AgentOptions(
        node=words.node,
        cluster=words.cluster,
        cgroup=words.cgroup,
        keep=words.keep,
        listen=listen,
        flows=words.flows,
        probe=ProbeSettings(
            ring_bytes=words.ring_mib,
            active_interval_ns=words.active_interval,
            unanswered_after_ns=words.unanswered_after,
            idle_after_ns=words.idle_after,
            requests=not words.no_requests,
            dns_ports=words.dns_ports,
            payloads_per_second=4 * words.requests_per_second,
            sampled_per_second=max(1, 4 * words.requests_per_second // OF_A_FLOOD),
        ),
        requests=words.requests,
        plaintext=None if words.no_plaintext else PlaintextSettings(frozenset(words.no_plaintext_of), words.plaintext_budget),
        redaction=words.redact,
        dns_timeout_ns=words.dns_timeout,
        http_timeout_ns=words.http_timeout,
        kubernetes=not words.no_kubernetes if command == "agent" else bool(words.kubeconfig or words.kube_context),
        kubeconfig=words.kubeconfig,
        context=words.kube_context,
        tls=tls,
    )


def _tls(parser: Parser, words: argparse.Namespace) -> ServerFiles | None:
    """Clients of an agent show a certificate, or there is no TLS."""
    files = (words.tls_cert_file, words.tls_key_file, words.tls_client_ca_file)
    if any(files) and not all(files):
        parser.error("--tls-cert-file, --tls-key-file and --tls-client-ca-file go together")
    named = server_files(words)
    check_files(parser, named)
    return named
