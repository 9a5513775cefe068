"""Lists read as they arrive: whatever the cuts, the white space and what the objects hold."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kube_samples import RESOURCE, Thing, page, thing

from flows.kube import listing
from flows.kube.errors import ApiError
from flows.kube.listing import ListReader
from flows.kube.resource import Resource
from flows.kube.wire import ListMeta, ObjectMeta, Wire


class Nested(Wire):
    metadata: ObjectMeta
    inner: list[Thing] | None = None
    uid: str = ""


NESTED = Resource("nested", "/n", Nested, lambda one: Nested(one.metadata, one.inner, one.metadata.uid))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def read(data: bytes, size: int = 1 << 30, resource: Resource[Any] = RESOURCE) -> tuple[ListMeta, list[Any], int]:
    """metadata, records, and how many parts they came in."""
    reader = ListReader(resource)
    parts = list(reader.read(cut(data, size)))
    return reader.metadata, [record for part in parts for record in part], len(parts)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n\t", " : ")])
@pytest.mark.parametrize("metadata_last", [False, True])
def test_lists_of_any_layout_are_read_in_parts(
    monkeypatch: pytest.MonkeyPatch, separators: tuple[str, str], metadata_last: bool
) -> None:
    monkeypatch.setattr(listing, "PART", 200)
    names = [f"thing-{i}" for i in range(100)]
    body = {"kind": "ThingList", **page("7", *names, token="t")}
    if metadata_last:
        body["metadata"] = body.pop("metadata")
    metadata, records, parts = read(json.dumps(body, separators=separators).encode(), 64)
    assert (metadata.resource_version, metadata.continue_token) == ("7", "t")
    assert [one.name for one in records] == names
    assert parts > 10


@pytest.mark.parametrize("items", [b"[]", b"null", b" [ ] "])
def test_empty_lists(items: bytes) -> None:
    metadata, records, parts = read(b'{"metadata":{"resourceVersion":"3"},"items":' + items + b"}\n")
    assert (metadata.resource_version, records, parts) == ("3", [], 0)


def test_a_list_without_items() -> None:
    assert read(b'{"metadata":{"resourceVersion":"3"}}')[0].resource_version == "3"


def test_what_looks_like_the_end_of_an_object_within_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PART", 100)
    inner = [thing(f'x"}},{{"metadata":{{}}}}]{i}') for i in range(20)]
    objects = [{"metadata": {"name": str(i), "uid": str(i)}, "inner": inner} for i in range(5)]
    body = json.dumps({"metadata": {"resourceVersion": "1"}, "items": objects}, separators=(",", ":")).encode()
    for size in (50, 333, 1 << 20):
        _, records, _ = read(body, size, NESTED)
        assert [(one.uid, len(one.inner)) for one in records] == [(str(i), 20) for i in range(5)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"{}",
        b'{"metadata":{},"items":[{"metadata":{}}',
        b'{"metadata":{},"items":[{"metadata":{}},]}',
        b'{"metadata":{},"items":[{"metadata":{"name":7}}]}',
        b'{"metadata":{},"items":[{"metadata":{}} "x"]}',
        b'{"items":[{"metadata":{}}]}',
        b'{"metadata":{},"items":[{"metadata":{}}]} trailing',
    ],
)
def test_what_is_no_list_is_an_error(data: bytes) -> None:
    for size in (3, 1 << 20):
        with pytest.raises(msgspec.DecodeError):
            read(data, size)


def test_an_object_without_end_is_an_error_before_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LIMIT", 1 << 21)
    endless = (b'{"metadata":{},"items":[{"metadata":{"name":"', *[b"x" * 65536] * 100)
    with pytest.raises(ApiError, match="without the end of an object"):
        list(ListReader(RESOURCE).read(endless))


@given(
    st.lists(st.text(max_size=20), max_size=30),
    st.integers(1, 200),
    st.integers(20, 400),
    st.sampled_from([(",", ":"), (", ", ": ")]),
)
def test_any_names_in_any_cuts(names: list[str], size: int, part: int, separators: tuple[str, str]) -> None:
    body = json.dumps(page("7", *names), separators=separators, ensure_ascii=False).encode()
    before, listing.PART = listing.PART, part  # type: ignore[misc]
    try:
        metadata, records, _ = read(body, size)
    finally:
        listing.PART = before  # type: ignore[misc]
    assert (metadata.resource_version, [one.name for one in records]) == ("7", names)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_rubbish_is_read_or_refused_and_nothing_else(rubbish: bytes, size: int) -> None:
    for data in (rubbish, b'{"metadata":{},"items":[{"metadata":{}},' + rubbish):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            read(data, size)
