"""Pod status: phase, conditions and container states as a kubelet writes them."""

from __future__ import annotations

from typing import Any

import pytest

from flows.demo.layout import NODES
from flows.demo.node.container import may_restart
from flows.demo.node.podstatus import Container, conditions, phase, pod_status, problem

Json = dict[str, Any]
WAITING, RUNNING = {"waiting": {"reason": "ContainerCreating"}}, {"running": {"startedAt": "t"}}


def ended(code: int) -> Json:
    return {"terminated": {"exitCode": code}}


def container(state: Json, *, last: Json | None = None, init: bool = False, ready: bool = False) -> Container:
    return Container({"name": "c", "image": "nginx"}, init=init, state=state, last=last or {}, ready=ready)


PHASES = [
    ([container(WAITING)], "Always", "Pending"),
    ([container(RUNNING)], "Always", "Running"),
    ([container(RUNNING), container(WAITING)], "Always", "Pending"),
    ([container(WAITING, last=ended(1))], "Always", "Running"),  # CrashLoopBackOff
    ([container(ended(0))], "Never", "Succeeded"),
    ([container(ended(1))], "Never", "Failed"),
    ([container(ended(1))], "OnFailure", "Running"),
    ([container(ended(0)), container(RUNNING)], "Never", "Running"),
    ([container(RUNNING, init=True), container(WAITING)], "Always", "Pending"),
    ([container(ended(0), init=True), container(RUNNING)], "Always", "Running"),
    ([container(ended(1), init=True), container(WAITING)], "Never", "Failed"),
]


@pytest.mark.parametrize(("containers", "policy", "expected"), PHASES)
def test_phase_follows_the_containers(containers: list[Container], policy: str, expected: str) -> None:
    assert phase(containers, policy) == expected


RESTARTS = [("Always", 0, False, True), ("OnFailure", 0, False, False), ("OnFailure", 1, False, True)]
RESTARTS += [("Never", 1, False, False), ("Always", 0, True, False), ("Always", 1, True, True)]


@pytest.mark.parametrize(("policy", "code", "init", "again"), RESTARTS)
def test_restart_policy(policy: str, code: int, *, init: bool, again: bool) -> None:
    assert may_restart(policy, code, init=init) is again


def test_condition_keeps_its_time_until_it_changes() -> None:
    first = conditions([container(RUNNING)], True, "Running", [], "t1")
    same = conditions([container(RUNNING)], True, "Running", first, "t2")
    ready = conditions([container(RUNNING, ready=True)], True, "Running", same, "t3")
    assert {c["type"]: c["lastTransitionTime"] for c in same} == dict.fromkeys((c["type"] for c in first), "t1")
    assert {c["type"]: (c["status"], c["lastTransitionTime"]) for c in ready}["Ready"] == ("True", "t3")
    assert {c["type"]: c["status"] for c in first}["Ready"] == "False"


def test_status_names_container_and_addresses_as_the_runtime_does() -> None:
    running = container(RUNNING, ready=True)
    running.id = "ab" * 32
    status = pod_status([running], {"spec": {}}, NODES[1], ["10.244.2.2", "fd00::2"], "Burstable", "now")
    assert status["containerStatuses"][0]["containerID"] == f"cri-o://{'ab' * 32}"
    assert (status["podIP"], status["podIPs"]) == ("10.244.2.2", [{"ip": "10.244.2.2"}, {"ip": "fd00::2"}])
    assert (status["hostIP"], status["qosClass"], status["startTime"]) == ("172.31.77.12", "Burstable", "now")


def test_problem_is_the_message_of_who_knows_best() -> None:
    broken = {"terminated": {"exitCode": 128, "reason": "StartError", "message": "mount overlay: no"}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert problem(container(waiting, last=broken)) == "mount overlay: no"
    assert problem(container(waiting)) == "back-off 10s"
    assert problem(container(RUNNING, last=broken)) == ""
