"""Path templates: what is replaced, and that there are not too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.paths import LONGEST, OTHERS, Templates, template

UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/users/123/posts", "/users/{id}/posts"),
        ("/users/123/posts?page=2", "/users/{id}/posts"),
        (f"/orders/{UUID}", "/orders/{uuid}"),
        (f"/orders/{UUID.upper()}/x", "/orders/{uuid}/x"),
        (f"/files/order-{UUID}.pdf", "/files/order-{uuid}.pdf"),
        ("/media/seg-00012.ts", "/media/seg-{id}.ts"),
        ("/media/film-12/chunk_12.m4s", "/media/film-{id}/chunk_{id}.m4s"),
        ("/video/1080p/init.mp4", "/video/1080p/init.mp4"),
        ("/api/v1/namespaces/kube-system/pods", "/api/v1/namespaces/kube-system/pods"),
        ("/apis/apps/v1beta1/x", "/apis/apps/v1beta1/x"),
        ("/download/1.2.3/tool", "/download/1.2.3/tool"),
        ("/log/2026-11-22/errors", "/log/{date}/errors"),
        ("/log/2026-11-22T10:01:00Z", "/log/{date}"),
        ("/log/20261122", "/log/{date}"),
        ("/report_2026-11-22.pdf", "/report_{date}.pdf"),
        ("/t/deadbeef01234567", "/t/{token}"),
        ("/t/eyJhbGciOiJIUzI1NiIsInR5.abc.def1", "/t/{token}"),
        ("/t/HUBBLE_REDACTED/x", "/t/{token}/x"),
        ("/assets/app.0a1b2c3d4e.js", "/assets/app.{token}.js"),
        ("/user42", "/user{id}"),
        ("/geo/52.5200,13.4050", "/geo/{id}"),
        ("/geo/-33.8688,151.2093/near", "/geo/{id}/near"),
        ("/items/1,22,333.json", "/items/{id}.json"),
        ("/geo/52.5200;13.4050", "/geo/{id}"),
        ("/geo/52.5200%2C13.4050", "/geo/{id}"),
        ("/lat/-52.520012", "/lat/{id}"),
        ("/tags/a,b", "/tags/a,b"),
        ("/s3/bucket", "/s3/bucket"),
        ("/facade/decade", "/facade/decade"),
        ("/é/12", "/é/{id}"),
        ("/\x1b[31m/7", "/\x1b[31m/{id}"),
        ("", ""),
        ("/", "/"),
        ("*", "*"),
        ("//", "//"),
    ],
)
def test_a_path_becomes_a_template(path: str, expected: str) -> None:
    assert template(path) == expected


def test_a_deep_or_long_path_is_bounded() -> None:
    assert template("/a" * 100).endswith("/...")
    assert len(template("/" + "long" * 200)) == LONGEST


def test_many_children_of_one_place_become_one() -> None:
    templates = Templates(most=3)
    names = ["ann", "bob", "cid", "dora", "eve"]
    assert [templates.add(f"/u/{name}/posts") for name in names[:3]] == ["/u/ann/posts", "/u/bob/posts", "/u/cid/posts"]
    assert templates.add("/u/dora/posts") == f"/u/{OTHERS}/posts"
    assert {templates.of(f"/u/{name}/posts") for name in names} == {f"/u/{OTHERS}/posts"}


def test_bounds_hold_below_merged_places() -> None:
    templates = Templates(most=2)
    paths = [f"/u/{user}/{what}" for user, what in (("ann", "a"), ("ann", "b"), ("bob", "c"), ("bob", "d"), ("cid", "e"))]
    for path in paths:
        templates.add(path)
    assert {templates.of(path) for path in paths} == {f"/u/{OTHERS}/{OTHERS}"}


def test_other_places_keep_their_children() -> None:
    templates = Templates(most=2)
    for path in ("/a/x", "/a/y", "/a/z", "/b/x", "/b/y"):
        templates.add(path)
    assert templates.of("/b/y") == "/b/y"
    assert templates.of("/a/y") == f"/a/{OTHERS}"


def test_the_whole_tree_is_bounded() -> None:
    templates = Templates(most=10, places=5)
    for path in ("/a/b/c", "/d/e", "/f/g"):
        templates.add(path)
    assert templates.of("/a/b/c") == "/a/b/c"
    assert templates.of("/f/g") == f"/{OTHERS}"


@given(st.text(max_size=400))
def test_any_text_has_a_bounded_template(path: str) -> None:
    assert len(template(path)) <= LONGEST


@given(st.lists(st.text("abc/1é", max_size=12), max_size=60), st.integers(1, 4), st.integers(1, 30))
def test_there_are_never_more_templates_than_allowed(paths: list[str], most: int, places: int) -> None:
    templates = Templates(most=most, places=places)
    for path in paths:
        templates.add(path)
    assert len({templates.of(path) for path in paths}) <= 2 * places + 1
    first = {templates.of(path).split("/")[1] for path in paths if "/" in templates.of(path)}
    assert len(first) <= (most + 1) * (most + 1)
