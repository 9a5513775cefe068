"""Backend: the pod, and its port, that answers now for the relay's Service."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Ours, then Hubble's.
SERVICES = ("flows-relay", "hubble-relay")


class PortForwardError(Exception):
    """No way through the Kubernetes API: one line with what was tried and the cure; exit status 1. code: HTTP's, 0: none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Backend:
    """A ready pod behind a Service. service: `namespace/name`."""

    service: str
    namespace: str
    pod: str
    port: int


class Api(Protocol):
    """What is needed of cluster.Cluster."""

    def read(self, path: str, query: dict[str, str]) -> bytes: ...


def backend(api: Api, namespace: str) -> Backend:
    """The first ready pod of the first of SERVICES that is there. Blocks. Raises PortForwardError."""
    for name in SERVICES:
        try:
            service = json.loads(api.read(f"/api/v1/namespaces/{namespace}/services/{name}", {}))
        except PortForwardError as error:
            if error.code == 404:
                continue
            raise
        query = {"labelSelector": f"kubernetes.io/service-name={name}"}
        slices = json.loads(api.read(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", query))
        pod, port = _ready(f"{namespace}/{name}", service, slices.get("items") or [])
        return Backend(f"{namespace}/{name}", namespace, pod, port)
    cure = "name the relay's namespace with --kube-namespace"
    raise PortForwardError(f"--port-forward: no Service {' or '.join(SERVICES)} in namespace {namespace}; {cure}")


def _ready(name: str, service: Any, slices: Sequence[Any]) -> tuple[str, int]:
    """As kubectl and Hubble: the Service's first port, of a pod that is ready."""
    ports = (service.get("spec") or {}).get("ports") or []
    wanted = ports[0].get("name") or "" if ports else ""
    for each in slices:
        numbers = [port.get("port") or 0 for port in each.get("ports") or [] if (port.get("name") or "") == wanted]
        for pod in _pods(each) if any(numbers) else ():
            return pod, int(numbers[0])
    cure = f"see: kubectl -n {name.partition('/')[0]} get pods, endpointslices"
    raise PortForwardError(f"--port-forward: Service {name} has no ready pod; {cure}")


def _pods(each: Any) -> Iterator[str]:
    for endpoint in each.get("endpoints") or []:
        target = endpoint.get("targetRef") or {}
        # Absent counts as ready: k8s.io/api/discovery/v1, EndpointConditions.
        if (endpoint.get("conditions") or {}).get("ready") is not False and target.get("kind") == "Pod":
            yield target["name"]
