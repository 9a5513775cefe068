"""Faults on demand: throttled users, closed watches, a watch cache that starts anew; and the access log that counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest
from api_cluster import Cluster, eventually
from hypothesis import given
from hypothesis import strategies as st

from flows.demo.api import protobuf
from flows.demo.api.access import User
from flows.demo.api.errors import StatusError
from flows.demo.api.fairness import Fairness

if TYPE_CHECKING:
    from collections.abc import Iterator

PODS = "/api/v1/namespaces/default/pods"
ADMIN = User("root", ("system:masters",))
ONE, OTHER = User("one", ()), User("other", ())


def test_each_user_has_a_share_of_every_second_and_administrators_are_exempt() -> None:
    now = [100.0]
    fairness = Fairness(lambda: now[0])
    assert all(fairness.admits(ONE) for _ in range(50))
    fairness.limit(2, 10)
    assert [fairness.admits(ONE) for _ in range(3)] == [True, True, False]
    assert fairness.admits(OTHER)
    assert all(fairness.admits(ADMIN) for _ in range(50))
    now[0] = 101.0
    assert fairness.admits(ONE)
    now[0] = 110.0
    assert all(fairness.admits(ONE) for _ in range(50))
    assert fairness.refused == 1


async def test_a_throttled_user_is_told_when_to_come_again(cluster: Cluster) -> None:
    account = cluster.storage.create("serviceaccounts", {"metadata": {"name": "a", "namespace": "default"}})
    token = cluster.pki.service_account_token("default", "a", account["metadata"]["uid"])
    cluster.server.api.fairness.limit(0, 60)
    connector = aiohttp.TCPConnector(ssl=client_without_certificate(cluster))
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        async with session.get(cluster.server.url + PODS) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
            assert await response.text() == "Too many requests, please try again later.\n"
        cluster.server.api.fairness.limit(0, 0)
        async with session.get(cluster.server.url + PODS) as response:
            assert response.status == 403
    assert (await cluster.ask("GET", PODS)).status == 200


def client_without_certificate(cluster: Cluster) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cluster.pki.ca_path))


async def test_requests_are_counted_by_verb_resource_and_answer(cluster: Cluster) -> None:
    await cluster.ask("GET", PODS)
    await cluster.ask("GET", PODS + "/x")
    await cluster.ask("GET", PODS + "?watch=1&timeoutSeconds=1")
    rows = cluster.server.api.journal.since(0)
    seen = [(row["user"], row["agent"], row["verb"], row["resource"], row["code"]) for row in rows]
    me = ("kubernetes-admin", "recorder/1")
    assert seen == [(*me, "list", "pods", 200), (*me, "get", "pods", 404), (*me, "watch", "pods", 200)]
    assert cluster.server.api.journal.since(rows[-1]["time"] + 1) == []


async def test_watches_are_closed_on_demand_and_can_go_on(cluster: Cluster) -> None:
    version = cluster.storage.version
    url = cluster.server.url + PODS + f"?watch=1&resourceVersion={version}"
    async with cluster.session.get(url) as response:
        await eventually(lambda: cluster.server.api._watches)
        assert cluster.server.api.close_watches() == 1
        async with asyncio.timeout(5):
            assert await response.content.read() == b""
    assert cluster.server.api._watches == set()
    answer = await cluster.ask("GET", PODS + f"?watch=1&resourceVersion={version}&timeoutSeconds=1")
    assert (answer.status, answer.text) == (200, "")


async def test_a_new_watch_cache_knows_nothing_older_but_pages_go_on(cluster: Cluster) -> None:
    cluster.storage.create("configmaps", {"metadata": {"name": "a", "namespace": "default"}})
    cluster.storage.create("configmaps", {"metadata": {"name": "b", "namespace": "default"}})
    page = (await cluster.ask("GET", "/api/v1/namespaces/default/configmaps?limit=1")).json["metadata"]
    version = cluster.storage.version
    cluster.storage.create("configmaps", {"metadata": {"name": "c", "namespace": "default"}})
    cluster.server.api.new_watch_cache()
    old = await cluster.ask("GET", PODS + f"?watch=1&resourceVersion={version}&timeoutSeconds=1")
    event = json.loads(old.text)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    now = await cluster.ask("GET", PODS + f"?watch=1&resourceVersion={version + 1}&timeoutSeconds=1")
    assert now.text == ""
    rest = await cluster.ask("GET", f"/api/v1/namespaces/default/configmaps?continue={page['continue']}")
    assert [item["metadata"]["name"] for item in rest.json["items"]] == ["b"]


# Bodies in protobuf


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    def parts(rest: int) -> Iterator[int]:
        while rest > 127:
            yield rest & 127 | 128
            rest >>= 7
        yield rest

    return bytes(parts(value))


def envelope(version: bytes, kind: bytes, raw: bytes) -> bytes:
    return b"k8s\0" + field(1, field(1, version) + field(2, kind)) + field(2, raw) + field(3, b"")


def test_a_token_request_is_read_from_protobuf() -> None:
    raw = field(1, b"") + field(2, field(1, b"aud") + field(4, 1200))
    assert protobuf.decode(envelope(b"authentication.k8s.io/v1", b"TokenRequest", raw)) == {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["aud"], "expirationSeconds": 1200},
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "expected it to begin with k8s"),
        (envelope(b"v1", b"Pod", b""), "Pod is not read from protobuf"),
        (envelope(b"authentication.k8s.io/v1", b"TokenRequest", field(2, b"\x22\x05ab")), "ends in the middle of a field"),
        (envelope(b"authentication.k8s.io/v1", b"TokenRequest", field(2, 7)), "spec of the wrong type"),
        (b"k8s\0" + b"\x0d1234", "wire type 5"),
        (b"k8s\0" + b"\xff" * 11, "more than ten bytes"),
    ],
)
def test_what_is_no_such_protobuf_is_told(body: bytes, words: str) -> None:
    with pytest.raises(StatusError, match=words) as caught:
        protobuf.decode(body)
    assert caught.value.code == 400


@given(st.binary(max_size=100))
def test_foreign_bytes_are_an_object_or_an_error(data: bytes) -> None:
    with contextlib.suppress(StatusError):
        assert isinstance(protobuf.decode(b"k8s\0" + data), dict)


async def test_kubectl_creates_tokens_and_asks_what_it_may(cluster: Cluster) -> None:
    cluster.storage.create("serviceaccounts", {"metadata": {"name": "viewer", "namespace": "default"}})
    token = (await cluster.kubectl("create", "token", "viewer", "--duration", "20m")).strip()
    claims = cluster.pki.token_claims(token)
    assert claims is not None
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("system:serviceaccount:default:viewer", 1200)
    code, _, error = await cluster.kubectl_result("create", "token", "viewer", "--duration", "5m")
    assert (code, "may not specify a duration less than 10 minutes" in error) == (1, True), error
    assert await cluster.kubectl("auth", "can-i", "get", "pods") == "yes\n"
    assert "kubernetes-admin" in await cluster.kubectl("auth", "whoami")
