"""Cron schedules and the Jobs they start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_objects import job

from flows.demo.api.bootstrap import bootstrap
from flows.demo.api.cron import parse_schedule
from flows.demo.api.storage import Storage
from flows.demo.controllers.cronjobs import due_time, reconcile_cron_jobs

MONDAY = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("* * * * *", True),
        ("30 12 * * *", True),
        ("*/15 * * * *", True),
        ("*/7 * * * *", False),
        ("0-29 * * * *", False),
        ("10-40/10 12 23 11 1", True),
        ("30 12 * * mon-fri", True),
        ("30 12 * nov *", True),
        ("30 12 * * 7", False),
        ("30 12 1 * 1", True),
        ("30 12 1 * *", False),
        ("30 12 23 * 2", True),
        ("@hourly", False),
    ],
)
def test_schedules_match_minutes(text: str, matches: bool) -> None:
    assert parse_schedule(text).matches(MONDAY) is matches


FIELDS = ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "x * * * *"]


@pytest.mark.parametrize("text", [*FIELDS, "@every x", "@every 0s"])
def test_malformed_schedules_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|failed to parse|beginning of range"):
        parse_schedule(text)


def test_latest_time_in_a_span() -> None:
    hourly = parse_schedule("@hourly")
    assert hourly.latest(MONDAY - timedelta(hours=3), MONDAY) == MONDAY.replace(minute=0)
    assert hourly.latest(MONDAY.replace(minute=0), MONDAY) is None
    assert parse_schedule("@every 20m").latest(MONDAY, MONDAY + timedelta(minutes=50)) == MONDAY + timedelta(minutes=40)


def cron_job(**spec: Any) -> dict[str, Any]:
    template = {"spec": job()["spec"]}
    return {"metadata": {"name": "c"}, "spec": {"schedule": "@every 1s", "jobTemplate": template, **spec}}


def store_with(**spec: Any) -> Storage:
    store = Storage()
    bootstrap(store)
    made = store.create("cronjobs", cron_job(**spec))
    store.update_status("cronjobs", {**made, "status": {"lastScheduleTime": "2026-11-23T12:00:00Z"}})
    return store


def test_due_job_is_started_once_and_owned() -> None:
    store = store_with()
    reconcile_cron_jobs(store)
    reconcile_cron_jobs(store)
    (made,) = store.list("jobs")
    assert made["metadata"]["ownerReferences"][0]["kind"] == "CronJob"
    status = store.list("cronjobs")[0]["status"]
    assert status["active"][0]["name"] == made["metadata"]["name"]


@pytest.mark.parametrize(
    ("spec", "due"),
    [({}, True), ({"suspend": True}, False), ({"schedule": "0 0 1 1 *"}, False), ({"timeZone": "Europe/Paris"}, True)],
)
def test_when_a_job_is_due(spec: dict[str, Any], due: bool) -> None:
    (stored,) = store_with(**spec).list("cronjobs")
    assert (due_time(stored, MONDAY) is not None) is due


def test_forbidden_concurrency_waits_and_replacement_ends_the_old_job() -> None:
    for policy, names in (("Forbid", 1), ("Replace", 1), ("Allow", 2)):
        store = store_with(concurrencyPolicy=policy)
        reconcile_cron_jobs(store)
        first = store.list("jobs")[0]
        store.delete("jobs", "default", first["metadata"]["name"])
        store.create("jobs", {**first, "metadata": {**first["metadata"], "name": "older"}})
        old = store.list("cronjobs")[0]
        store.update_status("cronjobs", {**old, "status": {"lastScheduleTime": "2026-11-23T12:00:00Z"}})
        reconcile_cron_jobs(store)
        assert len(store.list("jobs")) == names, policy
