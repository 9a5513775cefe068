"""Certificates of flows itself: agents and relay know each other by a CA that signs nothing else.

The cluster's CA would not do: whoever it gave a certificate for the Kubernetes API could then read all flows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.demo import layout
from flows.demo.api.authority import Authority, write_private

if TYPE_CHECKING:
    from pathlib import Path

RELAY_NAMES = (
    "flows-relay",
    "flows-relay.kube-system",
    "flows-relay.kube-system.svc",
    f"flows-relay.kube-system.svc.{layout.DOMAIN}",
    "localhost",
    "127.0.0.1",
    "::1",
)
SECURE_NAMES = ("secure", "secure.demo", "secure.demo.svc", f"secure.demo.svc.{layout.DOMAIN}")


def write_certificates() -> None:
    """Make the CA and the pairs of agents and relay; the folders are the owner's alone.

    The agents' name is the one that Hubble's relay expects: NODE.CLUSTER.hubble-grpc.cilium.io.
    """
    authority = Authority("flows")
    for folder in (layout.AGENT_PKI, layout.RELAY_PKI):
        folder.mkdir(mode=0o700, parents=True)
        (folder / "ca.crt").write_bytes(authority.pem)
    layout.FLOWS_CA.write_bytes(authority.pem)
    agent = authority.server_certificate("flows-agent", [f"*.{layout.CLUSTER}.hubble-grpc.cilium.io"])
    _write_pair(layout.AGENT_PKI / "tls", agent)
    nodes = [address for node in layout.NODES for address in (node.address, node.address6)]
    _write_pair(layout.RELAY_PKI / "tls", authority.server_certificate("flows-relay", [*RELAY_NAMES, *nodes]))
    _write_pair(layout.RELAY_PKI / "client", authority.client_certificate("flows-relay"))
    _write_secure()


def _write_secure() -> None:
    """The certificate of the demo's HTTPS server, by a CA that only its clients trust."""
    authority = Authority("demo-web")
    layout.SECURE_PKI.mkdir(mode=0o700, parents=True)
    (layout.SECURE_PKI / "ca.crt").write_bytes(authority.pem)
    _write_pair(layout.SECURE_PKI / "tls", authority.server_certificate("secure", SECURE_NAMES))


def _write_pair(stem: Path, pair: tuple[bytes, bytes]) -> None:
    certificate, key = pair
    stem.with_suffix(".crt").write_bytes(certificate)
    write_private(stem.with_suffix(".key"), key)
