"""Directory: who is who. Kubernetes objects in, endpoints out; pure, in memory, and told the time by its
caller.

A pod that changes (labels, owner) is the same endpoint with newer names: its number stays, and stored flows
show the newest names. Another pod is another endpoint, whatever its name and address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flows.agent.enrich import cgroups, endpoints
from flows.agent.enrich.entities import (
    API_SERVER,
    CgroupEntity,
    Effect,
    Entity,
    NodeEntity,
    PodEntity,
    RangeEntity,
    ServiceEntity,
)
from flows.agent.enrich.identity import RESERVED_LABELS, pod_identity, pod_labels
from flows.agent.enrich.kube_records import (
    API_URL,
    ApiServerRecord,
    NamespaceRecord,
    NodeRecord,
    OwnedRecord,
    PodRecord,
    Record,
    ServiceRecord,
)
from flows.flow.endpoint import Container, Endpoint, Evidence, Reserved, ServiceName
from flows.kube.resource import Changes, Relisted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Directory:
    """Kubernetes objects by uid, who owns which address now, and the endpoint of each entity."""

    def __init__(self, node_name: str, cluster_name: str) -> None:
        self.node_name = node_name
        self.cluster_name = cluster_name
        self.pods: dict[str, PodRecord] = {}
        self._static: dict[str, str] = {}
        self.former: dict[str, PodRecord] = {}
        self._records: dict[str, dict[str, Any]] = {}
        self._services: dict[str, dict[str, ServiceRecord]] = {}
        self._namespaces: dict[str, NamespaceRecord] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self._host: set[bytes] = set()
        self._node_at: dict[bytes, str] = {}
        self._api: set[bytes] = set()
        self._service_at: dict[bytes, ServiceEntity] = {}
        self._pod_at: dict[bytes, str] = {}

    def apply(self, changes: Changes[Record]) -> Effect:
        """Take new, changed and deleted objects of one resource; unchanged ones (status only) have no
        effect.
        """
        effect = Effect()
        known = self._records.setdefault(changes.resource, {})
        for record in changes.records:
            old = known.get(record.uid)
            if old != record:
                known[record.uid] = record
                _REPLACE[type(record)](self, old, record, effect)
        for uid in changes.deleted:
            gone = known.pop(uid, None)
            if gone is not None:
                _REPLACE[type(gone)](self, gone, None, effect)
        return effect

    def relisted(self, relisted: Relisted) -> Effect:
        """Drop what a complete list did not name."""
        known = self._records.get(relisted.resource, {})
        return self.apply(Changes(relisted.resource, deleted=tuple(known.keys() - relisted.uids)))

    def set_host_addresses(self, addresses: Iterable[bytes]) -> Effect:
        """Set this node's own addresses."""
        new = set(addresses)
        effect = Effect(dict.fromkeys(new ^ self._host, 0))
        self._host = new
        return effect

    def owner(self, address: bytes) -> Entity | None:
        """Tell who has an address now. A node's address is never a pod's, and an API server on a node is that
        node.
        """
        api_server = address in self._api
        name = self._node_at.get(address, "")
        if address in self._host or (name and name == self.node_name):
            return NodeEntity(self.node_name, host=True, api_server=api_server)
        if name:
            return NodeEntity(name, api_server=api_server)
        if address in self._service_at:
            return self._service_at[address]
        if api_server:
            return API_SERVER
        uid = self._pod_at.get(address)
        return PodEntity(uid) if uid else None

    def describe(self, entity: Entity) -> Endpoint:
        """Make the endpoint of an entity from what is known now."""
        if isinstance(entity, PodEntity):
            return self._pod_endpoint(self._pod(entity.uid), evidence=Evidence.ADDRESS)
        if isinstance(entity, CgroupEntity):
            return self._cgroup_endpoint(entity)
        if isinstance(entity, ServiceEntity):
            return endpoints.of_service(entity, self.cluster_name)
        if isinstance(entity, NodeEntity):
            return endpoints.of_node(entity, self.cluster_name)
        node = self.node_name if entity.reserved is Reserved.HOST else ""
        return Endpoint(
            identity=entity.reserved,
            labels=(RESERVED_LABELS[entity.reserved],),
            node=node,
            cluster=self.cluster_name if node else "",
            evidence=entity.evidence,
        )

    def pod_of_cgroup(self, path: str) -> PodRecord | None:
        """Find the pod whose cgroup a path is in, if the API has named it."""
        return self._pod(cgroups.parse(path).pod_uid)

    def exists(self, entity: Entity) -> bool:
        """Tell whether an entity is still there (cgroups: as far as the API tells, that is never)."""
        if isinstance(entity, PodEntity):
            return entity.uid in self.pods
        if isinstance(entity, ServiceEntity):
            return entity.name in self._services.get(entity.namespace, {})
        if isinstance(entity, NodeEntity):
            return entity.host or entity.name in self.nodes
        return isinstance(entity, RangeEntity)

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a deleted pod for the sake of flows that still name it."""
        former = self.former.pop(uid, None)
        if former is not None and self._static.get(former.config_hash) == uid:
            del self._static[former.config_hash]

    def _pod(self, uid: str) -> PodRecord | None:
        """Find a pod by its uid or, static pods, by the configuration hash that names its cgroup."""
        uid = self._static.get(uid, uid)
        return self.pods.get(uid) or self.former.get(uid)

    def _pod_endpoint(
        self, pod: PodRecord | None, evidence: Evidence, container: Container | None = None, cgroup: str = ""
    ) -> Endpoint:
        if pod is None:
            here = bool(cgroup)
            return Endpoint(
                node=self.node_name if here else "",
                cluster=self.cluster_name if here else "",
                container=container,
                cgroup=cgroup,
                evidence=evidence,
            )
        namespace = self._namespaces.get(pod.namespace)
        labels = pod_labels(pod, namespace.labels if namespace else (), self.cluster_name)
        return Endpoint(
            identity=pod_identity(labels),
            namespace=pod.namespace,
            pod=pod.name,
            labels=labels,
            workload=endpoints.workload(pod, self._owned(pod.owner.uid) if pod.owner else None),
            services=self._selecting(pod),
            node=pod.node,
            cluster=self.cluster_name,
            container=container,
            cgroup=cgroup,
            evidence=evidence,
        )

    def _cgroup_endpoint(self, entity: CgroupEntity) -> Endpoint:
        name = cgroups.parse(entity.path)
        container = Container(name.container_id, name.runtime) if name.container_id else None
        if name.pod_uid:
            pod = self._pod(name.pod_uid)
            names = dict(pod.containers) if pod else {}
            if container and container.id in names:
                container = Container(container.id, container.runtime, names[container.id])
            return self._pod_endpoint(pod, entity.evidence, container, entity.path)
        host = container is None
        return Endpoint(
            identity=Reserved.HOST if host else Reserved.UNKNOWN,
            labels=(RESERVED_LABELS[Reserved.HOST],) if host else (),
            node=self.node_name,
            cluster=self.cluster_name,
            container=container,
            systemd_unit=name.systemd_unit,
            cgroup=entity.path,
            evidence=entity.evidence,
        )

    def _owned(self, uid: str) -> OwnedRecord | None:
        return self._records.get("replicasets", {}).get(uid) or self._records.get("jobs", {}).get(uid)

    def _selecting(self, pod: PodRecord) -> tuple[ServiceName, ...]:
        labels = set(pod.labels)
        services = self._services.get(pod.namespace, {})
        return tuple(
            ServiceName(one.namespace, one.name)
            for _, one in sorted(services.items())
            if one.selector and labels.issuperset(one.selector)
        )

    def _replace_pod(self, old: PodRecord | None, new: PodRecord | None, effect: Effect) -> None:
        uid = (new or old or _NOBODY).uid
        before, after = (set(one.addresses) if one else set() for one in (old, new))
        for address in before - after:
            if self._pod_at.get(address) == uid:
                del self._pod_at[address]
                effect.addresses[address] = 0
        for address in after - before if new else ():
            if new and not self._outlived(new, self._pod_at.get(address, "")):
                self._pod_at[address] = uid
                effect.addresses[address] = new.started_ns
        if new is not None:
            self.pods[uid] = new
            self.former.pop(uid, None)
            if new.config_hash:
                self._static[new.config_hash] = uid
                effect.pods.add(new.config_hash)
        elif old is not None:
            self.pods.pop(uid, None)
            self.former[uid] = old
        effect.pods.add(uid)

    def _outlived(self, pod: PodRecord, holder: str) -> bool:
        """Tell whether who has the address got it after this pod, which is then listed with what it once had."""
        other = self.pods.get(holder)
        if other is None or other.uid == pod.uid or not pod.started_ns:
            return False
        return not other.started_ns or other.started_ns > pod.started_ns

    def _replace_service(self, old: ServiceRecord | None, new: ServiceRecord | None, effect: Effect) -> None:
        for address in old.addresses if old else ():
            self._service_at.pop(address, None)
            effect.addresses[address] = 0
        if old is not None:
            self._services.get(old.namespace, {}).pop(old.name, None)
        if new is not None:
            # Replaced, never changed in place: describe() may read it from another thread.
            self._services[new.namespace] = {**self._services.get(new.namespace, {}), new.name: new}
            entity = ServiceEntity(new.namespace, new.name, (new.namespace, new.name) == ("default", "kubernetes"))
            for address in new.addresses:
                self._service_at[address] = entity
                effect.addresses[address] = new.created_ns
        effect.everything = True

    def _replace_node(self, old: NodeRecord | None, new: NodeRecord | None, effect: Effect) -> None:
        for address in old.addresses if old else ():
            if self._node_at.get(address) == (old.name if old else ""):
                del self._node_at[address]
            effect.addresses[address] = 0
        for address in new.addresses if new else ():
            self._node_at[address] = new.name if new else ""
            effect.addresses[address] = 0
        others = {name: node for name, node in self.nodes.items() if node != old}
        # Replaced, never changed in place: other threads read it.
        self.nodes = {**others, new.name: new} if new else others

    def _replace_namespace(self, old: NamespaceRecord | None, new: NamespaceRecord | None, effect: Effect) -> None:
        if old is not None:
            self._namespaces.pop(old.name, None)
        if new is not None:
            self._namespaces[new.name] = new
        effect.everything = True

    def _replace_owned(self, _old: OwnedRecord | None, _new: OwnedRecord | None, effect: Effect) -> None:
        effect.everything = True  # apply() keeps the record, and _owned() reads it from there

    def _replace_api_server(self, _old: ApiServerRecord | None, _new: ApiServerRecord | None, effect: Effect) -> None:
        slices = [*self._records.get("endpointslices", {}).values(), *self._records.get(API_URL, {}).values()]
        now = {address for one in slices for address in one.addresses}
        effect.addresses.update(dict.fromkeys(self._api ^ now, 0))
        self._api = now


_NOBODY: Final = NodeRecord("", "", ())
_REPLACE: Final[dict[type, Callable[..., None]]] = {
    PodRecord: Directory._replace_pod,
    ServiceRecord: Directory._replace_service,
    NodeRecord: Directory._replace_node,
    NamespaceRecord: Directory._replace_namespace,
    OwnedRecord: Directory._replace_owned,
    ApiServerRecord: Directory._replace_api_server,
}
