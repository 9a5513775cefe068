"""Manifests as `apply` reads them, and the patch it makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.demo.client import in_order, merge_patch, parse_manifests
from flows.demo.errors import UsageError
from flows.demo.layout import MANIFESTS

Json = dict[str, Any]
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: demo}\n"
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n"


def test_documents_and_lists_are_taken_apart() -> None:
    text = f'{POD}---\n---\n{DEPLOYMENT}---\n{{"apiVersion": "v1", "kind": "List", "items": [{{"apiVersion": "v1", '
    text += '"kind": "Service", "metadata": {"name": "s"}}]}\n'
    assert [(m.title, m.path) for m in parse_manifests(text, "f")] == [
        ("pod/a", "/api/v1/namespaces/default/pods"),
        ("deployment.apps/d", "/apis/apps/v1/namespaces/demo/deployments"),
        ("service/s", "/api/v1/namespaces/default/services"),
    ]


def test_date_is_text() -> None:
    (manifest,) = parse_manifests(POD.replace("}", ", annotations: {when: 2026-11-23, odd: 2001-99-99}}"), "f")
    assert manifest.body["metadata"]["annotations"] == {"when": "2026-11-23", "odd": "2001-99-99"}


def test_cluster_wide_kind_has_no_namespace_in_its_path() -> None:
    (manifest,) = parse_manifests(NAMESPACE, "f")
    assert manifest.path == "/api/v1/namespaces"


def test_what_others_live_in_comes_first() -> None:
    assert [m.kind.kind for m in in_order(parse_manifests(f"{DEPLOYMENT}---\n{POD}---\n{NAMESPACE}", "f"))] == [
        "Namespace",
        "Deployment",
        "Pod",
    ]


BAD = [
    ("", "f: holds no object"),
    ("a: [", "f: not YAML: .+ line 1"),
    ("- 1\n", "f, object 1: expected a mapping .+ got list"),
    ("hello", "f, object 1: expected a mapping .+ got str"),
    ("kind: Pod\nmetadata: {name: a}\n", r"f, object 1: Pod \(None\) is not served"),
    (f"{POD}---\napiVersion: apps/v1\nkind: Deploymnt\n", r"f, object 2: Deploymnt .+ expected Deployment \(apps/v1\)"),
    ("apiVersion: v1\nkind: Pod\n", "f, object 1: Pod has no metadata.name"),
    ("apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n", "has no metadata.name"),
    ("apiVersion: [v1]\nkind: {a: b}\n", "is not served"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_manifest_is_one_line_that_says_where(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        parse_manifests(text, "f")
    assert "\n" not in str(raised.value)


@given(st.text())
def test_any_text_is_a_manifest_or_a_usage_error(text: str) -> None:
    try:
        parse_manifests(text, "f")
    except UsageError:
        return


PATCHES: list[tuple[Json, Json, Json, Json]] = [
    ({}, {"a": 1}, {"a": 1, "default": 2}, {}),
    ({}, {"a": 2}, {"a": 1}, {"a": 2}),
    ({"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 1}, {"b": None}),
    ({"b": 1}, {}, {}, {}),
    ({}, {"s": {"a": 2}}, {"s": {"a": 1, "x": 9}}, {"s": {"a": 2}}),
    ({"s": {"a": 1, "b": 1}}, {"s": {"a": 1}}, {"s": {"a": 1, "b": 1, "x": 1}}, {"s": {"b": None}}),
    ({}, {"l": [{"n": 1}]}, {"l": [{"n": 1, "default": 0}]}, {}),
    ({}, {"l": [{"n": 1}, {"n": 2}]}, {"l": [{"n": 1}]}, {"l": [{"n": 1}, {"n": 2}]}),
]


@pytest.mark.parametrize(("last", "wanted", "live", "patch"), PATCHES)
def test_patch_sets_what_is_wanted_and_removes_what_no_longer_is(last: Json, wanted: Json, live: Json, patch: Json) -> None:
    assert merge_patch(last, wanted, live) == patch


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda p: p.name)
def test_own_manifests_are_read(path: Any) -> None:
    assert parse_manifests(path.read_text(), path.name)
