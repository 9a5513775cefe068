"""Endpoints of entities that need no other object: Services and nodes; and the workload of a pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.agent.enrich.identity import RESERVED_LABELS
from flows.flow.endpoint import Endpoint, Evidence, Reserved, ServiceName, Workload

if TYPE_CHECKING:
    from flows.agent.enrich.entities import NodeEntity, ServiceEntity
    from flows.agent.enrich.kube_records import OwnedRecord, PodRecord


def of_service(entity: ServiceEntity, cluster: str) -> Endpoint:
    """Who a Service's address stands for."""
    reserved = Reserved.KUBE_APISERVER if entity.api_server else Reserved.UNKNOWN
    return Endpoint(
        identity=reserved,
        namespace=entity.namespace,
        labels=(RESERVED_LABELS[reserved],) if reserved else (),
        service=ServiceName(entity.namespace, entity.name),
        cluster=cluster,
        evidence=Evidence.ADDRESS,
    )


def of_node(entity: NodeEntity, cluster: str) -> Endpoint:
    """As Cilium has it: an API server's remote node is identity 7 with both labels, this node is always 1."""
    kind = Reserved.HOST if entity.host else Reserved.REMOTE_NODE
    labels = {RESERVED_LABELS[kind]} | ({RESERVED_LABELS[Reserved.KUBE_APISERVER]} if entity.api_server else set())
    return Endpoint(
        identity=Reserved.KUBE_APISERVER if entity.api_server and not entity.host else kind,
        labels=tuple(sorted(labels)),
        node=entity.name,
        cluster=cluster,
        evidence=Evidence.ADDRESS,
    )


def workload(pod: PodRecord, owned: OwnedRecord | None) -> Workload:
    """The top of the owner chain; owned: the pod's owner, if it is known and has an owner itself.

    A bare pod, and a static one (owned by its node), is its own workload.
    """
    owner = pod.owner
    if owner is None or owner.kind == "Node":
        return Workload("Pod", pod.name)
    if owned is not None and owned.owner is not None:
        return Workload(owned.owner.kind, owned.owner.name)
    template = dict(pod.labels).get("pod-template-hash", "")
    if owned is None and owner.kind == "ReplicaSet" and template and owner.name.endswith(f"-{template}"):
        # Not listed yet, or not allowed to: the Deployment controller names its ReplicaSets like this.
        return Workload("Deployment", owner.name.removesuffix(f"-{template}"))
    return Workload(owner.kind, owner.name)
