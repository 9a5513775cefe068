"""Deletion, step by step: what goes with an object, what stays, and what is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api_objects import job, workload

if TYPE_CHECKING:
    from api_stepwise import Demo


def test_deleting_a_deployment_takes_all_it_made(demo: Demo) -> None:
    demo.storage.create("deployments", workload(replicas=2))
    demo.until_settled()
    demo.storage.request_deletion("deployments", "default", "web")
    demo.until_settled()
    assert (demo.storage.list("replicasets"), demo.pods(app="web")) == ([], [])


def test_orphans_stay(demo: Demo) -> None:
    demo.storage.create("deployments", workload(replicas=2))
    demo.until_settled()
    demo.storage.request_deletion("deployments", "default", "web", {"propagationPolicy": "Orphan"})
    demo.until_settled()
    assert demo.storage.get("deployments", "default", "web") is None
    assert not demo.storage.list("replicasets")[0]["metadata"].get("ownerReferences")
    assert len(demo.pods(app="web")) == 2


def test_foreground_deletion_waits_for_the_dependents(demo: Demo) -> None:
    demo.storage.create("deployments", workload(replicas=1))
    demo.until_settled()
    demo.storage.request_deletion("deployments", "default", "web", {"propagationPolicy": "Foreground"})
    demo.settle()
    assert demo.get("deployments", "web")["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert "deletionTimestamp" in demo.pods(app="web")[0]["metadata"]
    demo.until_settled()
    assert demo.storage.get("deployments", "default", "web") is None


def test_namespace_goes_with_all_that_is_in_it(demo: Demo) -> None:
    demo.storage.create("namespaces", {"metadata": {"name": "side"}})
    demo.storage.create("deployments", {**workload(), "metadata": {"name": "web", "namespace": "side"}})
    demo.until_settled()
    assert demo.get("serviceaccounts", "default", "side")
    demo.storage.request_deletion("namespaces", None, "side")
    demo.settle()
    assert demo.storage.get("namespaces", None, "side") is not None  # a kubelet still has a pod to stop
    demo.until_settled()
    assert demo.storage.get("namespaces", None, "side") is None
    assert all(not demo.storage.list(resource, "side") for resource in ("pods", "configmaps", "events"))


def test_finished_job_goes_after_its_time_to_live(demo: Demo) -> None:
    demo.storage.create("jobs", job(ttlSecondsAfterFinished=0))
    demo.until_settled()
    demo.end(demo.storage.list("pods")[0], "Succeeded")
    demo.until_settled()
    demo.loop.tick()
    demo.until_settled()
    assert (demo.storage.list("jobs"), demo.storage.list("pods")) == ([], [])
