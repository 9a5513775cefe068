"""The kinds that name endpoints, as msgspec structs of only the fields needed; all else in an object is skipped unread.

Field names and forms: https://kubernetes.io/docs/reference/kubernetes-api/. Go writes absent lists and maps
as null in places (a BOOKMARK's spec.containers), so each field here may be null or missing.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec reads the annotations when it runs

import msgspec

from flows.kube.wire import ObjectMeta, Wire


class OwnerReference(Wire):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class Annotations(Wire):
    config_hash: str | None = msgspec.field(default=None, name="kubernetes.io/config.hash")


class Metadata(ObjectMeta):
    creation_timestamp: datetime | None = None
    annotations: Annotations | None = None
    owner_references: list[OwnerReference] | None = None


class PodSpec(Wire):
    node_name: str | None = None
    host_network: bool | None = None
    service_account_name: str | None = None


class Ip(Wire):
    ip: str | None = None


class ContainerRun(Wire):
    started_at: datetime | None = None


class ContainerState(Wire):
    running: ContainerRun | None = None
    terminated: ContainerRun | None = None


class ContainerStatus(Wire):
    name: str = ""
    container_id: str | None = msgspec.field(default=None, name="containerID")
    state: ContainerState | None = None
    last_state: ContainerState | None = None


class PodStatus(Wire):
    phase: str | None = None
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    pod_ips: list[Ip] | None = msgspec.field(default=None, name="podIPs")
    start_time: datetime | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    ephemeral_container_statuses: list[ContainerStatus] | None = None


class Pod(Wire):
    metadata: Metadata
    spec: PodSpec | None = None
    status: PodStatus | None = None


class ServiceSpec(Wire):
    selector: dict[str, str] | None = None
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    external_ips: list[str] | None = msgspec.field(default=None, name="externalIPs")


class LoadBalancer(Wire):
    ingress: list[Ip] | None = None


class ServiceStatus(Wire):
    load_balancer: LoadBalancer | None = None


class Service(Wire):
    metadata: Metadata
    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class NodeAddress(Wire):
    address: str = ""


class NodeStatus(Wire):
    addresses: list[NodeAddress] | None = None


class Node(Wire):
    metadata: Metadata
    status: NodeStatus | None = None


class SliceEndpoint(Wire):
    addresses: list[str] | None = None


class EndpointSlice(Wire):
    metadata: Metadata
    endpoints: list[SliceEndpoint] | None = None


class Object(Wire):
    metadata: Metadata
