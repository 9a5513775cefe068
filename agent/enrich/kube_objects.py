"""Kubernetes objects to records: what is kept of each kind, and which kinds an agent asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from sys import intern
from typing import Final

from flows.agent.enrich.addresses import parse_address
from flows.agent.enrich.kube_records import (
    ApiServerRecord,
    Labels,
    NamespaceRecord,
    NodeRecord,
    OwnedRecord,
    Owner,
    PodRecord,
    Record,
    ServiceRecord,
)
from flows.agent.enrich.kube_wire import (
    EndpointSlice,
    Metadata,
    Node,
    Object,
    Pod,
    PodSpec,
    PodStatus,
    Service,
    ServiceSpec,
)
from flows.kube.resource import Resource

TERMINAL: Final = ("Succeeded", "Failed")
API_SERVICE_LABEL: Final = "kubernetes.io/service-name"


def _labels(mapping: dict[str, str] | None) -> Labels:
    """Sort and intern: replicas have equal labels, and keys repeat through the whole cluster."""
    return tuple(sorted((intern(key), intern(value)) for key, value in (mapping or {}).items()))


def _addresses(texts: list[str | None]) -> tuple[bytes, ...]:
    parsed = (parse_address(text) for text in dict.fromkeys(texts) if text)
    return tuple(address for address in parsed if address is not None)


def _nanoseconds(moment: datetime | None) -> int:
    if moment is None:
        return 0
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 10**9


def _owner(metadata: Metadata) -> Owner | None:
    for reference in metadata.owner_references or ():
        if reference.controller:
            return Owner(intern(reference.kind), intern(reference.name), intern(reference.uid))
    return None


def _container_ids(status: PodStatus) -> Labels:
    lists = (status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses)
    return tuple(
        (one.container_id.rpartition("//")[2], intern(one.name))
        for statuses in lists
        for one in statuses or ()
        if one.container_id
    )


def _started_ns(pod: Pod) -> int:
    """When the first container ran: the status tells of each container's present and last run.

    Not startTime, if it can be helped: then the kubelet took the pod on, minutes before its volumes and its address were
    there, and the address was somebody else's.
    """
    status = pod.status or PodStatus()
    statuses = [*(status.init_container_statuses or ()), *(status.container_statuses or ())]
    runs = [one for each in statuses for one in (each.state, each.last_state) if one]
    states = [run.running or run.terminated for run in runs]
    starts = [state.started_at for state in states if state and state.started_at]
    if starts:
        return min(map(_nanoseconds, starts))
    return 0 if runs else _nanoseconds(status.start_time or pod.metadata.creation_timestamp)


def pod_record(pod: Pod, node_name: str) -> PodRecord:
    """Keep of a pod what names it; its addresses only while they are its own (not of the node, not once it
    ended).
    """
    meta, spec, status = pod.metadata, pod.spec or PodSpec(), pod.status or PodStatus()
    host_network = bool(spec.host_network)
    owns = not host_network and status.phase not in TERMINAL
    ips = [status.pod_ip, *(one.ip for one in status.pod_ips or ())]
    return PodRecord(
        uid=meta.uid,
        namespace=intern(meta.namespace),
        name=meta.name,
        labels=_labels(meta.labels),
        service_account=intern(spec.service_account_name or ""),
        node=intern(spec.node_name or ""),
        host_network=host_network,
        addresses=_addresses(ips) if owns else (),
        owner=_owner(meta),
        config_hash=(meta.annotations and meta.annotations.config_hash) or "",
        started_ns=_started_ns(pod),
        containers=_container_ids(status) if spec.node_name == node_name else (),
    )


def service_record(service: Service) -> ServiceRecord:
    """Keep of a Service its selector and every address that leads to it."""
    meta, spec = service.metadata, service.spec or ServiceSpec()
    balancer = service.status.load_balancer if service.status else None
    ips = [spec.cluster_ip, *(spec.cluster_ips or ()), *(spec.external_ips or ())]
    ips += [one.ip for one in (balancer.ingress if balancer else None) or ()]
    return ServiceRecord(
        uid=meta.uid,
        namespace=intern(meta.namespace),
        name=meta.name,
        selector=_labels(spec.selector),
        addresses=_addresses(ips),
        created_ns=_nanoseconds(meta.creation_timestamp),
    )


def node_record(node: Node) -> NodeRecord:
    """Keep of a node its labels and IP addresses; its host names are not addresses."""
    meta, addresses = node.metadata, (node.status.addresses if node.status else None) or ()
    return NodeRecord(meta.uid, intern(meta.name), _addresses([one.address for one in addresses]), _labels(meta.labels))


def namespace_record(namespace: Object) -> NamespaceRecord:
    """Keep of a namespace its labels: they are part of its pods' identity."""
    meta = namespace.metadata
    return NamespaceRecord(meta.uid, intern(meta.name), _labels(meta.labels))


def owned_record(owned: Object) -> OwnedRecord:
    """Keep of a ReplicaSet or Job who controls it."""
    return OwnedRecord(owned.metadata.uid, _owner(owned.metadata))


def api_server_record(piece: EndpointSlice) -> ApiServerRecord:
    """Keep the addresses of an EndpointSlice if it is one of default/kubernetes, whatever the server was
    asked for.
    """
    meta = piece.metadata
    ours = meta.namespace == "default" and (meta.labels or {}).get(API_SERVICE_LABEL) == "kubernetes"
    texts = [text for endpoint in piece.endpoints or () for text in endpoint.addresses or ()] if ours else []
    return ApiServerRecord(meta.uid, _addresses(list(texts)))


# Only the slices of default/kubernetes: those of all Services would be the cluster's largest watch, for
# nothing.
_API_SLICES: Final = (("labelSelector", f"{API_SERVICE_LABEL}=kubernetes"),)
# A Deployment's ReplicaSets have this label and a name made of the Deployment's and its value, which says it all: what
# is left are those of others (Argo Rollouts), and no event for each pod that becomes ready.
_OTHER_REPLICASETS: Final = (("labelSelector", "!pod-template-hash"),)
# Of other nodes' pods an address is all that is seen here. Leaving out those that have none yet, or none any more, saves
# the events of their scheduling and start; one that ends is told as deleted. This node's are known by their cgroups,
# which make traffic before the API has an address.
_ELSEWHERE: Final = "spec.nodeName!={},status.podIP!=,status.phase!=Succeeded,status.phase!=Failed"


def resources(node_name: str) -> tuple[Resource[Record], ...]:
    """Give what the agent of a node lists and watches."""
    pod = partial(pod_record, node_name=node_name)
    return (
        Resource("nodes", "/api/v1/nodes", Node, node_record),
        Resource("namespaces", "/api/v1/namespaces", Object, namespace_record, metadata_only=True),
        Resource("services", "/api/v1/services", Service, service_record),
        Resource(
            "endpointslices",
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            EndpointSlice,
            api_server_record,
            _API_SLICES,
        ),
        Resource("replicasets", "/apis/apps/v1/replicasets", Object, owned_record, _OTHER_REPLICASETS, metadata_only=True),
        Resource("jobs", "/apis/batch/v1/jobs", Object, owned_record, metadata_only=True),
        Resource("pods", "/api/v1/pods", Pod, pod, (("fieldSelector", _ELSEWHERE.format(node_name)),)),
        Resource("own pods", "/api/v1/pods", Pod, pod, (("fieldSelector", f"spec.nodeName={node_name}"),)),
    )
