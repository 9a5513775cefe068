"""The official Python client lists, pages and watches the stand-in API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from api_objects import pod
from kubernetes import client
from kubernetes import config as kubernetes_config
from kubernetes import watch as kubernetes_watch
from kubernetes.client.exceptions import ApiException

if TYPE_CHECKING:
    from api_cluster import Cluster


config: Any = kubernetes_config  # untyped
watch: Any = kubernetes_watch


def core(cluster: Cluster) -> Any:
    return client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


def close(api: Any) -> None:
    api.api_client.rest_client.pool_manager.clear()


async def test_pages_make_the_whole(cluster: Cluster) -> None:
    for number in range(7):
        cluster.storage.create("pods", pod(f"p{number}"))

    def pages() -> list[str]:
        api, names, token = core(cluster), [], None
        while token != "":
            page = api.list_namespaced_pod("default", limit=3, _continue=token)
            names += [item.metadata.name for item in page.items]
            token = page.metadata._continue or ""
        close(api)
        return names

    assert await asyncio.to_thread(pages) == [f"p{number}" for number in range(7)]


async def test_watch_goes_on_from_a_list(cluster: Cluster) -> None:
    cluster.storage.create("pods", pod("a"))
    listed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def follow() -> list[tuple[str, str]]:
        api = core(cluster)
        version = api.list_pod_for_all_namespaces().metadata.resource_version
        loop.call_soon_threadsafe(listed.set)
        events = []
        stream = watch.Watch()
        for event in stream.stream(api.list_pod_for_all_namespaces, resource_version=version, timeout_seconds=10):
            events.append((event["type"], event["object"].metadata.name))
            if len(events) == 2:
                stream.stop()
        close(api)
        return events

    following = asyncio.create_task(asyncio.to_thread(follow))
    await listed.wait()
    cluster.storage.create("pods", pod("b"))
    cluster.storage.delete("pods", "default", "a")
    assert await following == [("ADDED", "b"), ("DELETED", "a")]


async def test_forgotten_version_is_gone(cluster: Cluster) -> None:
    cluster.storage.compact()

    def follow() -> None:
        api = core(cluster)
        try:
            list(watch.Watch().stream(api.list_pod_for_all_namespaces, resource_version="2", timeout_seconds=5))
        finally:
            close(api)

    with pytest.raises(ApiException) as caught:
        await asyncio.to_thread(follow)
    assert caught.value.status == 410
