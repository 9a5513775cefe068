"""Kubernetes objects to records: what is kept of each kind, and how its lists and watches are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from sys import intern
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final

import msgspec

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
    ListMetadata,
    Metadata,
    Node,
    Object,
    Pod,
    PodSpec,
    PodStatus,
    Service,
    ServiceSpec,
    Status,
    WatchLine,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import Callable


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
        started_ns=_nanoseconds(status.start_time or meta.creation_timestamp),
        containers=_container_ids(status) if spec.node_name == node_name else (),
    )


def service_record(service: Service, _: str) -> ServiceRecord:
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


def node_record(node: Node, _: str) -> NodeRecord:
    """Keep of a node its IP addresses; its host names are not addresses."""
    addresses = (node.status.addresses if node.status else None) or ()
    return NodeRecord(node.metadata.uid, intern(node.metadata.name), _addresses([one.address for one in addresses]))


def namespace_record(namespace: Object, _: str) -> NamespaceRecord:
    """Keep of a namespace its labels: they are part of its pods' identity."""
    meta = namespace.metadata
    return NamespaceRecord(meta.uid, intern(meta.name), _labels(meta.labels))


def owned_record(owned: Object, _: str) -> OwnedRecord:
    """Keep of a ReplicaSet or Job who controls it."""
    return OwnedRecord(owned.metadata.uid, _owner(owned.metadata))


def api_server_record(piece: EndpointSlice, _: str) -> ApiServerRecord:
    """Keep the addresses of an EndpointSlice if it is one of default/kubernetes, whatever the server was
    asked for.
    """
    meta = piece.metadata
    ours = meta.namespace == "default" and (meta.labels or {}).get(API_SERVICE_LABEL) == "kubernetes"
    texts = [text for endpoint in piece.endpoints or () for text in endpoint.addresses or ()] if ours else []
    return ApiServerRecord(meta.uid, _addresses(list(texts)))


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch. record is set for ADDED, MODIFIED, DELETED; status for ERROR; version for all but
    ERROR.
    """

    type: str
    version: str = ""
    uid: str = ""
    record: Record | None = None
    status: Status | None = None


class Codec:
    """Decodes lists and watch lines of one kind. Raises msgspec.DecodeError on what is not such JSON."""

    def __init__(self, kind: type[Any], record: Callable[[Any, str], Record], node_name: str) -> None:
        fields: list[tuple[str, Any, Any]] = [
            ("metadata", ListMetadata, msgspec.NODEFAULT),
            ("items", GenericAlias(list, (kind,)) | None, None),
        ]
        page = msgspec.defstruct("Page", fields, bases=(Wire,))
        self._page: msgspec.json.Decoder[Any] = msgspec.json.Decoder(page)
        self._object: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
        self._record = record
        self._node_name = node_name

    def page(self, data: bytes) -> tuple[ListMetadata, tuple[Record, ...]]:
        """Decode one page of a list."""
        page = self._page.decode(data)
        return page.metadata, tuple(self._record(item, self._node_name) for item in page.items or ())

    def event(self, line: bytes) -> Event:
        """Decode one line of a watch; unknown types of event are given without an object."""
        event = _EVENT.decode(line)
        if event.type == "ERROR":
            return Event("ERROR", status=_STATUS.decode(event.object))
        if event.type not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
            return Event(event.type)
        item = self._object.decode(event.object)
        record = None if event.type == "BOOKMARK" else self._record(item, self._node_name)
        return Event(event.type, item.metadata.resource_version, item.metadata.uid, record)


_EVENT: Final = msgspec.json.Decoder(WatchLine)
_STATUS: Final = msgspec.json.Decoder(Status)


def decode_status(data: bytes) -> Status:
    """Read an error body; what is not a Status (a proxy's page) gives an empty one."""
    try:
        return _STATUS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status()


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind to list and watch. metadata_only: ask the server for PartialObjectMetadata."""

    name: str
    path: str
    kind: type[Any]
    record: Callable[[Any, str], Record]
    query: tuple[tuple[str, str], ...] = ()
    metadata_only: bool = False

    def codec(self, node_name: str) -> Codec:
        """Make the decoder of this resource's lists and watches."""
        return Codec(self.kind, self.record, node_name)


# Only the slices of default/kubernetes: those of all Services would be the cluster's largest watch, for
# nothing.
_API_SLICES: Final = (("labelSelector", f"{API_SERVICE_LABEL}=kubernetes"),)
RESOURCES: Final = (
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
    Resource("replicasets", "/apis/apps/v1/replicasets", Object, owned_record, metadata_only=True),
    Resource("jobs", "/apis/batch/v1/jobs", Object, owned_record, metadata_only=True),
    Resource("pods", "/api/v1/pods", Pod, pod_record),
)
