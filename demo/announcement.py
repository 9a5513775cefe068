"""Tells the API where the agents are: EndpointSlices of a headless Service, as a DaemonSet's pods would have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.demo import layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.demo.api.storage import Storage
    from flows.demo.node.unit import Unit

Json = dict[str, Any]
NAMESPACE, SERVICE, SLICE = "kube-system", "flows-agent", "flows-agent-ipv4"
MANAGER = "flows-demo"


def endpoint_slice(agents: Sequence[tuple[layout.NodeLayout, bool]]) -> Json:
    """The slice for nodes and whether their agents are ready; a stopped one is still an agent that should be there."""
    labels = {
        "kubernetes.io/service-name": SERVICE,
        "endpointslice.kubernetes.io/managed-by": MANAGER,
        "service.kubernetes.io/headless": "",
    }
    return {
        "metadata": {"name": SLICE, "namespace": NAMESPACE, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [_endpoint(node, ready) for node, ready in agents],
        "ports": [{"name": "hubble", "protocol": "TCP", "port": layout.AGENT_PORT, "appProtocol": "grpc"}],
    }


def _endpoint(node: layout.NodeLayout, ready: bool) -> Json:
    return {
        "addresses": [node.address],
        "conditions": {"ready": ready, "serving": ready, "terminating": False},
        "nodeName": node.name,
        "zone": node.zone,
    }


def announce(storage: Storage, agents: Sequence[tuple[layout.NodeLayout, Unit]]) -> None:
    """Bring the slice in line with the agents."""
    wanted = endpoint_slice([(node, unit.ready) for node, unit in agents])
    current = storage.get("endpointslices", NAMESPACE, SLICE)
    if current is None:
        storage.create("endpointslices", wanted)
    elif any(current[key] != wanted[key] for key in ("endpoints", "ports")):
        storage.update("endpointslices", {**wanted, "metadata": current["metadata"]})
