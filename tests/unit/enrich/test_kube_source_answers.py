"""What the Kubernetes source asks of a server, and what each answer to it means: pages, events, 410, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from api_server import LIST, WATCH, kind_of
from kube_samples import eventually, page
from kube_source_samples import PODS
from test_kube_objects import body

from flows.agent.enrich.kubernetes import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from api_server import ApiServer
    from kube_source_samples import Followed

pytestmark = pytest.mark.usefixtures("hurry")


def test_recorded_pages_and_watch_are_followed(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, body("pods-page-1"), body("pods-page-2"), page("315"))
    recorded = body("pods-watch")
    api.on_watch(PODS, recorded[:1000], recorded[1000:40_000], recorded[40_000:], None)
    followed = follow()
    eventually(lambda: "app-1-1" in followed.names())
    assert "app-0-9" in followed.names()
    assert [query.get("limit") for query in api.queries(PODS, LIST)] == ["500"] * 3
    assert [bool(query.get("continue")) for query in api.queries(PODS, LIST)] == [False, True, True]
    watch = api.queries(PODS, WATCH)[0]
    assert (watch["allowWatchBookmarks"], watch["resourceVersion"]) == ("true", "315")
    assert followed.source.status().in_sync


def test_a_watch_resumes_from_the_last_bookmark(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, page("5", "a"))
    api.on_watch(PODS, b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"77"}}}\n')
    api.on_watch(PODS, None)
    follow()
    eventually(lambda: len(api.queries(PODS, WATCH)) == 2)
    assert [query["resourceVersion"] for query in api.queries(PODS, WATCH)] == ["5", "77"]
    assert len(api.queries(PODS, LIST)) == 1


@pytest.mark.parametrize(("status", "piece"), [(200, body("watch-expired-410")), (410, body("list-expired-410"))])
def test_gone_as_event_or_status_lists_again_and_removes_what_vanished(
    api: ApiServer, follow: Callable[[], Followed], status: int, piece: bytes
) -> None:
    api.on_list(PODS, page("5", "a", "b"), page("9", "b", "c"))
    api.on_watch(PODS, piece, status=status)
    api.on_watch(PODS, None)
    followed = follow()
    eventually(lambda: followed.names() == ["b", "c"])
    eventually(lambda: api.queries(PODS, WATCH)[-1]["resourceVersion"] == "9")


def test_an_expired_page_token_starts_the_list_again(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, page("", "a", token="t1"))
    api.on_list(PODS, body("continue-expired-410"), status=410)
    api.on_list(PODS, page("9", "b"))
    followed = follow()
    eventually(lambda: followed.names() == ["b"])
    assert [query.get("continue") for query in api.queries(PODS, LIST)] == [None, "t1", None]


def test_a_watch_that_always_ends_at_once_lists_again(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, page("999"), page("3", "a"))
    for _ in range(5):
        api.on_watch(PODS)  # what a server says to a version from its future
    api.on_watch(PODS, None)
    followed = follow()
    eventually(lambda: followed.names() == ["a"])


def test_other_errors_in_a_watch_are_shown_and_it_goes_on(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, page("5", "a"))
    api.on_watch(PODS, body("watchlist-refused-by-old-etcd"))
    api.on_watch(PODS, b'{"type":"DELETED","object":{"metadata":{"uid":"uid-a","resourceVersion":"6"}}}\n', None)
    followed = follow()
    eventually(lambda: api.queries(PODS, WATCH) and followed.names() == [])
    eventually(lambda: followed.source.status().in_sync)


@pytest.mark.parametrize(
    ("status", "answer", "says"),
    [
        (403, body("forbidden-403"), "grant list and watch"),
        (500, b"<html>oops</html>", "HTTP status 500"),
        (200, b"not json", "not what the API sends"),
    ],
)
def test_refusals_are_told_with_their_cure(
    api: ApiServer, follow: Callable[[], Followed], status: int, answer: bytes, says: str
) -> None:
    api.on_list(PODS, answer, status=status)
    followed = follow()
    eventually(lambda: says in followed.source.status().errors.get("pods", ""))
    assert not followed.source.status().in_sync


def test_a_refused_token_is_read_again(api: ApiServer, follow: Callable[[], Followed], tmp_path: Path) -> None:
    api.on_list(PODS, body("unauthorized-401"), status=401)
    followed = follow()
    eventually(lambda: "token is refused" in followed.source.status().errors.get("pods", ""))
    (tmp_path / "token").write_text("second-token", "ascii")
    api.on_list(PODS, page("5", "a"))
    eventually(lambda: followed.names() == ["a"])
    tokens = [headers.get("authorization", headers.get("Authorization")) for _, _, headers in api.asked]
    assert (tokens[0], tokens[-1]) == ("Bearer first-token", "Bearer second-token")


def test_a_server_without_a_resource_has_none_of_it(api: ApiServer, follow: Callable[[], Followed]) -> None:
    api.on_list(PODS, b'{"code":404}', status=404)
    followed = follow()
    eventually(lambda: followed.source.status().in_sync)
    assert followed.names() == []


def test_only_metadata_is_asked_for_where_that_is_enough(api: ApiServer, tmp_path: Path) -> None:
    source = connect("node-0", api.kubeconfig(tmp_path))
    source.start(lambda _: None)
    eventually(lambda: source.status().in_sync)
    source.stop()
    accepts = {(path, kind_of(query)): headers["Accept"] for path, query, headers in api.asked}
    assert "as=PartialObjectMetadataList" in accepts["/apis/apps/v1/replicasets", LIST]
    assert "as=PartialObjectMetadata;" in accepts["/apis/batch/v1/jobs", WATCH]
    assert accepts[PODS, LIST] == "application/json"
    slices = api.queries("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", LIST)
    assert slices[0]["labelSelector"] == "kubernetes.io/service-name=kubernetes"


def test_pods_elsewhere_are_asked_for_only_while_they_have_an_address(api: ApiServer, tmp_path: Path) -> None:
    source = connect("node-0", api.kubeconfig(tmp_path))
    source.start(lambda _: None)
    eventually(lambda: source.status().in_sync)
    source.stop()
    selectors = {query["fieldSelector"] for query in api.queries(PODS, WATCH)}
    elsewhere = "spec.nodeName!=node-0,status.podIP!=,status.phase!=Succeeded,status.phase!=Failed"
    assert selectors == {elsewhere, "spec.nodeName=node-0"}
    assert {query["labelSelector"] for query in api.queries("/apis/apps/v1/replicasets", WATCH)} == {"!pod-template-hash"}


@pytest.mark.parametrize(("nodes", "pods", "seconds"), [(3, 12, 0.001), (1000, 10_000, 60.0), (1000, 1000, 5.0)])
def test_a_new_list_of_everything_is_shared_out_by_the_size_of_the_cluster(
    api: ApiServer, tmp_path: Path, nodes: int, pods: int, seconds: float
) -> None:
    source = connect("node-0", api.kubeconfig(tmp_path))
    source._reflectors["nodes"].count = nodes
    assert source._spread(pods) <= seconds
    assert source._spread(pods) >= seconds * 0.1
    source.stop()
