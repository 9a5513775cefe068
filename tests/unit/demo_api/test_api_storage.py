"""Versions, conflicts, history and deletion of the store."""

from __future__ import annotations

from typing import Any

import pytest
from api_objects import pod, service, workload

from flows.demo.api.bootstrap import bootstrap
from flows.demo.api.errors import StatusError
from flows.demo.api.storage import Storage

Json = dict[str, Any]


@pytest.fixture
def store() -> Storage:
    made = Storage()
    bootstrap(made)
    return made


def test_versions_are_global_and_grow(store: Storage) -> None:
    first = store.create("pods", pod("a"))["metadata"]["resourceVersion"]
    second = store.create("services", service())["metadata"]["resourceVersion"]
    assert int(second) == int(first) + 1 == store.version


def test_what_callers_gave_is_copied(store: Storage) -> None:
    given = pod()
    store.create("pods", given)
    given["spec"]["containers"][0]["image"] = "changed"
    stored = store.get("pods", "default", "p")
    assert stored is not None
    assert stored["spec"]["containers"][0]["image"] == "nginx:1"


def test_stale_version_is_a_conflict(store: Storage) -> None:
    old = store.create("pods", pod())
    store.update("pods", {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}})
    with pytest.raises(StatusError, match="the object has been modified") as caught:
        store.update("pods", {**old, "metadata": {**old["metadata"], "labels": {"a": "c"}}})
    assert caught.value.code == 409


def test_update_without_a_change_makes_no_version(store: Storage) -> None:
    old = store.create("pods", pod())
    assert store.update("pods", old) is old


def test_update_keeps_the_status_and_update_status_the_rest(store: Storage) -> None:
    old = store.create("deployments", workload())
    store.update_status("deployments", {"metadata": old["metadata"], "status": {"replicas": 3}, "spec": {}})
    fresh = store.get("deployments", "default", "web")
    assert fresh is not None
    assert fresh["spec"] == old["spec"]
    changed = store.update("deployments", {**fresh, "status": {}, "spec": {**fresh["spec"], "replicas": 9}})
    assert (changed["status"], changed["spec"]["replicas"]) == ({"replicas": 3}, 9)


def test_generation_counts_changes_of_the_desired_state_only(store: Storage) -> None:
    old = store.create("deployments", workload())
    labelled = store.update("deployments", {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}})
    scaled = store.update("deployments", {**labelled, "spec": {**labelled["spec"], "replicas": 2}})
    assert [obj["metadata"]["generation"] for obj in (old, labelled, scaled)] == [1, 1, 2]


def test_subscribers_see_all_changes_in_order_even_when_one_writes(store: Storage) -> None:
    seen: list[tuple[str, str]] = []

    def writer(resource: str, type_: str, obj: Json) -> None:
        if resource == "pods" and type_ == "ADDED":
            store.delete("pods", "default", obj["metadata"]["name"])

    store.subscribe(writer)
    end = store.subscribe(lambda resource, type_, obj: seen.append((type_, obj["metadata"]["name"])))
    store.create("pods", pod("a"))
    end()
    store.create("pods", pod("b"))
    assert seen == [("ADDED", "a"), ("DELETED", "a")]


def test_the_past_is_rebuilt_from_history(store: Storage) -> None:
    kept = store.create("pods", pod("a"))
    store.create("pods", pod("b"))
    version = store.version
    store.update("pods", {**kept, "metadata": {**kept["metadata"], "labels": {"x": "y"}}})
    store.delete("pods", "default", "b")
    store.create("pods", pod("c"))
    assert [key[1] for key, _ in store.items("pods", version)] == ["a", "b"]
    assert store.items("pods", version)[0][1] == kept
    assert [key[1] for key, _ in store.items("pods")] == ["a", "c"]


def test_a_full_ring_forgets_the_oldest() -> None:
    store = Storage(history_capacity=4)
    bootstrap(store)
    assert store.history.compacted == store.version - 4


def test_pod_on_a_node_is_deleted_gracefully_and_removed_by_its_kubelet(store: Storage) -> None:
    store.create("pods", {**pod(), "spec": {**pod()["spec"], "nodeName": "node-0"}})
    obj, gone = store.request_deletion("pods", "default", "p")
    assert not gone
    assert obj["metadata"]["deletionGracePeriodSeconds"] == 30
    assert obj["metadata"]["generation"] == 2
    again, _ = store.request_deletion("pods", "default", "p")
    assert again is obj
    store.delete("pods", "default", "p")
    assert store.get("pods", "default", "p") is None


@pytest.mark.parametrize("grace", [0, None])
def test_pod_goes_at_once_without_grace_or_without_a_node(store: Storage, grace: int | None) -> None:
    spec = {**pod()["spec"], **({"nodeName": "n"} if grace == 0 else {})}
    store.create("pods", {**pod(), "spec": spec})
    _, gone = store.request_deletion("pods", "default", "p", {"gracePeriodSeconds": grace})
    assert gone


def test_finalizers_hold_an_object_until_the_last_is_taken_off(store: Storage) -> None:
    store.create("configmaps", {"metadata": {"name": "c", "finalizers": ["demo/one"]}})
    held, gone = store.request_deletion("configmaps", "default", "c")
    assert not gone
    store.update("configmaps", {**held, "metadata": {**held["metadata"], "finalizers": []}})
    assert store.get("configmaps", "default", "c") is None


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
def test_failed_precondition_is_a_conflict(store: Storage, field: str) -> None:
    store.create("pods", pod())
    with pytest.raises(StatusError, match="Precondition failed") as caught:
        store.request_deletion("pods", "default", "p", {"preconditions": {field: "other"}})
    assert caught.value.code == 409


def test_nothing_is_created_in_a_namespace_that_is_absent_or_goes_away(store: Storage) -> None:
    with pytest.raises(StatusError, match='namespaces "nowhere" not found'):
        store.create("pods", pod(namespace="nowhere"))
    store.create("namespaces", {"metadata": {"name": "going"}})
    store.request_deletion("namespaces", None, "going")
    with pytest.raises(StatusError, match="because it is being terminated") as caught:
        store.create("pods", pod(namespace="going"))
    assert caught.value.code == 403


def test_generated_names_end_in_five_letters_without_vowels(store: Storage) -> None:
    made = store.create("pods", {"metadata": {"generateName": "svc-a-"}, "spec": pod()["spec"]})
    name = made["metadata"]["name"]
    assert len(name) == len("svc-a-") + 5
    assert set(name[-5:]) <= set("bcdfghjklmnpqrstvwxz2456789")


# Services

DUAL = {"ipFamilyPolicy": "PreferDualStack"}


@pytest.mark.parametrize(
    ("spec", "families", "addresses"),
    [
        ({}, ["IPv4"], 1),
        (DUAL, ["IPv4", "IPv6"], 2),
        ({"ipFamilies": ["IPv6"]}, ["IPv6"], 1),
        ({**DUAL, "ipFamilies": ["IPv6"]}, ["IPv6", "IPv4"], 2),
        ({"type": "ExternalName", "externalName": "example.org"}, None, 0),
    ],
)
def test_services_get_addresses_of_their_families(store: Storage, spec: Json, families: Any, addresses: int) -> None:
    made = store.create("services", service(**spec))["spec"]
    assert made.get("ipFamilies") == families
    assert len(made.get("clusterIPs", [])) == addresses
    assert made.get("clusterIP") == (made["clusterIPs"][0] if addresses else None)
    for family, address in zip(families or [], made.get("clusterIPs", []), strict=True):
        assert (":" in address) == (family == "IPv6")


def test_headless_service_has_no_address(store: Storage) -> None:
    made = store.create("services", service(clusterIP="None"))["spec"]
    assert (made["clusterIP"], made["clusterIPs"]) == ("None", ["None"])


def test_addresses_are_unique_and_come_back(store: Storage) -> None:
    first = store.create("services", service("a"))["spec"]["clusterIP"]
    with pytest.raises(StatusError, match="provided IP is already allocated"):
        store.create("services", service("b", clusterIP=first))
    store.delete("services", "default", "a")
    assert store.create("services", service("b", clusterIP=first))["spec"]["clusterIP"] == first


def test_upgrade_to_dual_stack_keeps_the_first_address(store: Storage) -> None:
    old = store.create("services", service())
    fresh = store.update("services", {**old, "spec": {**old["spec"], **DUAL}})
    assert fresh["spec"]["clusterIPs"][0] == old["spec"]["clusterIP"]
    assert len(fresh["spec"]["clusterIPs"]) == 2


def test_node_ports_are_given_kept_and_freed(store: Storage) -> None:
    made = store.create("services", service(type="NodePort"))
    number = made["spec"]["ports"][0]["nodePort"]
    assert number in range(30000, 32768)
    ports = [{"port": 80, "targetPort": 81}]
    again = store.update("services", {**made, "spec": {**made["spec"], "ports": ports}})
    assert again["spec"]["ports"][0]["nodePort"] == number
    taken = [{"port": 80, "nodePort": number}]
    with pytest.raises(StatusError, match="provided port is already allocated"):
        store.create("services", service("other", type="NodePort", ports=taken))
    store.delete("services", "default", "web")
    assert store.create("services", service("other", type="NodePort", ports=taken))
