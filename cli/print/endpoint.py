"""Both ends of a flow as Hubble writes them: host and port, and security identity."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from flows.cli.print.escape import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.cli.print.style import Style
    from flows.proto.flow_pb2 import Endpoint, Flow, Service

# cilium pkg/identity/numericidentity.go, reservedIdentityNames
RESERVED = (
    "unknown", "host", "world", "unmanaged", "health", "init", "remote-node", "kube-apiserver", "ingress",
    "world-ipv4", "world-ipv6",
)  # fmt: skip
_WITH_PORTS = ("TCP", "UDP", "SCTP")


def hosts(flow: Flow, style: Style) -> tuple[str, str]:
    """Source and destination, painted: pod, else service, else DNS names, else address; and the port, if any.

    A flow without IP shows its MAC addresses; without these, nothing.
    """
    paint = style.palette.host
    if not flow.HasField("IP"):
        if not flow.HasField("ethernet"):
            return "", ""
        return paint(escape(flow.ethernet.source)), paint(escape(flow.ethernet.destination))
    source_port, destination_port = _ports(flow)
    source = destination = ""
    if style.names:
        service = flow.source_service if flow.HasField("source_service") else None
        source = _name(flow.source, service, flow.source_names)
        service = flow.destination_service if flow.HasField("destination_service") else None
        destination = _name(flow.destination, service, flow.destination_names)
    return (
        paint(_with_port(escape(source or flow.IP.source), source_port, style)),
        paint(_with_port(escape(destination or flow.IP.destination), destination_port, style)),
    )


def identities(flow: Flow, style: Style) -> tuple[str, str]:
    """Source and destination identity, painted: `(world)` for a reserved one, else `(ID:12345)`."""
    paint = style.palette.identity
    return paint(_identity(flow.source.identity)), paint(_identity(flow.destination.identity))


def _identity(number: int) -> str:
    return f"({RESERVED[number]})" if number < len(RESERVED) else f"(ID:{number})"


def _ports(flow: Flow) -> tuple[int, int]:
    protocol = flow.l4.WhichOneof("protocol")
    if protocol not in _WITH_PORTS:
        return 0, 0
    layer4 = getattr(flow.l4, protocol)
    return layer4.source_port, layer4.destination_port


def _name(endpoint: Endpoint, service: Service | None, names: Sequence[str]) -> str:
    # Hubble's quirk: the service's namespace, where there is one, is shown with the pod's name too.
    namespace = endpoint.namespace if service is None else service.namespace
    if endpoint.pod_name:
        return _join(namespace, endpoint.pod_name)
    if service is not None and service.name:
        return _join(namespace, service.name)
    return ",".join(names)


def _join(namespace: str, name: str) -> str:
    path = f"{namespace}/{name}" if namespace else name
    if path.count("/") <= 1 and "." not in {namespace, name} and ".." not in {namespace, name}:
        return path
    # Go's path.Join also cleans the path; no Kubernetes name needs it, but the text comes from outside.
    return posixpath.normpath("/" + path.lstrip("/") if path.startswith("/") else path)


def _with_port(host: str, port: int, style: Style) -> str:
    if not port:
        return host
    text = style.palette.port(str(port))
    return f"[{host}]:{text}" if ":" in host else f"{host}:{text}"
