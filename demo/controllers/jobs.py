"""Job -> Pods: run to completion, with parallelism, retries, a deadline and a time to live."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.demo.api.clock import now_text, parse_time
from flows.demo.controllers.events import record_event
from flows.demo.controllers.pods import (
    create_pod,
    delete_pod,
    has_condition,
    is_active,
    is_deleting,
    is_ready,
    owned,
    phase,
    set_condition,
    write_status,
)

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
_COMPONENT = "job-controller"


def reconcile_jobs(storage: Storage) -> None:
    """Bring the pods of every Job in line, and delete finished Jobs whose time is over."""
    for job in storage.list("jobs"):
        if is_finished_job(job):
            _expire(storage, job)
        elif not is_deleting(job):
            _run(storage, job)


def is_finished_job(job: Json) -> bool:
    """Whether a Job is complete or has failed."""
    return has_condition(job, "Complete") or has_condition(job, "Failed")


def _seconds_since(text: object) -> float:
    moment = parse_time(text)
    return (datetime.now(UTC) - moment).total_seconds() if moment else 0.0


def _expire(storage: Storage, job: Json) -> None:
    lifetime = job["spec"].get("ttlSecondsAfterFinished")
    ends = [c["lastTransitionTime"] for c in job["status"]["conditions"] if c["type"] in {"Complete", "Failed"}]
    if lifetime is not None and not is_deleting(job) and _seconds_since(ends[0]) >= lifetime:
        storage.request_deletion("jobs", job["metadata"]["namespace"], job["metadata"]["name"])


def _run(storage: Storage, job: Json) -> None:
    spec, pods = job["spec"], owned(storage, "pods", job)
    active = [pod for pod in pods if is_active(pod)]
    succeeded = sum(phase(pod) == "Succeeded" for pod in pods)
    failed = sum(phase(pod) == "Failed" for pod in pods)
    started = job.get("status", {}).get("startTime")
    deadline = spec.get("activeDeadlineSeconds")
    wanted = spec.get("completions")
    if failed > spec["backoffLimit"]:
        text = "Job has reached the specified backoff limit"
        _finish(storage, job, "Failed", "BackoffLimitExceeded", text)
    elif deadline is not None and started and _seconds_since(started) >= deadline:
        text = "Job was active longer than specified deadline"
        _finish(storage, job, "Failed", "DeadlineExceeded", text)
    elif (succeeded >= wanted) if wanted is not None else (succeeded and not active):
        _finish(storage, job, "Complete", "CompletionsReached", "Reached expected number of succeeded pods")
    else:
        _adjust(storage, job, active, succeeded)
        _write_status(storage, job, [])


def _adjust(storage: Storage, job: Json, active: list[Json], succeeded: int) -> None:
    spec = job["spec"]
    target = 0 if spec["suspend"] else spec["parallelism"]
    if spec.get("completions") is not None:
        target = min(target, spec["completions"] - succeeded)
    elif succeeded:
        target = min(target, len(active))
    for pod in active[max(0, target) :]:
        delete_pod(storage, job, pod)
    for _ in range(target - len(active)):
        if create_pod(storage, job, spec["template"]) is None:
            break


def _finish(storage: Storage, job: Json, type_: str, reason: str, message: str) -> None:
    for pod in owned(storage, "pods", job):
        if is_active(pod):
            delete_pod(storage, job, pod)
    first = "SuccessCriteriaMet" if type_ == "Complete" else "FailureTarget"
    conditions = [{"type": kind, "status": "True", "reason": reason, "message": message} for kind in (first, type_)]
    _write_status(storage, job, conditions)
    done = ("Normal", "Completed", "Job completed") if type_ == "Complete" else ("Warning", reason, message)
    record_event(storage, job, done[1], done[2], _COMPONENT, type_=done[0])


def _write_status(storage: Storage, job: Json, reached: list[Json]) -> None:
    now, old = now_text(), job.get("status", {})
    pods = owned(storage, "pods", job)
    active = [pod for pod in pods if is_active(pod)]
    counts = {
        "active": len(active),
        "ready": sum(map(is_ready, active)),
        "succeeded": sum(phase(pod) == "Succeeded" for pod in pods),
        "failed": sum(phase(pod) == "Failed" for pod in pods),
        "terminating": sum(is_deleting(pod) for pod in pods),
    }
    status: Json = {key: value for key, value in counts.items() if value or key in {"ready", "terminating"}}
    status["uncountedTerminatedPods"] = {}
    conditions = list(old.get("conditions") or ())
    for condition in reached:
        conditions = set_condition(conditions, {**condition, "lastProbeTime": now}, now)
    if conditions:
        status["conditions"] = conditions
    if not job["spec"]["suspend"]:
        status["startTime"] = old.get("startTime") or now
    if any(condition["type"] == "Complete" for condition in reached):
        status["completionTime"] = now
    write_status(storage, "jobs", job, status)
