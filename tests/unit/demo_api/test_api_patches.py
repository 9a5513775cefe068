"""The three kinds of patches, as pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from flows.demo.api.errors import StatusError
from flows.demo.api.patches import json_patch, merge_patch, strategic_patch

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [  # the examples of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_rfc(target: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(target, patch) == merged


@pytest.mark.parametrize(
    ("target", "operations", "patched"),
    [  # after RFC 6902, appendix A
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "q"}], {"foo": ["bar", "q", "baz"]}),
        ({"foo": [1]}, [{"op": "add", "path": "/foo/-", "value": 2}], {"foo": [1, 2]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": [1, 2, 3]}, [{"op": "remove", "path": "/foo/1"}], {"foo": [1, 3]}),
        ({"foo": 1}, [{"op": "replace", "path": "/foo", "value": 2}], {"foo": 2}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
        ({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
        ({"/": 9, "~1": 10}, [{"op": "remove", "path": "/~01"}], {"/": 9}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
    ],
)
def test_json_patch_follows_the_rfc(target: Json, operations: Any, patched: Json) -> None:
    assert json_patch(target, operations) == patched


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ({}, 400),
        ([1], 400),
        ([{"op": "add"}], 400),
        ([{"op": "remove", "path": "/nope"}], 422),
        ([{"op": "replace", "path": "/nope", "value": 1}], 422),
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "add", "path": "/a/b/c", "value": 2}], 422),
        ([{"op": "add", "path": "/l/9", "value": 2}], 422),
        ([{"op": "remove", "path": "/l/-"}], 422),
        ([{"op": "add", "path": "/x"}], 422),
        ([{"op": "move", "path": "/x"}], 422),
        ([{"op": "shake", "path": "/x"}], 422),
        ([{"op": "add", "path": "x", "value": 1}], 422),
    ],
)
def test_json_patches_that_do_not_apply_are_refused(operations: Any, code: int) -> None:
    with pytest.raises(StatusError) as caught:
        json_patch({"a": 1, "l": []}, operations)
    assert caught.value.code == code


def containers(*pairs: tuple[str, str]) -> Json:
    return {"containers": [{"name": name, "image": image} for name, image in pairs]}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (containers(("b", "2")), [("a", "1"), ("b", "2")]),
        (containers(("c", "3")), [("a", "1"), ("b", "1"), ("c", "3")]),
        ({"containers": [{"name": "a", "$patch": "delete"}]}, [("b", "1")]),
        ({"containers": [{"$patch": "replace"}, {"name": "z", "image": "9"}]}, [("z", "9")]),
        ({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}, [("b", "1"), ("a", "1")]),
        (
            {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], **containers(("c", "3"))},
            [("c", "3"), ("a", "1"), ("b", "1")],
        ),
    ],
)
def test_strategic_patch_merges_lists_by_key(patch: Json, expected: list[tuple[str, str]]) -> None:
    merged = strategic_patch("PodSpec", containers(("a", "1"), ("b", "1")), patch)
    assert [(item["name"], item["image"]) for item in merged["containers"]] == expected


@pytest.mark.parametrize(
    ("type_name", "target", "patch", "merged"),
    [
        ("ObjectMeta", {"labels": {"a": "1"}}, {"labels": {"a": None, "b": "2"}}, {"labels": {"b": "2"}}),
        ("ObjectMeta", {"finalizers": ["a"]}, {"finalizers": ["b", "a"]}, {"finalizers": ["a", "b"]}),
        (
            "ObjectMeta",
            {"finalizers": ["a", "b"]},
            {"$deleteFromPrimitiveList/finalizers": ["a"]},
            {"finalizers": ["b"]},
        ),
        ("Container", {"args": ["a"]}, {"args": ["b"]}, {"args": ["b"]}),
        ("Deployment", {"spec": {"replicas": 1}}, {"spec": {"$patch": "replace", "paused": True}}, {"spec": {"paused": True}}),
        ("Deployment", {"spec": {"strategy": {"type": "x"}}}, {"spec": {"strategy": {"$patch": "delete"}}}, {"spec": {}}),
        (
            "DeploymentSpec",
            {"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}},
            {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}},
            {"strategy": {"type": "Recreate"}},
        ),
    ],
)
def test_strategic_patch_directives(type_name: str, target: Json, patch: Json, merged: Json) -> None:
    assert strategic_patch(type_name, target, patch) == merged


def test_strategic_list_item_without_its_key_is_refused() -> None:
    with pytest.raises(StatusError, match="does not contain declared merge key: name"):
        strategic_patch("PodSpec", {}, {"containers": [{"image": "x"}]})


def test_patches_leave_their_target_alone() -> None:
    target = {"spec": containers(("a", "1"))}
    strategic_patch("Pod", target, {"spec": containers(("a", "2"))})
    merge_patch(target, {"spec": {"containers": []}})
    json_patch(target, [{"op": "remove", "path": "/spec"}])
    assert target == {"spec": containers(("a", "1"))}
