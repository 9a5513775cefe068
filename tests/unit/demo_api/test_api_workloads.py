"""Workloads, step by step: which pods controllers make of them, in which order, and on which nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from api_cluster import add_node, set_running
from api_objects import job, pod, service, workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from api_stepwise import Demo

    from flows.demo.api.storage import Storage

Json = dict[str, Any]


def test_deployment_makes_a_replica_set_and_pods_with_the_usual_names(demo: Demo) -> None:
    demo.storage.create("deployments", workload(replicas=3))
    demo.until_settled()
    (replica_set,) = demo.storage.list("replicasets")
    digest = replica_set["spec"]["selector"]["matchLabels"]["pod-template-hash"]
    assert replica_set["metadata"]["name"] == f"web-{digest}"
    assert 6 <= len(digest) <= 10
    for item in demo.pods(app="web"):
        assert item["metadata"]["name"].startswith(f"web-{digest}-")
        assert item["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
    status = demo.get("deployments", "web")["status"]
    assert (status["replicas"], status["readyReplicas"], status["availableReplicas"]) == (3, 3, 3)
    assert {c["type"]: c["status"] for c in status["conditions"]} == {"Available": "True", "Progressing": "True"}


def change_image(demo: Demo, resource: str, image: str) -> None:
    old = demo.get(resource, "web")
    template = old["spec"]["template"]
    containers = [{**template["spec"]["containers"][0], "image": image}]
    fresh = {**template, "spec": {**template["spec"], "containers": containers}}
    demo.storage.update(resource, {**old, "spec": {**old["spec"], "template": fresh}})


def test_rolling_update_keeps_enough_pods_serving_all_the_time(demo: Demo) -> None:
    demo.storage.create("deployments", workload(replicas=4))
    demo.until_settled()
    change_image(demo, "deployments", "nginx:2")
    counts = []
    demo.storage.subscribe(lambda *_: counts.append(serving(demo)))
    demo.until_settled()
    images = {item["spec"]["containers"][0]["image"] for item in demo.pods(app="web")}
    assert images == {"nginx:2"}
    assert min(low for low, _ in counts) >= 3
    assert max(high for _, high in counts) <= 5
    notes = [item["metadata"]["annotations"] for item in demo.storage.list("replicasets")]
    assert sorted(note["deployment.kubernetes.io/revision"] for note in notes) == ["1", "2"]


def serving(demo: Demo) -> tuple[int, int]:
    """(ready, all) pods that are not on their way out."""
    active = [p for p in demo.pods(app="web") if "deletionTimestamp" not in p["metadata"]]
    ready = [p for p in active if any(c["type"] == "Ready" for c in p["status"].get("conditions", ()))]
    return len(ready), len(active)


def test_rollback_takes_the_old_replica_set_up_again(demo: Demo) -> None:
    demo.storage.create("deployments", workload(replicas=2))
    demo.until_settled()
    for image in ("nginx:2", "nginx:1"):
        change_image(demo, "deployments", image)
        demo.until_settled()
    sets = {item["spec"]["template"]["spec"]["containers"][0]["image"]: item for item in demo.storage.list("replicasets")}
    assert {image: item["spec"]["replicas"] for image, item in sets.items()} == {"nginx:1": 2, "nginx:2": 0}
    assert sets["nginx:1"]["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_recreate_ends_all_old_pods_first(demo: Demo) -> None:
    demo.storage.create("deployments", workload(replicas=2, strategy={"type": "Recreate"}))
    demo.until_settled()
    change_image(demo, "deployments", "nginx:2")
    demo.settle()
    assert ["deletionTimestamp" in item["metadata"] for item in demo.pods(app="web")] == [True, True]
    demo.until_settled()
    assert {item["spec"]["containers"][0]["image"] for item in demo.pods(app="web")} == {"nginx:2"}


def test_old_replica_sets_beyond_the_limit_go(demo: Demo) -> None:
    demo.storage.create("deployments", workload(replicas=1, revisionHistoryLimit=1))
    for number in range(4):
        demo.until_settled()
        change_image(demo, "deployments", f"nginx:{number}")
    demo.until_settled()
    assert len(demo.storage.list("replicasets")) == 2


def test_replica_set_adopts_matching_pods_and_releases_others(demo: Demo) -> None:
    demo.storage.create("pods", pod("stray", labels={"app": "web"}))
    demo.storage.create("replicasets", workload(replicas=2))
    demo.settle()
    assert len(demo.pods(app="web")) == 2
    assert demo.get("pods", "stray")["metadata"]["ownerReferences"][0]["name"] == "web"
    stray = demo.get("pods", "stray")
    demo.storage.update("pods", {**stray, "metadata": {**stray["metadata"], "labels": {}}})
    demo.settle()
    assert not demo.get("pods", "stray")["metadata"].get("ownerReferences")
    assert len(demo.pods(app="web")) == 2


def test_scaling_down_takes_pods_that_do_not_serve_first(demo: Demo) -> None:
    made = demo.storage.create("replicasets", workload(replicas=3))
    demo.settle()
    first, *rest = demo.pods(app="web")
    set_running(demo.storage, first, "10.1.0.1")
    old = demo.get("replicasets", "web")
    demo.storage.update("replicasets", {**old, "spec": {**made["spec"], "replicas": 1}})
    demo.settle()
    going = [item["metadata"]["name"] for item in demo.pods(app="web") if "deletionTimestamp" in item["metadata"]]
    assert going == [item["metadata"]["name"] for item in rest]


def test_stateful_set_goes_up_and_down_in_order(demo: Demo) -> None:
    demo.storage.create("statefulsets", workload(replicas=3, serviceName="web"))
    seen = []
    for _ in range(3):
        demo.settle()
        seen.append(sorted(item["metadata"]["name"] for item in demo.pods(app="web")))
        demo.run_pods()
    assert seen == [["web-0"], ["web-0", "web-1"], ["web-0", "web-1", "web-2"]]
    assert demo.get("pods", "web-1")["spec"] | {"hostname": "web-1", "subdomain": "web"} == demo.get("pods", "web-1")["spec"]
    old = demo.get("statefulsets", "web")
    demo.storage.update("statefulsets", {**old, "spec": {**old["spec"], "replicas": 1}})
    demo.settle()
    assert [n["metadata"]["name"] for n in demo.pods(app="web") if "deletionTimestamp" in n["metadata"]] == ["web-2"]
    demo.until_settled()
    assert [item["metadata"]["name"] for item in demo.pods(app="web")] == ["web-0"]


def test_stateful_set_replaces_the_highest_pod_first(demo: Demo) -> None:
    demo.storage.create("statefulsets", workload(replicas=2, serviceName="web"))
    demo.until_settled()
    change_image(demo, "statefulsets", "nginx:2")
    demo.settle()
    assert [n["metadata"]["name"] for n in demo.pods(app="web") if "deletionTimestamp" in n["metadata"]] == ["web-1"]
    demo.until_settled()
    assert {item["spec"]["containers"][0]["image"] for item in demo.pods(app="web")} == {"nginx:2"}


def test_daemon_set_has_one_pod_on_each_node_that_fits(demo: Demo) -> None:
    template = workload()["spec"]["template"]
    template = {**template, "spec": {**template["spec"], "nodeSelector": {"zone": "a"}}}
    demo.storage.create("daemonsets", workload(template=template))
    demo.until_settled()
    assert sorted(item["spec"]["nodeName"] for item in demo.pods(app="web")) == ["node-0", "node-2"]
    add_node(demo.storage, "node-9", zone="a")
    demo.storage.delete("nodes", None, "node-0")
    demo.until_settled()
    assert sorted(item["spec"]["nodeName"] for item in demo.pods(app="web")) == ["node-2", "node-9"]
    change_image(demo, "daemonsets", "nginx:2")
    demo.until_settled()
    assert {item["spec"]["containers"][0]["image"] for item in demo.pods(app="web")} == {"nginx:2"}
    status = demo.get("daemonsets", "web")["status"]
    assert (status["desiredNumberScheduled"], status["numberReady"], status["updatedNumberScheduled"]) == (2, 2, 2)


def test_a_settled_cluster_stays_as_it_is(demo: Demo) -> None:
    for resource in ("deployments", "statefulsets", "daemonsets"):
        demo.storage.create(resource, {**workload(resource), "metadata": {"name": resource, "namespace": "default"}})
    demo.storage.create("services", service())
    demo.until_settled()
    version = demo.storage.version
    demo.settle()
    demo.loop.tick()
    assert demo.storage.version == version


# Jobs


def test_job_runs_as_often_as_asked_and_is_complete(demo: Demo) -> None:
    demo.storage.create("jobs", job(completions=3, parallelism=2))
    demo.until_settled()
    assert len(demo.storage.list("pods")) == 2
    for _ in range(2):
        for item in demo.storage.list("pods"):
            demo.end(item, "Succeeded")
        demo.until_settled()
    status = demo.get("jobs", "once")["status"]
    assert status["succeeded"] == 3
    assert [c["type"] for c in status["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    assert demo.storage.list("pods")[0]["metadata"]["labels"]["job-name"] == "once"


def test_job_gives_up_after_its_retries(demo: Demo) -> None:
    demo.storage.create("jobs", job(backoffLimit=1))
    for _ in range(2):
        demo.until_settled()
        for item in demo.storage.list("pods"):
            demo.end(item, "Failed")
    demo.until_settled()
    status = demo.get("jobs", "once")["status"]
    assert (status["failed"], status["conditions"][-1]["reason"]) == (2, "BackoffLimitExceeded")


# Scheduling


def test_replicas_are_spread_over_nodes(demo: Demo) -> None:
    demo.storage.create("deployments", workload(replicas=6))
    demo.settle()
    nodes = [item["spec"]["nodeName"] for item in demo.pods(app="web")]
    assert sorted(nodes) == ["node-0", "node-0", "node-1", "node-1", "node-2", "node-2"]


def spoil(storage: Storage, change: Callable[[Json], Json]) -> None:
    for node in storage.list("nodes"):
        storage.update("nodes", change(node))


@pytest.mark.parametrize(
    ("spec", "change", "why"),
    [
        ({"nodeSelector": {"zone": "x"}}, lambda node: node, "didn't match Pod's node affinity/selector"),
        ({}, lambda node: {**node, "spec": {"unschedulable": True}}, "were unschedulable"),
        ({}, lambda node: {**node, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}, "untolerated taint"),
    ],
)
def test_pods_without_a_node_say_why(demo: Demo, spec: Json, change: Any, why: str) -> None:
    spoil(demo.storage, change)
    demo.storage.create("pods", {**pod(), "spec": {**pod()["spec"], **spec}})
    demo.settle()
    (condition,) = demo.get("pods", "p")["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert condition["message"] == f"0/3 nodes are available: 3 node(s) {condition['message'].partition('node(s) ')[2]}"
    assert why in condition["message"]
    events = [event for event in demo.storage.list("events") if event["reason"] == "FailedScheduling"]
    assert events[0]["involvedObject"]["name"] == "p"


def test_affinity_and_node_name_are_honoured(demo: Demo) -> None:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-2"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    demo.storage.create("pods", {**pod("a"), "spec": {**pod()["spec"], "affinity": {"nodeAffinity": required}}})
    demo.storage.create("pods", {**pod("b"), "spec": {**pod()["spec"], "nodeName": "elsewhere"}})
    demo.settle()
    assert demo.get("pods", "a")["spec"]["nodeName"] == "node-2"
    assert demo.get("pods", "b")["spec"]["nodeName"] == "elsewhere"
