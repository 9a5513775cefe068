"""Who is who: owner chains, service selection, addresses, labels, identities."""

from __future__ import annotations

import pytest
from enrich_samples import CONTAINER, packed, pod, uid

from flows.agent.enrich.directory import Directory
from flows.agent.enrich.entities import CgroupEntity, Entity, NodeEntity, PodEntity, ServiceEntity
from flows.agent.enrich.kube_records import (
    API_URL,
    ApiServerRecord,
    NamespaceRecord,
    NodeRecord,
    OwnedRecord,
    Owner,
    PodRecord,
    Record,
    ServiceRecord,
)
from flows.flow.endpoint import Container, Endpoint, Evidence, Reserved, ServiceName, Workload
from flows.kube.resource import Changes, Relisted

RESOURCE = {
    PodRecord: "pods", ServiceRecord: "services", NodeRecord: "nodes", NamespaceRecord: "namespaces",
    OwnedRecord: "replicasets", ApiServerRecord: "endpointslices",
}  # fmt: skip


def directory(*records: Record) -> Directory:
    made = Directory("node-1", "blue")
    for record in records:
        made.apply(Changes(RESOURCE[type(record)], (record,)))
    return made


def service(name: str, *addresses: str, namespace: str = "shop", **selector: str) -> ServiceRecord:
    packed_addresses = tuple(packed(address) for address in addresses)
    return ServiceRecord(f"svc-{name}", namespace, name, tuple(sorted(selector.items())), packed_addresses, 0)


def described(known: Directory, address: str) -> Endpoint:
    owner = known.owner(packed(address))
    assert owner is not None
    return known.describe(owner)


WEB_SET = Owner("ReplicaSet", "web-5d4", "rs")


@pytest.mark.parametrize(
    ("owner", "labels", "link", "expected"),
    [
        (WEB_SET, (), Owner("Deployment", "web", "d"), Workload("Deployment", "web")),
        (WEB_SET, (), None, Workload("ReplicaSet", "web-5d4")),
        (Owner("Job", "dump-2890", "rs"), (), Owner("CronJob", "dump", "c"), Workload("CronJob", "dump")),
        (Owner("StatefulSet", "db", "x"), (), None, Workload("StatefulSet", "db")),
        (Owner("DaemonSet", "cni", "x"), (), None, Workload("DaemonSet", "cni")),
        (Owner("Node", "node-1", "n"), (), None, Workload("Pod", "web-1")),
        (None, (), None, Workload("Pod", "web-1")),
    ],
)
def test_owner_chain(owner: Owner | None, labels: object, link: Owner | None, expected: Workload) -> None:
    known = directory(OwnedRecord("rs", link), pod(1, owner=owner))
    assert known.describe(PodEntity(uid(1))).workload == expected


def test_deployment_is_told_by_the_template_hash_until_its_replicaset_is_known() -> None:
    known = directory(pod(1, owner=WEB_SET, labels=(("pod-template-hash", "5d4"),)))
    assert known.describe(PodEntity(uid(1))).workload == Workload("Deployment", "web")
    known.apply(Changes("replicasets", (OwnedRecord("rs", Owner("Rollout", "web", "r")),)))
    assert known.describe(PodEntity(uid(1))).workload == Workload("Rollout", "web")


def test_services_select_by_all_their_labels_in_their_namespace() -> None:
    known = directory(
        pod(1, labels=(("app", "web"), ("pod-template-hash", "1"), ("tier", "front"))),
        service("b", app="web", tier="front"),
        service("a", app="web"),
        service("hash", **{"pod-template-hash": "1"}),
        service("back", app="web", tier="back"),
        service("headless-without-selector"),
        service("elsewhere", namespace="other", app="web"),
    )
    names = [one.name for one in known.describe(PodEntity(uid(1))).services]
    assert names == ["a", "b", "hash"]


def test_pod_endpoint_has_hubbles_labels_sorted_without_per_replica_ones() -> None:
    known = directory(
        pod(
            1,
            "10.0.0.1",
            labels=(("app", "web"), ("app.kubernetes.io/name", "w"), ("pod-template-hash", "5d4")),
        ),
        NamespaceRecord("n", "shop", (("team", "x"),)),
    )
    endpoint = described(known, "10.0.0.1")
    assert endpoint.labels == (
        "k8s:app.kubernetes.io/name=w",
        "k8s:app=web",
        "k8s:io.cilium.k8s.namespace.labels.team=x",
        "k8s:io.cilium.k8s.policy.cluster=blue",
        "k8s:io.cilium.k8s.policy.serviceaccount=default",
        "k8s:io.kubernetes.pod.namespace=shop",
    )
    assert (endpoint.pod, endpoint.namespace, endpoint.node, endpoint.cluster) == (
        "web-1",
        "shop",
        "node-1",
        "blue",
    )
    assert endpoint.evidence is Evidence.ADDRESS


def test_identity_is_equal_for_equal_labels_and_above_ciliums() -> None:
    known = directory(pod(1), pod(2), pod(3, namespace="other"), pod(4, labels=(("app", "db"),)))
    one, two, three, four = (known.describe(PodEntity(uid(i))).identity for i in range(1, 5))
    assert one == two
    assert len({one, three, four}) == 3
    assert all(1 << 30 <= number < 1 << 31 for number in (one, three, four))


def test_identity_does_not_depend_on_the_process() -> None:
    assert directory(pod(1)).describe(PodEntity(uid(1))).identity == 1207765319


def test_service_addresses_name_the_service() -> None:
    endpoint = described(directory(service("web", "10.96.0.9", "203.0.113.5", app="web")), "203.0.113.5")
    assert endpoint.service == ServiceName("shop", "web")
    assert (endpoint.namespace, endpoint.identity, endpoint.pod) == ("shop", 0, "")


def test_service_that_changes_its_address_leaves_the_old_one() -> None:
    known = directory(service("web", "10.96.0.9"))
    effect = known.apply(Changes("services", (service("web", "10.96.0.10"),)))
    assert known.owner(packed("10.96.0.9")) is None
    assert known.owner(packed("10.96.0.10")) == ServiceEntity("shop", "web")
    assert set(effect.addresses) == {packed("10.96.0.9"), packed("10.96.0.10")}


NODES = (
    NodeRecord("n1", "node-1", (packed("192.168.0.1"), packed("fd00::1"))),
    NodeRecord("n2", "node-2", (packed("192.168.0.2"),)),
)


@pytest.mark.parametrize(
    ("address", "identity", "labels", "node"),
    [
        ("192.168.0.1", Reserved.HOST, ("reserved:host",), "node-1"),
        ("fd00::1", Reserved.HOST, ("reserved:host",), "node-1"),
        ("10.244.1.1", Reserved.HOST, ("reserved:host",), "node-1"),
        ("192.168.0.2", Reserved.REMOTE_NODE, ("reserved:remote-node",), "node-2"),
    ],
)
def test_nodes(address: str, identity: int, labels: tuple[str, ...], node: str) -> None:
    known = directory(*NODES)
    known.set_host_addresses([packed("10.244.1.1")])
    endpoint = described(known, address)
    assert (endpoint.identity, endpoint.labels, endpoint.node) == (identity, labels, node)


def test_api_servers_addresses_by_themselves_on_a_node_and_as_a_service() -> None:
    api = ApiServerRecord("slice", (packed("172.18.0.9"), packed("192.168.0.1"), packed("192.168.0.2")))
    known = directory(*NODES, api, service("kubernetes", "10.96.0.1", namespace="default"))
    endpoints = [described(known, address) for address in ("172.18.0.9", "192.168.0.2", "192.168.0.1", "10.96.0.1")]
    assert [one.identity for one in endpoints] == [7, 7, 1, 7]
    assert endpoints[1].labels == ("reserved:kube-apiserver", "reserved:remote-node")
    assert endpoints[2].labels == ("reserved:host", "reserved:kube-apiserver")
    assert endpoints[3].service == ServiceName("default", "kubernetes")


def test_api_server_of_the_url_is_kept_beside_those_of_the_slices() -> None:
    known = directory(service("kubernetes", "10.96.0.1", namespace="default"))
    known.apply(Changes(API_URL, (ApiServerRecord(API_URL, (packed("203.0.113.9"), packed("10.96.0.1"))),)))
    known.relisted(Relisted("endpointslices", frozenset()))
    assert described(known, "203.0.113.9").identity == Reserved.KUBE_APISERVER
    assert described(known, "10.96.0.1").service == ServiceName("default", "kubernetes")


def test_an_api_server_that_left_is_no_api_server() -> None:
    known = directory(ApiServerRecord("slice", (packed("172.18.0.9"),)))
    effect = known.apply(Changes("endpointslices", deleted=("slice",)))
    assert (known.owner(packed("172.18.0.9")), set(effect.addresses)) == (None, {packed("172.18.0.9")})


def test_a_nodes_address_is_never_a_pods() -> None:
    known = directory(pod(1, "192.168.0.2"), *NODES)
    assert known.owner(packed("192.168.0.2")) == NodeEntity("node-2")


def test_the_pod_that_claims_an_address_last_has_it_whenever_the_other_leaves() -> None:
    known = directory(pod(1, "10.0.0.1"), pod(2, "10.0.0.1"))
    known.apply(Changes("pods", deleted=(uid(1),)))
    assert known.owner(packed("10.0.0.1")) == PodEntity(uid(2))


def test_relisting_removes_what_vanished() -> None:
    known = directory(pod(1, "10.0.0.1"), pod(2, "10.0.0.2"))
    effect = known.relisted(Relisted("pods", frozenset({uid(2)})))
    assert (set(known.pods), effect.pods) == ({uid(2)}, {uid(1)})
    assert known.owner(packed("10.0.0.1")) is None


def test_a_deleted_pod_keeps_its_name_for_stored_flows_until_forgotten() -> None:
    known = directory(pod(1, "10.0.0.1"))
    known.apply(Changes("pods", deleted=(uid(1),)))
    assert known.describe(PodEntity(uid(1))).pod == "web-1"
    known.forget(uid(1))
    assert known.describe(PodEntity(uid(1))) == Endpoint(evidence=Evidence.ADDRESS)


def test_unchanged_objects_have_no_effect() -> None:
    known = directory(pod(1, "10.0.0.1"))
    effect = known.apply(Changes("pods", (pod(1, "10.0.0.1"),)))
    assert (effect.addresses, effect.pods, effect.everything) == ({}, set(), False)


def cgroup(path: str, evidence: Evidence = Evidence.CGROUP) -> Entity:
    return CgroupEntity(path, evidence)


def test_cgroup_of_a_pod_gives_pod_and_container() -> None:
    known = directory(pod(1, containers=((CONTAINER, "nginx"),)))
    path = f"/kubepods/burstable/pod{uid(1)}/{CONTAINER}"
    endpoint = known.describe(cgroup(path))
    assert (endpoint.pod, endpoint.cgroup, endpoint.evidence) == ("web-1", path, Evidence.CGROUP)
    assert endpoint.container == Container(CONTAINER, "", "nginx")


def test_static_pod_is_found_by_its_configuration_hash() -> None:
    known = directory(pod(1, config_hash="a" * 32, name="etcd-node-1", owner=Owner("Node", "node-1", "n")))
    endpoint = known.describe(cgroup(f"/kubepods/burstable/pod{'a' * 32}/{CONTAINER}"))
    assert (endpoint.pod, endpoint.workload) == ("etcd-node-1", Workload("Pod", "etcd-node-1"))


def test_cgroups_without_the_api() -> None:
    known = directory()
    unnamed = known.describe(cgroup(f"/kubepods/pod{uid(1)}/{CONTAINER}"))
    unit = known.describe(cgroup("/system.slice/nginx.service"))
    container = known.describe(cgroup(f"/docker/{CONTAINER}"))
    assert (unnamed.identity, unnamed.container, unnamed.node) == (0, Container(CONTAINER), "node-1")
    assert (unit.identity, unit.systemd_unit, unit.labels) == (
        Reserved.HOST,
        "nginx.service",
        ("reserved:host",),
    )
    assert (container.identity, container.container) == (0, Container(CONTAINER, "docker"))


def test_nodes_are_known_by_name_and_each_change_is_another_mapping() -> None:
    known = directory(*NODES)
    before = known.nodes
    known.apply(Changes("nodes", (NODES[0],)))
    assert known.nodes is before
    labelled = NodeRecord("n1", "node-1", NODES[0].addresses, (("zone", "a"),))
    known.apply(Changes("nodes", (labelled,), ("n2",)))
    assert (set(before), known.nodes) == ({"node-1", "node-2"}, {"node-1": labelled})


def test_own_pods_and_those_elsewhere_are_listed_apart() -> None:
    known = directory(pod(1, "10.0.0.1", node="node-2"))
    known.apply(Changes("own pods", (pod(2, "10.0.0.2"),)))
    known.relisted(Relisted("pods", frozenset()))
    assert list(known.pods) == [uid(2)]
    assert (known.owner(packed("10.0.0.1")), known.owner(packed("10.0.0.2"))) == (None, PodEntity(uid(2)))


@pytest.mark.parametrize(
    ("one", "two", "has_it"),
    [
        pytest.param(100, 200, 2, id="both ran: the later one"),
        pytest.param(200, 100, 1, id="both ran, listed in the other order"),
        pytest.param(0, 100, 1, id="who has not run yet got it last"),
        pytest.param(100, 0, 2, id="who has not run yet, listed in the other order"),
        pytest.param(100, 100, 2, id="within one second: who is told last"),
    ],
)
def test_of_two_pods_with_one_address_the_one_that_started_later_has_it(one: int, two: int, has_it: int) -> None:
    known = directory(pod(1, "10.0.0.1", started_ns=one), pod(2, "10.0.0.1", started_ns=two))
    assert known.owner(packed("10.0.0.1")) == PodEntity(uid(has_it))
    known.apply(Changes("pods", deleted=(uid(3 - has_it),)))
    assert known.owner(packed("10.0.0.1")) == PodEntity(uid(has_it))


@pytest.mark.parametrize(("address", "node"), [("10.0.0.5", "node-2"), ("192.168.0.2", "node-2"), ("8.8.8.8", None)])
def test_ends_elsewhere_say_on_which_node_they_are(address: str, node: str | None) -> None:
    known = directory(pod(5, "10.0.0.5", node="node-2"), *NODES)
    owner = known.owner(packed(address))
    assert (known.describe(owner).node if owner else None) == node
