"""Label selectors: Kubernetes' grammar over Cilium's labels."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.filter.selector import Label, SelectorError, parse_label, parse_selector


def selects(selector: str, *labels: str) -> bool:
    return parse_selector(selector).selects(sorted(map(parse_label, labels)))


@pytest.mark.parametrize(
    ("selector", "labels"),
    [
        ("", []),
        ("app", ["k8s:app=web"]),
        ("app=web", ["k8s:app=web"]),
        ("app==web", ["app=web"]),
        ("k8s:app=web", ["k8s:app=web"]),
        ("any:app", ["container:app"]),
        ("reserved:world", ["reserved:world"]),
        ("world", ["reserved:world"]),
        ("k8s:io.kubernetes.pod.namespace=shop", ["k8s:io.kubernetes.pod.namespace=shop"]),
        ("kubernetes.io/arch = amd64", ["kubernetes.io/arch=amd64"]),
        ("app!=web", ["app=db"]),
        ("app!=web", []),
        ("!app", ["tier=front"]),
        ("! app , tier", ["tier=front"]),
        ("app in (web, db),tier notin (back)", ["app=db"]),
        ("app in ()", ["app"]),
        ("app in (,x)", ["app"]),
        ("app=,tier", ["app", "tier=x"]),
        ("replicas>2", ["replicas=3"]),
        ("replicas<2", ["replicas=-1"]),
        ("in in (in,notin)", ["in=notin"]),
        ("a=in", ["a=in"]),
    ],
)
def test_selected(selector: str, labels: list[str]) -> None:
    assert selects(selector, *labels)


@pytest.mark.parametrize(
    ("selector", "labels"),
    [
        ("app", []),
        ("app=web", ["app=website"]),
        ("k8s:app=web", ["container:app=web"]),
        ("app=web,tier", ["app=web"]),
        ("app!=web", ["app=web"]),
        ("!app", ["k8s:app"]),
        ("app notin (web)", ["app=web"]),
        ("replicas>2", ["replicas=two"]),
        ("replicas>2", []),
        ("label1=val1", ["label1=val1=toomuch"]),
    ],
)
def test_not_selected(selector: str, labels: list[str]) -> None:
    assert not selects(selector, *labels)


@pytest.mark.parametrize(
    ("selector", "reason"),
    [
        ("a in (b", "found '', expected: ',' or ')'"),
        ("a in b", "found 'b', expected: '('"),
        ("a,", "found '', expected: identifier after ','"),
        ("a b", "found 'b', expected: =, ==, !="),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("a=(b)", "found '(', expected: identifier"),
        ("=", "found '=', expected: identifier"),
        ("()", "found '(', expected: identifier"),
        (" ", "found '', expected: identifier"),
        ("any:k8s:bla", "invalid label key"),
        ("a-", "invalid label key"),
        ("UP/a/b", "invalid label key"),
        ("a=b/c", "invalid label value"),
        (f"a={'x' * 64}", "invalid label value"),
        ("a>b", "must be an integer"),
    ],
)
def test_refused(selector: str, reason: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_selector(selector)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("k8s:app=web", ("k8s", "app", "web")),
        ("app=web", ("unspec", "app", "web")),
        ("app", ("unspec", "app", "")),
        ("$world", ("reserved", "world", "")),
        ("reserved.world", ("reserved", "world", "")),
        ("reserved:=world", ("reserved", "world", "")),
        ("a=b:c", ("a=b", "c", "")),
        ("", ("unspec", "", "")),
    ],
)
def test_labels_as_cilium_reads_them(text: str, label: tuple[str, str, str]) -> None:
    assert parse_label(text) == Label(*label)


KEYS = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@given(st.text())
def test_any_text_is_a_label(text: str) -> None:
    assert isinstance(parse_label(text), Label)


@given(st.one_of(st.text(), st.text("ab,=!()<> in:notin.", max_size=30)))
def test_any_text_is_a_selector_or_a_selector_error(text: str) -> None:
    with suppress(SelectorError):
        parse_selector(text).selects([Label("k8s", "a", "b")])


@given(KEYS, st.lists(KEYS, min_size=1, max_size=4), KEYS)
def test_notin_is_the_opposite_of_in(key: str, values: list[str], value: str) -> None:
    chosen = ",".join(values)
    assert selects(f"{key} in ({chosen})", f"{key}={value}") == (value in values)
    assert selects(f"{key} notin ({chosen})", f"{key}={value}") == (value not in values)
