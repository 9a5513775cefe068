"""An address that changes hands within a second: each flow keeps the name of who had it at the flow's time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from api_server import ApiServer
from enrich_samples import SECOND, Clock, pod, records, uid
from kube_samples import bookmark, eventually

from flows.agent.enrich.kube_source import KubernetesSource
from flows.agent.store.store import FlowStore, Renaming
from flows.flow.endpoint import Evidence
from flows.kube.client import ApiClient
from flows.kube.resource import Changes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flows.agent.enrich.enricher import Enricher

    Make = Callable[..., Enricher]

ADDRESS = "10.0.0.9"
WALL = 4000  # the samples' clock: wall clock minus monotonic, seconds
# a: alive from 900, ended at 1000.20. b: its container ran from 1000.60, which its status cuts to 1000.
A = pod(1, ADDRESS, started_ns=(900 + WALL) * SECOND)
A_ENDED = pod(1, started_ns=(900 + WALL) * SECOND)  # phase Succeeded: no address of its own any more
B = pod(2, ADDRESS, started_ns=(1000 + WALL) * SECOND)
B_NOT_RUN = pod(2, ADDRESS, started_ns=0)  # has its address; its image is being pulled
GONE = (uid(1),)

Told = list[tuple[float, tuple[Any, ...], tuple[str, ...]]]


def tell(enricher: Enricher, clock: Clock, told: Told) -> None:
    """Have the API say things at (monotonic) times: (when, records, deleted uids)."""
    for when, made, deleted in told:
        clock.seconds = when
        enricher._inbox.append(Changes("pods", made, deleted))
        enricher.apply_changes()


def named(enricher: Enricher, *seconds: float, start: float = 0.0) -> list[str]:
    rows = [{"remote": ADDRESS, "time_ns": int(at * SECOND), "start_ns": int(start * SECOND)} for at in seconds]
    return [enricher.endpoint(number).pod for number in enricher.resolve(records(*rows))[1].tolist()]


@pytest.mark.parametrize(
    ("told", "handover"),
    [
        pytest.param([(1000.3, (), GONE), (1000.9, (B,), ())], 1000.3, id="in order"),
        pytest.param([(1000.3, (A_ENDED,), ()), (1000.9, (B,), ())], 1000.3, id="a merely ended"),
        pytest.param([(1000.3, (A_ENDED,), ()), (1000.9, (B,), GONE)], 1000.3, id="ended, then deleted together with the start"),
        pytest.param([(1000.9, (B,), ()), (1001.5, (), GONE)], 1000.5, id="the start is told before the deletion"),
        pytest.param([(1000.9, (B,), ()), (1001.5, (A_ENDED,), ()), (1002, (), GONE)], 1000.5, id="the start before the end"),
        pytest.param([(1000.9, (B,), GONE)], 1000.5, id="both in one batch"),
        pytest.param([(1300, (), GONE), (1300, (B,), ())], 1000.5, id="both told five minutes late"),
        pytest.param([(1300, (B,), ()), (1300, (), GONE)], 1000.5, id="both told five minutes late, in the wrong order"),
        pytest.param([(1300, (A_ENDED,), ()), (1300, (B,), ())], 1000.5, id="a merely ended, both told late"),
        pytest.param(
            [(1000.3, (), GONE), (1000.4, (B_NOT_RUN,), ()), (1000.9, (B,), ())], 1000.4, id="the address, then the start"
        ),
        pytest.param([(1000.4, (B_NOT_RUN,), ()), (1000.9, (), GONE)], 1000.4, id="the address before the deletion"),
    ],
)
def test_flows_are_named_by_who_had_the_address_then(make_enricher: Make, clock: Clock, told: Told, handover: float) -> None:
    enricher = make_enricher()
    tell(enricher, clock, [(950, (A,), ()), *told])
    assert named(enricher, 950, 1000.19, min(handover, 1000.3) - 0.001) == ["web-1"] * 3
    assert named(enricher, handover, handover + 0.101, 1000.61, 1299, 1301) == ["web-2"] * 5


def test_a_connection_stays_with_whom_it_was_opened_to(make_enricher: Make, clock: Clock) -> None:
    enricher = make_enricher()
    tell(enricher, clock, [(950, (A,), ()), (1000.9, (B,), GONE)])
    assert named(enricher, 1000.7, 1200, start=990) == ["web-1", "web-1"]
    assert named(enricher, 1000.7, 1200, start=1000.65) == ["web-2", "web-2"]


def test_between_the_two_an_address_is_nobodys(make_enricher: Make, clock: Clock) -> None:
    enricher = make_enricher()
    later = pod(2, ADDRESS, started_ns=(1004 + WALL) * SECOND)
    tell(enricher, clock, [(950, (A,), ()), (1000.3, (), GONE), (1005, (later,), ())])
    assert named(enricher, 1000.2, 1000.4, 1003.9, 1004) == ["web-1", "", "", "web-2"]


def stored(enricher: Enricher, store: FlowStore, *rows: dict[str, Any]) -> None:
    made = records(*rows)
    store.append(made, *enricher.resolve(made), WALL * SECOND)


def rename(enricher: Enricher, store: FlowStore) -> None:
    """As the ring's reader does."""
    in_use = store.endpoints_in_use()
    weak = [n for n in in_use.tolist() if enricher.endpoint(n).evidence in (Evidence.UNKNOWN, Evidence.RANGE)]
    for late in enricher.late_names():
        since = late.since_ns.astype(np.int64) + WALL * SECOND
        renaming = Renaming(late.numbers, np.array(weak, np.uint32), late.former)
        store.rename_addresses("remote", late.addresses, since, renaming)


def test_flows_that_were_stored_with_the_former_owners_name_are_corrected(make_enricher: Make, clock: Clock) -> None:
    """The API was away: what went to b was taken to go to a, whose end had not been heard."""
    enricher, store = make_enricher(), FlowStore(16)
    tell(enricher, clock, [(950, (A,), ())])
    enricher.late_names()
    clock.seconds = 1250
    times = [{"remote": ADDRESS, "time_ns": int(at * SECOND)} for at in (990, 1000.1, 1000.6, 1200)]
    stored(enricher, store, *times, {"remote": ADDRESS, "time_ns": 1210 * SECOND, "start_ns": 990 * SECOND})
    before = [enricher.endpoint(n).pod for n in store.column("remote", 0, 5).tolist()]
    tell(enricher, clock, [(1300, (), GONE), (1300, (B,), ())])
    rename(enricher, store)
    after = [enricher.endpoint(n).pod for n in store.column("remote", 0, 5).tolist()]
    assert before == ["web-1"] * 5
    assert after == ["web-1", "web-1", "web-2", "web-2", "web-1"]


def test_flows_before_the_name_was_known_get_it_when_the_address_comes_with_a_change(make_enricher: Make, clock: Clock) -> None:
    enricher, store = make_enricher(), FlowStore(16)
    tell(enricher, clock, [(999, (pod(2),), ())])  # scheduled: no address yet
    stored(enricher, store, {"remote": ADDRESS, "time_ns": int(1000.7 * SECOND)})
    enricher.late_names()
    tell(enricher, clock, [(1002, (B,), ())])
    rename(enricher, store)
    [number] = store.column("remote", 0, 1).tolist()
    assert (enricher.endpoint(number).pod, enricher.endpoint(number).evidence) == ("web-2", Evidence.ADDRESS)


def _pod(name: str, number: int, version: int, **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "uid": uid(number), "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"nodeName": "node-2"}, "status": status}


def _running(started: str) -> dict[str, Any]:
    return {
        "phase": "Running",
        "podIP": ADDRESS,
        "containerStatuses": [{"name": "c", "state": {"running": {"startedAt": started}}}],
    }


def _event(kind: str, made: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": made}).encode() + b"\n"


@pytest.mark.parametrize("ends", ["deleted", "deleted after the start", "succeeded"])
def test_reuse_within_a_second_over_a_real_watch(make_enricher: Make, clock: Clock, tmp_path: Path, ends: str) -> None:
    """Times of the API are wall clock: 4900 s is 900 s here."""
    a, b = _pod("a", 1, 3, **_running("1970-01-01T01:21:40Z")), _pod("b", 2, 8, **_running("1970-01-01T01:23:20Z"))
    ended = _event("MODIFIED", _pod("a", 1, 7, phase="Succeeded", podIP=ADDRESS)), _event("DELETED", a)
    started = _event("ADDED", b)
    order = {
        "deleted": (ended[1], started),
        "deleted after the start": (started, ended[1]),
        "succeeded": (ended[0], started, ended[1]),
    }[ends]
    api = ApiServer()
    api.on_stream("/api/v1/pods", _event("ADDED", a), bookmark("5", initial_end=True))
    api.on_watch("/api/v1/pods", *order, None)
    source = KubernetesSource(ApiClient(api.kubeconfig(tmp_path)), "node-1", ("pods",))
    enricher = make_enricher()
    clock.seconds = 1001.2
    try:
        source.start(enricher._inbox.append)
        eventually(lambda: named(enricher, 1001.1) == ["b"] and source.status().in_sync)
        assert named(enricher, 901, 1000.1, 1001.1) == ["a", "a", "b"]
    finally:
        source.stop()
        api.stop()
