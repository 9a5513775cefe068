"""CronJob -> Jobs: one at each time of the schedule, old ones cleared away."""

from __future__ import annotations

import copy
import logging
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flows.demo.api.clock import parse_time
from flows.demo.api.cron import parse_schedule
from flows.demo.controllers.events import record_event
from flows.demo.controllers.jobs import is_finished_job
from flows.demo.controllers.pods import has_condition, is_deleting, owned, owner_reference, write_status

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
log = logging.getLogger(__name__)
_COMPONENT = "cronjob-controller"


def reconcile_cron_jobs(storage: Storage) -> None:
    """Start the Jobs that are due, and keep only as many finished ones as wanted."""
    now = datetime.now(UTC)
    for cron_job in storage.list("cronjobs"):
        if is_deleting(cron_job):
            continue
        jobs = owned(storage, "jobs", cron_job)
        scheduled = _start_due(storage, cron_job, jobs, now)
        _clear(storage, cron_job, jobs)
        _write_status(storage, cron_job, scheduled)


def _zone(cron_job: Json) -> tzinfo:
    try:
        return ZoneInfo(cron_job["spec"].get("timeZone") or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def due_time(cron_job: Json, now: datetime) -> datetime | None:
    """The last time of the schedule that has not had its Job; None when there is none, or it is too late for it."""
    spec = cron_job["spec"]
    since = cron_job.get("status", {}).get("lastScheduleTime") or cron_job["metadata"]["creationTimestamp"]
    start = parse_time(since)
    if start is None or spec["suspend"]:
        return None
    zone = _zone(cron_job)
    try:
        due = parse_schedule(spec["schedule"]).latest(start.astimezone(zone), now.astimezone(zone))
    except ValueError as error:
        log.debug("cron job %s: %s", cron_job["metadata"]["name"], error)
        return None
    deadline = spec.get("startingDeadlineSeconds")
    if due is None or (deadline is not None and now - due > timedelta(seconds=deadline)):
        return None
    return due.astimezone(UTC)


def _start_due(storage: Storage, cron_job: Json, jobs: list[Json], now: datetime) -> datetime | None:
    due = due_time(cron_job, now)
    if due is None:
        return None
    active = [job for job in jobs if not is_finished_job(job)]
    policy = cron_job["spec"]["concurrencyPolicy"]
    if active and policy == "Forbid":
        return None
    if policy == "Replace":
        for job in active:
            _delete(storage, job)
    _create(storage, cron_job, due)
    return due


def _create(storage: Storage, cron_job: Json, due: datetime) -> None:
    template, metadata = cron_job["spec"]["jobTemplate"], cron_job["metadata"]
    name = f"{metadata['name']}-{int(due.timestamp()) // 60}"
    made = copy.deepcopy(template.get("metadata") or {})
    made |= {"name": name, "namespace": metadata["namespace"], "ownerReferences": [owner_reference(cron_job)]}
    stamp = {"batch.kubernetes.io/cronjob-scheduled-timestamp": due.strftime("%Y-%m-%dT%H:%M:%SZ")}
    made["annotations"] = {**(made.get("annotations") or {}), **stamp}
    if storage.get("jobs", metadata["namespace"], name) is None:
        storage.create("jobs", {"metadata": made, "spec": copy.deepcopy(template["spec"])})
        record_event(storage, cron_job, "SuccessfulCreate", f"Created job {name}", _COMPONENT)


def _clear(storage: Storage, cron_job: Json, jobs: list[Json]) -> None:
    limits = (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit"))
    for condition, limit in limits:
        ended = [job for job in jobs if has_condition(job, condition) and not is_deleting(job)]
        ended.sort(key=lambda job: str(job["metadata"]["creationTimestamp"]))
        for job in ended[: max(0, len(ended) - cron_job["spec"][limit])]:
            _delete(storage, job)


def _delete(storage: Storage, job: Json) -> None:
    storage.request_deletion("jobs", job["metadata"]["namespace"], job["metadata"]["name"])


def _write_status(storage: Storage, cron_job: Json, scheduled: datetime | None) -> None:
    status: Json = {}
    active = [job for job in owned(storage, "jobs", cron_job) if not is_finished_job(job)]
    if active:
        status["active"] = [_reference(job) for job in active]
    old = cron_job.get("status", {})
    last = scheduled.strftime("%Y-%m-%dT%H:%M:%SZ") if scheduled else old.get("lastScheduleTime")
    ends = [job.get("status", {}).get("completionTime") for job in owned(storage, "jobs", cron_job)]
    done = max(filter(None, [*ends, old.get("lastSuccessfulTime")]), default=None)
    status |= {"lastScheduleTime": last} if last else {}
    status |= {"lastSuccessfulTime": done} if done else {}
    write_status(storage, "cronjobs", cron_job, status)


def _reference(job: Json) -> Json:
    metadata = job["metadata"]
    head = {"kind": "Job", "apiVersion": "batch/v1"}
    return head | {key: metadata[key] for key in ("namespace", "name", "uid", "resourceVersion")}
