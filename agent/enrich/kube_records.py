"""What is kept of each Kubernetes object: the few fields that name an endpoint, lean enough for 10,000
pods.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

# The name of what is no resource: the address in the URL by which the API server is reached.
API_URL: Final = "api-url"

Labels: TypeAlias = tuple[tuple[str, str], ...]


class Owner(msgspec.Struct, frozen=True, gc=False):
    """The controller among an object's ownerReferences."""

    kind: str
    name: str
    uid: str


class PodRecord(msgspec.Struct, frozen=True, gc=False):
    """A pod. addresses: 16 bytes each, only those that are its own: none with hostNetwork, none once it
    ended.

    config_hash: a static pod's, by which the kubelet names its cgroup. started_ns: wall clock, whole seconds, when its
    first container ran, which had the address from its start; 0: none has yet.
    containers: (container id, name), for pods of this node only.
    """

    uid: str
    namespace: str
    name: str
    labels: Labels
    service_account: str
    node: str
    host_network: bool
    addresses: tuple[bytes, ...]
    owner: Owner | None
    config_hash: str
    started_ns: int
    containers: Labels


class ServiceRecord(msgspec.Struct, frozen=True, gc=False):
    """A Service. selector is empty when it selects no pod; addresses: ClusterIPs, external and load
    balancer's.
    """

    uid: str
    namespace: str
    name: str
    selector: Labels
    addresses: tuple[bytes, ...]
    created_ns: int


class NodeRecord(msgspec.Struct, frozen=True, gc=False):
    """A node, its own addresses and its labels."""

    uid: str
    name: str
    addresses: tuple[bytes, ...]
    labels: Labels = ()


class NamespaceRecord(msgspec.Struct, frozen=True, gc=False):
    """A namespace and its labels."""

    uid: str
    name: str
    labels: Labels


class OwnedRecord(msgspec.Struct, frozen=True, gc=False):
    """A ReplicaSet or Job: only a link of the owner chain."""

    uid: str
    owner: Owner | None


class ApiServerRecord(msgspec.Struct, frozen=True, gc=False):
    """Addresses of API servers: an EndpointSlice of the Service default/kubernetes, or the URL's (uid API_URL)."""

    uid: str
    addresses: tuple[bytes, ...]


Record: TypeAlias = PodRecord | ServiceRecord | NodeRecord | NamespaceRecord | OwnedRecord | ApiServerRecord
