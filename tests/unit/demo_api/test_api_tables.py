"""Cells of `kubectl get`."""

from __future__ import annotations

from typing import Any

import pytest

from flows.demo.api.cells import job_status, pod_reason
from flows.demo.api.columns import COLUMNS
from flows.demo.api.durations import human_duration
from flows.demo.api.kinds import KINDS, kind_of
from flows.demo.api.tables import table

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_400, "3h10m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (183_600, "2d3h"),
        (8 * 86_400, "8d"),
        (730 * 86_400, "2y"),
        (740 * 86_400, "2y10d"),
        (4000 * 86_400, "10y"),
    ],
)
def test_durations_are_shortened_as_kubectl_does(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def pod_with(status: Json, **metadata: Any) -> Json:
    return {"metadata": metadata, "spec": {"initContainers": [{}, {}]}, "status": status}


WAITING = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
ENDED = {"state": {"terminated": {"exitCode": 3}}}
KILLED = {"state": {"terminated": {"signal": 9, "exitCode": 137}}}
DONE = {"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (pod_with({"phase": "Running"}), "Running"),
        (pod_with({"phase": "Failed", "reason": "Evicted"}), "Evicted"),
        (pod_with({"phase": "Running", "containerStatuses": [WAITING]}), "CrashLoopBackOff"),
        (pod_with({"phase": "Failed", "containerStatuses": [ENDED]}), "ExitCode:3"),
        (pod_with({"phase": "Failed", "containerStatuses": [KILLED]}), "Signal:9"),
        (pod_with({"phase": "Succeeded", "containerStatuses": [DONE]}), "Completed"),
        (pod_with({"phase": "Pending", "initContainerStatuses": [{"state": {}}]}), "Init:0/2"),
        (pod_with({"phase": "Pending", "initContainerStatuses": [ENDED]}), "Init:ExitCode:3"),
        (pod_with({"phase": "Running"}, deletionTimestamp="x"), "Terminating"),
        (pod_with({}), "Unknown"),
    ],
)
def test_pod_status(pod: Json, reason: str) -> None:
    assert pod_reason(pod) == reason


@pytest.mark.parametrize(
    ("job", "status"),
    [
        ({"metadata": {}, "status": {}}, "Running"),
        ({"metadata": {"deletionTimestamp": "x"}}, "Terminating"),
        ({"metadata": {}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}, "Complete"),
    ],
)
def test_job_status(job: Json, status: str) -> None:
    assert job_status(job) == status


@pytest.mark.parametrize(
    ("plural", "spec", "cells"),
    [
        ("services", {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"port": 80}]}, ["10.0.0.1", "<none>", "80/TCP"]),
        ("services", {"type": "LoadBalancer", "ports": [{"port": 1, "nodePort": 2}]}, ["<none>", "<pending>", "1:2/TCP"]),
        ("services", {"type": "ExternalName", "externalName": "x.org"}, ["<none>", "x.org", "<none>"]),
    ],
)
def test_service_cells(plural: str, spec: Json, cells: list[str]) -> None:
    row = table(kind_of(plural), [{"metadata": {"name": "s"}, "spec": spec}], {})["rows"][0]
    assert row["cells"][2:5] == cells


def test_every_kind_has_columns_that_begin_with_what_kubectl_shows() -> None:
    assert {kind.plural for kind in KINDS} == COLUMNS.keys()


@pytest.mark.parametrize(("include", "kind"), [("Metadata", "PartialObjectMetadata"), ("Object", "Namespace"), ("None", "")])
def test_rows_hold_as_much_of_the_object_as_asked_for(include: str, kind: str) -> None:
    obj = {"kind": "Namespace", "metadata": {"name": "n"}, "status": {"phase": "Active"}}
    row = table(kind_of("namespaces"), [obj], {}, include=include)["rows"][0]
    assert row.get("object", {}).get("kind", "") == kind
