"""Watches: selections that objects enter and leave, Tables, outages."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from api_cluster import Cluster, eventually
from api_objects import pod

Json = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


async def read_events(cluster: Cluster, path: str, count: int, accept: str = "application/json") -> list[Json]:
    events: list[Json] = []
    async with cluster.session.get(cluster.server.url + path, headers={"Accept": accept}) as response:
        async for line in response.content:
            events.append(json.loads(line))
            if len(events) >= count:
                break
    return events


def relabel(cluster: Cluster, name: str, labels: Json) -> None:
    old = cluster.storage.get("pods", "default", name)
    assert old is not None
    cluster.storage.update("pods", {**old, "metadata": {**old["metadata"], "labels": labels}})


async def test_objects_that_enter_or_leave_a_selection_are_added_or_deleted(cluster: Cluster) -> None:
    version = cluster.storage.version
    cluster.storage.create("pods", pod("a"))
    for labels in ({"l": "x"}, {"l": "x", "more": "y"}, {}, {"l": "x"}):
        relabel(cluster, "a", labels)
    cluster.storage.delete("pods", "default", "a")
    path = f"{PODS}?watch=1&labelSelector=l=x&resourceVersion={version}&timeoutSeconds=1"
    events = await read_events(cluster, path, 100)
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("version", ["", "0"])
async def test_watch_without_a_version_starts_with_what_there_is(cluster: Cluster, version: str) -> None:
    cluster.storage.create("pods", pod("a"))
    events = await read_events(cluster, f"{PODS}?watch=true&resourceVersion={version}", 1)
    assert (events[0]["type"], events[0]["object"]["kind"]) == ("ADDED", "Pod")


async def test_watch_of_one_name_shows_no_other(cluster: Cluster) -> None:
    version = cluster.storage.version
    cluster.storage.create("pods", pod("a"))
    cluster.storage.create("pods", pod("b"))
    events = await read_events(cluster, f"{PODS}/b?watch=1&resourceVersion={version}&timeoutSeconds=1", 9)
    assert [event["object"]["metadata"]["name"] for event in events] == ["b"]


async def test_table_watch_has_headings_once(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster.storage.create("pods", pod(name))
    events = await read_events(cluster, f"{PODS}?watch=1", 2, TABLE)
    assert [bool(event["object"]["columnDefinitions"]) for event in events] == [True, False]
    assert [event["object"]["rows"][0]["cells"][0] for event in events] == ["a", "b"]


async def test_clients_that_go_away_leave_no_subscription(cluster: Cluster) -> None:
    async with cluster.session.get(f"{cluster.server.url}{PODS}?watch=1"):
        await eventually(lambda: len(cluster.storage._subscribers) == 1)
    await eventually(lambda: not cluster.storage._subscribers)


async def test_the_journal_says_which_watches_go_on(cluster: Cluster) -> None:
    def goes_on() -> list[bool]:
        return [row["open"] for row in cluster.server.api.journal.since(0) if row["verb"] == "watch"]

    async with cluster.session.get(f"{cluster.server.url}{PODS}?watch=1"):
        await eventually(lambda: goes_on() == [True])
    await eventually(lambda: goes_on() == [False])


async def test_reader_that_falls_too_far_behind_is_cut_off(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.demo.api.watching.MAX_WAITING", 5)
    async with cluster.session.get(f"{cluster.server.url}{PODS}?watch=1") as response:
        for number in range(20):
            cluster.storage.create("pods", pod(f"p{number}"))
        assert len((await response.read()).splitlines()) < 20


async def test_outage_refuses_connections_and_ends_watches(cluster: Cluster) -> None:
    watch = asyncio.create_task(read_events(cluster, f"{PODS}?watch=1", 100))
    await eventually(lambda: len(cluster.storage._subscribers) == 1)
    await cluster.server.stop_listening()
    await asyncio.gather(watch, return_exceptions=True)
    with pytest.raises(aiohttp.ClientConnectorError):
        await cluster.ask("GET", "/version")
    await cluster.server.listen()
    assert (await cluster.ask("GET", "/version")).status == 200
