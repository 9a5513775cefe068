"""The same requests that were put to a real API server get the same answers here."""

from __future__ import annotations

import base64
import json
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from api_recordings import comparable, recording

if TYPE_CHECKING:
    from api_cluster import Cluster

Json = dict[str, Any]
PATHS = {
    "nodes": "/api/v1/nodes",
    "services": "/api/v1/services",
    "replicasets": "/apis/apps/v1/replicasets",
    "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
    "networkpolicies": "/apis/networking.k8s.io/v1/networkpolicies",
}
STRIPPED = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
BROKEN_TOKEN = "garbage"
"""The token of the recording, whose first byte is 0x81."""
POD_HEADERS = {"Content-Type": "application/json"}


def bare(item: Json) -> Json:
    """What a client would send to make a recorded object."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in STRIPPED}
    return {**item, "metadata": metadata}


async def rebuild(cluster: Cluster, path: str, items: list[Json]) -> None:
    """Make recorded objects the way the recording's own client did: create, then write the status."""
    base, _, plural = path.rpartition("/")
    for item in items:
        namespace = item["metadata"].get("namespace")
        place = f"{base}/namespaces/{namespace}/{plural}" if namespace else path
        headers = {"User-Agent": "unknown"}
        answer = await cluster.ask("POST", place, bare(item), headers=headers)
        assert answer.status == 201, answer.text
        if "status" in item and plural != "services":
            target = f"{place}/{item['metadata']['name']}/status"
            assert (await cluster.ask("PUT", target, bare(item), headers=headers)).status == 200


async def namespaces(cluster: Cluster) -> None:
    for name in ("ns-0", "ns-1"):
        await cluster.create("/api/v1/namespaces", {"metadata": {"name": name}})


def without_writers(body: Any) -> Any:
    """Without `managedFields`, which tell of the recording's own tools."""
    if isinstance(body, dict):
        return {key: without_writers(value) for key, value in body.items() if key != "managedFields"}
    return [without_writers(item) for item in body] if isinstance(body, list) else body


def assert_same_headers(answer_headers: dict[str, str], recorded: dict[str, str]) -> None:
    lower = {name.lower() for name in answer_headers}
    for name in recorded:
        if name not in {"Content-Length", "Transfer-Encoding"}:
            assert name.lower() in lower, name
    assert answer_headers["Content-Type"].split(";")[0] == recorded["Content-Type"]
    assert answer_headers["Cache-Control"] == recorded["Cache-Control"]
    assert "Server" not in answer_headers


@pytest.mark.parametrize("name", PATHS)
async def test_recorded_objects_come_back_as_the_real_server_shows_them(cluster: Cluster, name: str) -> None:
    recorded = recording(name)
    await namespaces(cluster)
    items = recorded.json["items"]
    await rebuild(cluster, PATHS[name], items)
    answer = await cluster.ask("GET", PATHS[name])
    assert answer.status == recorded.status
    assert_same_headers(answer.headers, recorded.headers)
    ours, theirs = without_writers(comparable(answer.json)), without_writers(comparable(recorded.json))
    theirs["metadata"].pop("remainingItemCount", None)
    assert ours == theirs


async def test_who_set_which_field_is_noted_as_recorded(cluster: Cluster) -> None:
    await namespaces(cluster)
    service = recording("services").json["items"][1]
    sent = {key: service["spec"][key] for key in ("ports", "selector")}
    obj = {"metadata": {"name": "app-0"}, "spec": sent}
    answer = await cluster.ask("POST", "/api/v1/namespaces/ns-0/services", obj, headers={"User-Agent": "unknown"})
    ours = answer.json["metadata"]["managedFields"][0]
    theirs = service["metadata"]["managedFields"][0]
    assert ours.keys() == theirs.keys()
    assert (ours["manager"], ours["operation"]) == (theirs["manager"], theirs["operation"])
    assigned = {"f:clusterIP", "f:clusterIPs", "f:ipFamilies", "f:ipFamilyPolicy"}
    assert ours["fieldsV1"]["f:spec"].keys() - assigned == theirs["fieldsV1"]["f:spec"].keys()
    assert ours["fieldsV1"]["f:spec"]["f:ports"] == theirs["fieldsV1"]["f:spec"]["f:ports"]


async def pods(cluster: Cluster) -> list[Json]:
    await namespaces(cluster)
    recorded = [*recording("pods-page-1").json["items"], *recording("pods-page-2").json["items"]]
    more = [{**recorded[0], "metadata": {"name": f"app-1-{n}", "namespace": "ns-1"}} for n in range(2)]
    await rebuild(cluster, "/api/v1/pods", [*recorded, *more])
    return recorded


async def test_pages_are_those_of_the_real_server(cluster: Cluster) -> None:
    await pods(cluster)
    first, second = recording("pods-page-1"), recording("pods-page-2")
    one = await cluster.ask("GET", "/api/v1/pods?limit=5")
    token = one.json["metadata"]["continue"]
    two = await cluster.ask("GET", f"/api/v1/pods?limit=5&continue={token}")
    assert_same_headers(one.headers, first.headers)
    for ours, theirs in ((one, first), (two, second)):
        assert without_writers(comparable(ours.json)) == without_writers(comparable(theirs.json))
        assert decoded(ours.json)["start"] == decoded(theirs.json)["start"]
        assert decoded(ours.json).keys() == decoded(theirs.json).keys()
    three = await cluster.ask("GET", f"/api/v1/pods?limit=5&continue={two.json['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in three.json["items"]] == ["app-1-0", "app-1-1"]
    assert three.json["metadata"].keys() == {"resourceVersion"}


def decoded(page: Json) -> Json:
    token = page["metadata"]["continue"]
    body: Json = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return body


async def test_page_token_that_outlived_its_version_comes_with_one_to_go_on(cluster: Cluster) -> None:
    await pods(cluster)
    first = (await cluster.ask("GET", "/api/v1/pods?limit=2")).json
    cluster.storage.compact()
    token = first["metadata"]["continue"]
    answer, recorded = await cluster.ask("GET", f"/api/v1/pods?limit=2&continue={token}"), recording("continue-expired-410")
    assert (answer.status, comparable(answer.json)) == (recorded.status, comparable(recorded.json))
    again, theirs = decoded(answer.json), decoded(recorded.json)
    assert again == theirs
    rest = await cluster.ask("GET", f"/api/v1/pods?limit=5&continue={answer.json['metadata']['continue']}")
    assert next(item["metadata"]["name"] for item in rest.json["items"]) == "app-0-2"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("continue-bad-400", f"/api/v1/pods?limit=5&continue={BROKEN_TOKEN}"),
        ("list-expired-410", "/api/v1/pods?resourceVersion=2&resourceVersionMatch=Exact"),
        ("apis", "/apis"),
    ],
)
async def test_bodies_are_equal(cluster: Cluster, name: str, path: str) -> None:
    cluster.storage.compact()
    answer, recorded = await cluster.ask("GET", path), recording(name)
    assert answer.status == recorded.status
    assert_same_headers(answer.headers, recorded.headers)
    if name == "apis":
        ours = {group["name"]: group for group in answer.json["groups"]}
        theirs = {group["name"]: group for group in recorded.json["groups"]}
        assert ours.items() <= theirs.items()
    else:
        assert answer.text == recorded.body


async def test_version_and_api_have_the_recorded_fields(cluster: Cluster) -> None:
    version, api = await cluster.ask("GET", "/version"), await cluster.ask("GET", "/api")
    assert version.json.keys() == recording("version").json.keys()
    assert version.json["minor"] == recording("version").json["minor"]
    assert version.text.startswith('{\n  "major"')
    address = cluster.server.url.removeprefix("https://")
    assert api.text.strip() == recording("api").body.strip().replace("127.0.0.1:16443", address)


async def test_namespaces_have_the_recorded_shape(cluster: Cluster) -> None:
    answer, recorded = await cluster.ask("GET", "/api/v1/namespaces?limit=3"), recording("namespaces")
    ours, theirs = without_writers(comparable(answer.json)), without_writers(comparable(recorded.json))
    assert ours["items"] == theirs["items"]
    assert decoded(answer.json)["start"] == decoded(recorded.json)["start"]
    assert ours["metadata"] == {"remainingItemCount": 1}


# Who may ask


async def ask_as(cluster: Cluster, headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
    context = ssl.create_default_context(cafile=str(cluster.pki.ca_path))
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(cluster.server.url + "/api/v1/pods", headers=headers) as response,
    ):
        return response.status, dict(response.headers), await response.text()


async def viewer_token(cluster: Cluster) -> str:
    await namespaces(cluster)
    account = await cluster.create("/api/v1/namespaces/ns-0/serviceaccounts", {"metadata": {"name": "viewer"}})
    return cluster.pki.service_account_token("ns-0", "viewer", account["metadata"]["uid"])


async def test_no_credentials_are_forbidden_as_recorded(cluster: Cluster) -> None:
    status, headers, text = await ask_as(cluster, {"User-Agent": "curl/8"})
    assert (status, text) == (403, recording("anonymous-403").body)
    assert_same_headers(headers, recording("anonymous-403").headers)


async def test_bad_token_is_unauthorized_as_recorded(cluster: Cluster) -> None:
    status, headers, text = await ask_as(cluster, {"Authorization": "Bearer rubbish", "User-Agent": "x"})
    assert (status, text) == (401, recording("unauthorized-401").body)
    assert not any(name.startswith("X-Kubernetes") for name in headers)


async def test_service_account_without_rights_is_forbidden_as_recorded(cluster: Cluster) -> None:
    token = await viewer_token(cluster)
    status, headers, text = await ask_as(cluster, {"Authorization": f"Bearer {token}", "User-Agent": "x"})
    assert (status, text) == (403, recording("forbidden-403").body)
    assert headers["X-Content-Type-Options"] == "nosniff"


REVIEW = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
FLOWS_READER = {"rules": [{"verbs": ["get"], "apiGroups": ["flows.dev"], "resources": ["flows"]}]}


@pytest.mark.parametrize("name", ["allowed-namespace", "denied-cluster", "denied-namespace", "denied-nobody"])
async def test_subject_access_reviews_are_answered_as_recorded(cluster: Cluster, name: str) -> None:
    await namespaces(cluster)
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    await cluster.create(f"{rbac}/clusterroles", {"metadata": {"name": "flows-reader"}, **FLOWS_READER})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flows-reader"}
    subjects = [{"kind": "ServiceAccount", "name": "viewer", "namespace": "ns-0"}]
    binding = {"metadata": {"name": "flows-reader"}, "roleRef": role, "subjects": subjects}
    await cluster.create(f"{rbac}/namespaces/ns-0/rolebindings", binding)
    recorded = recording(f"subjectaccessreview-{name}")
    asked = {"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": recorded.json["spec"]}
    answer = await cluster.ask("POST", REVIEW, asked)
    assert (answer.status, comparable(answer.json)) == (recorded.status, comparable(recorded.json))
    assert_same_headers(answer.headers, recorded.headers)


async def test_token_reviews_are_answered_as_recorded(cluster: Cluster) -> None:
    token = await viewer_token(cluster)
    for name, text in (("tokenreview-ok", token), ("tokenreview-bad", "bad.token.here")):
        answer = await cluster.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": text}})
        recorded = recording(name)
        ours, theirs = comparable(answer.json), comparable(recorded.json)
        ours["spec"]["token"] = theirs["spec"]["token"]
        for body in (ours, theirs):
            extra = body["status"]["user"].get("extra")
            if extra:
                extra["authentication.kubernetes.io/credential-id"] = ["JTI"]
        assert (answer.status, ours) == (recorded.status, theirs)


# Watches


async def watched(cluster: Cluster, query: str, count: int = 100) -> tuple[dict[str, str], list[Json]]:
    url = f"{cluster.server.url}/api/v1/pods?watch=1&{query}"
    events: list[Json] = []
    async with cluster.session.get(url, headers={"User-Agent": "x"}) as response:
        assert response.status == 200
        async for line in response.content:
            events.append(json.loads(line))
            if len(events) >= count:
                break
        return dict(response.headers), events


async def test_watch_from_a_forgotten_version_says_so_in_an_event(cluster: Cluster) -> None:
    cluster.storage.version = 372
    compacted = cluster.storage.compact()
    headers, events = await watched(cluster, "resourceVersion=5")
    assert compacted == 373
    assert events == recording("watch-expired-410").lines
    assert headers["Transfer-Encoding"] == "chunked"


async def test_watch_list_is_refused_as_recorded(cluster: Cluster) -> None:
    query = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    _, events = await watched(cluster, query)
    assert events == recording("watchlist-refused-by-old-etcd").lines


async def test_watch_from_the_future_waits_in_silence(cluster: Cluster) -> None:
    assert recording("watch-future-version").lines == []
    headers, events = await watched(cluster, "resourceVersion=999999999&timeoutSeconds=1")
    assert events == []
    assert_same_headers(headers, recording("watch-future-version").headers)


async def test_watch_shows_changes_and_bookmarks_as_recorded(cluster: Cluster) -> None:
    await pods(cluster)
    listed = await cluster.ask("GET", "/api/v1/pods")
    version = listed.json["metadata"]["resourceVersion"]
    pod = "/api/v1/namespaces/ns-0/pods/app-0-0"
    merge = {"Content-Type": "application/merge-patch+json"}
    labels = {"metadata": {"labels": {"x": "y"}}}
    assert (await cluster.ask("PATCH", pod, labels, headers=merge)).status == 200
    assert (await cluster.ask("DELETE", f"{pod}?gracePeriodSeconds=0")).status == 200
    _, events = await watched(cluster, f"allowWatchBookmarks=true&resourceVersion={version}", 3)
    recorded = {event["type"]: event for event in recording("pods-watch").lines}
    assert [event["type"] for event in events] == ["MODIFIED", "DELETED", "BOOKMARK"]
    first = next(event for event in recording("pods-watch").lines if event["type"] == "MODIFIED")
    assert without_writers(comparable(events[0])) == without_writers(comparable(first))
    assert events[1]["object"].keys() == recorded["DELETED"]["object"].keys()
    assert comparable(events[2]) == comparable(recorded["BOOKMARK"])
    assert events[2]["object"]["metadata"].keys() == {"resourceVersion"}
