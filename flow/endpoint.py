"""Endpoint: who is at one end of a flow, as far as it is known, and from what it is known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Evidence(IntEnum):
    """Where an endpoint's name comes from; numbers of flows.v1.Evidence.

    Observed: CGROUP, CONNECTION, PEER; the rest is inferred.
    """

    UNKNOWN = 0
    CGROUP = 1
    CONNECTION = 2
    ADDRESS = 3
    RANGE = 4
    PEER = 5


class Reserved(IntEnum):
    """Reserved identities: Hubble's numbers (cilium pkg/identity/numericidentity.go)."""

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    REMOTE_NODE = 6
    KUBE_APISERVER = 7


@dataclass(frozen=True, slots=True)
class Workload:
    """The top of a pod's owner chain, e.g. Deployment/web."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A Kubernetes Service."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Container:
    """A container as its cgroup's path tells it; runtime and name are empty where unknown."""

    id: str
    runtime: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a flow. Empty strings and tuples mean "not known" or "has none".

    identity is a Reserved number, or one above 255 derived from the namespace and the labels, equal for equal label sets.
    labels are Hubble's: `k8s:app=x`, `k8s:io.kubernetes.pod.namespace=ns`, `reserved:world`; sorted.
    service is set when the address is a Service's ClusterIP; services are those that select the pod.
    """

    identity: int = 0
    namespace: str = ""
    pod: str = ""
    labels: tuple[str, ...] = ()
    workload: Workload | None = None
    service: ServiceName | None = None
    services: tuple[ServiceName, ...] = ()
    node: str = ""
    cluster: str = ""
    container: Container | None = None
    systemd_unit: str = ""
    cgroup: str = ""
    evidence: Evidence = Evidence.UNKNOWN
