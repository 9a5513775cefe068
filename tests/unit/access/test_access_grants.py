"""The right of an open stream follows what Kubernetes says while the stream is open."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from access_cluster import QUICK, Cluster, CountingApi, bearer

from flows.relay.access.credentials import Credentials
from flows.relay.access.grant import CheckedGrant
from flows.relay.access.kubernetes import KubernetesAccess
from flows.relay.access.scope import Denied, Scope
from flows.relay.access.times import DEFAULT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from flows.relay.access.scope import Grant

    OpenStream = Callable[[Credentials], Awaitable["Stream"]]

LONGEST = QUICK.allowed + QUICK.recheck[1]
"""Until a check that may use nothing older than the change; plus what the answer itself takes."""


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST + 3):
        while not condition():  # noqa: ASYNC110 - other threads change it
            await asyncio.sleep(0.01)


class Stream:
    """An open call: its grant, and what ends it."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.end = asyncio.create_task(grant.revoked())

    async def ended(self) -> Denied:
        async with asyncio.timeout(LONGEST + 3):
            return await self.end

    async def until(self, condition: Callable[[], bool]) -> None:
        await eventually(condition)


@pytest.fixture
async def streams() -> AsyncIterator[list[Stream]]:
    opened: list[Stream] = []
    yield opened
    for stream in opened:
        stream.end.cancel()
    await asyncio.gather(*(stream.end for stream in opened), return_exceptions=True)


@pytest.fixture
def open_stream(quick: KubernetesAccess, streams: list[Stream]) -> OpenStream:
    async def admit(credentials: Credentials) -> Stream:
        streams.append(Stream(await quick.admit(credentials)))
        return streams[-1]

    return admit


async def checks(api: CountingApi, count: int) -> None:
    """Wait for so many more checks of one stream."""
    goal = api.asked["tokenreviews"] + count
    await eventually(lambda: api.asked["tokenreviews"] >= goal)
    await asyncio.sleep(0.05)


def test_times_of_production_keep_a_revocation_within_a_minute() -> None:
    server_remembers = 10  # kube-apiserver's own cache of valid tokens
    assert DEFAULT.allowed + DEFAULT.recheck[1] + server_remembers < 60
    assert DEFAULT.shared + DEFAULT.recheck[1] + server_remembers < 60


async def test_removed_binding_ends_the_stream(cluster: Cluster, open_stream: OpenStream) -> None:
    token, binding = cluster.token("viewer", "a"), cluster.bind("a:viewer", "a")
    stream = await open_stream(bearer(token))
    cluster.unbind(binding, "a")
    denied = await stream.ended()
    assert denied.code == grpc.StatusCode.PERMISSION_DENIED
    assert 'resource "flows"' in str(denied)


async def test_deleted_account_ends_the_stream(cluster: Cluster, open_stream: OpenStream) -> None:
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer")
    stream = await open_stream(bearer(token))
    cluster.storage.delete("serviceaccounts", "a", "viewer")
    assert (await stream.ended()).code == grpc.StatusCode.UNAUTHENTICATED


async def test_expired_token_ends_the_stream_at_once(cluster: Cluster, api: CountingApi) -> None:
    access = KubernetesAccess(api)  # would check in 15 to 25 s
    cluster.bind("a:viewer")
    stream = Stream(await access.admit(bearer(cluster.token("viewer", "a", 2))))
    started = time.monotonic()
    assert (await stream.ended()).code == grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - started < 2.6
    access.close()


async def test_expired_certificate_ends_the_stream_although_the_connection_stays(
    cluster: Cluster, quick: KubernetesAccess, open_stream: OpenStream
) -> None:
    cluster.bind("jane")
    stream = await open_stream(Credentials(certificate=cluster.pki.client_certificate("jane")[0]))
    grant = stream.grant
    assert isinstance(grant, CheckedGrant)
    grant._claim = replace(grant._claim, expires=time.time() + 0.2, key="renewed")
    denied = await stream.ended()
    assert denied.code == grpc.StatusCode.UNAUTHENTICATED
    assert "expired" in str(denied)


async def test_one_binding_of_two_removed_makes_the_scope_smaller(cluster: Cluster, open_stream: OpenStream) -> None:
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer", "a")
    binding = cluster.bind("a:viewer", "b")
    stream = await open_stream(bearer(token))
    assert stream.grant.scope.namespaces == frozenset({"a", "b"})
    cluster.unbind(binding, "b")
    await stream.until(lambda: stream.grant.scope.namespaces == frozenset({"a"}))
    assert not stream.end.done()


async def test_cluster_wide_view_shrinks_to_the_namespaces_that_are_left(cluster: Cluster, open_stream: OpenStream) -> None:
    token, binding = cluster.token("viewer", "a"), cluster.bind("a:viewer")
    cluster.bind("a:viewer", "b")
    stream = await open_stream(bearer(token))
    assert stream.grant.scope.namespaces is None
    cluster.unbind(binding)
    await stream.until(lambda: stream.grant.scope == Scope("system:serviceaccount:a:viewer", frozenset({"b"})))


async def test_deleted_namespace_leaves_the_scope(cluster: Cluster, open_stream: OpenStream) -> None:
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer", "a")
    binding = cluster.bind("a:viewer", "b")
    stream = await open_stream(bearer(token))
    cluster.unbind(binding, "b")  # as the namespace's deletion does first
    cluster.storage.delete("namespaces", None, "b")
    await stream.until(lambda: stream.grant.scope.namespaces == frozenset({"a"}))


async def test_open_stream_does_not_grow_but_a_new_one_does(
    cluster: Cluster, quick: KubernetesAccess, api: CountingApi, open_stream: OpenStream
) -> None:
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer", "a")
    stream = await open_stream(bearer(token))
    cluster.bind("a:viewer", "b")
    await checks(api, 3)
    assert stream.grant.scope.namespaces == frozenset({"a"})
    assert (await quick.admit(bearer(token))).scope.namespaces == frozenset({"a", "b"})
    cluster.bind("a:viewer")
    await checks(api, 3)
    assert stream.grant.scope.namespaces == frozenset({"a"})
    assert (await quick.admit(bearer(token))).scope.namespaces is None


async def test_check_asks_only_about_what_is_held(cluster: Cluster, api: CountingApi, open_stream: OpenStream) -> None:
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer", "a")
    await open_stream(bearer(token))
    api.asked.clear()
    await checks(api, 3)
    assert api.asked["subjectaccessreviews"] <= api.asked["tokenreviews"] + 1  # the count may begin between the two
    assert api.asked["namespaces"] == 0


async def test_streams_of_one_token_share_checks(cluster: Cluster, api: CountingApi, quick: KubernetesAccess) -> None:
    slow = KubernetesAccess(api, replace(QUICK, recheck=(0.3, 0.35), shared=0.2))
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer")
    opened = [Stream(await slow.admit(bearer(token))) for _ in range(50)]
    await asyncio.sleep(1.2)
    assert api.asked["tokenreviews"] <= 8  # 50 streams checked about three times each
    assert api.asked["tokenreviews"] >= 3
    for stream in opened:
        stream.end.cancel()
    await asyncio.gather(*(stream.end for stream in opened), return_exceptions=True)
    slow.close()


async def test_short_outage_ends_no_stream_and_revocation_works_after_it(
    cluster: Cluster, api: CountingApi, open_stream: OpenStream
) -> None:
    token, binding = cluster.token("viewer", "a"), cluster.bind("a:viewer")
    stream = await open_stream(bearer(token))
    await cluster.server.stop_listening()
    await checks(api, 3)
    assert not stream.end.done()
    assert stream.grant.scope.namespaces is None
    await cluster.server.listen()
    await checks(api, 2)
    assert not stream.end.done()
    cluster.unbind(binding)
    assert (await stream.ended()).code == grpc.StatusCode.PERMISSION_DENIED


async def test_outage_counts_from_the_last_check_and_not_from_the_start(
    cluster: Cluster, api: CountingApi, open_stream: OpenStream
) -> None:
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer")
    stream = await open_stream(bearer(token))
    await asyncio.sleep(QUICK.outage + 0.1)
    assert api.asked["tokenreviews"] <= 2 + QUICK.outage / QUICK.recheck[0]
    await cluster.server.stop_listening()
    await checks(api, 3)
    assert not stream.end.done()


async def test_long_outage_ends_the_stream_and_says_why(cluster: Cluster, open_stream: OpenStream) -> None:
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer")
    stream = await open_stream(bearer(token))
    started = time.monotonic()
    await cluster.server.stop_listening()
    denied = await stream.ended()
    took = time.monotonic() - started
    assert QUICK.outage - QUICK.recheck[1] - 0.1 < took < QUICK.outage + 1
    assert denied.code == grpc.StatusCode.UNAVAILABLE
    assert "could not be checked for" in str(denied)
    assert "refused" in str(denied)


async def test_outage_does_not_save_a_stream_whose_right_is_gone(cluster: Cluster, open_stream: OpenStream) -> None:
    token, binding = cluster.token("viewer", "a"), cluster.bind("a:viewer")
    stream = await open_stream(bearer(token))
    await cluster.server.stop_listening()
    cluster.unbind(binding)
    await asyncio.sleep(0.3)
    assert not stream.end.done()
    await cluster.server.listen()
    assert (await stream.ended()).code == grpc.StatusCode.PERMISSION_DENIED
