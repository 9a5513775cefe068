"""Label and field selectors: what they match, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from flows.demo.api.errors import StatusError
from flows.demo.api.kinds import kind_of
from flows.demo.api.selectors import object_selector, parse_fields, parse_labels

LABELS = {"app": "web", "tier": "front", "size": "7", "example.org/x": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier=front", True),
        ("app=web,tier=back", False),
        ("app!=web", False),
        ("missing!=web", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db),tier", True),
        ("missing notin (db)", True),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("missing", False),
        ("size>6", True),
        ("size<7", False),
        ("app>6", False),
        ("example.org/x=", True),
        ("example.org/x in ()", True),
    ],
)
def test_label_selectors(text: str, matches: bool) -> None:
    assert all(item.matches(LABELS) for item in parse_labels(text)) is matches


@pytest.mark.parametrize("text", ["a b", "=x", "a=b c", "in (x)", "a in x", "a in (x", "a,,b", "a=é", "a>x", ","])
def test_malformed_label_selectors_are_refused(text: str) -> None:
    with pytest.raises(StatusError, match="unable to parse requirement") as caught:
        parse_labels(text)
    assert caught.value.code == 400


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "db"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "nope", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
    ],
)
def test_selector_objects(selector: Any, matches: bool) -> None:
    assert object_selector(selector)(LABELS) is matches


POD = {
    "metadata": {"name": "p", "namespace": "ns"},
    "spec": {"nodeName": "n1"},
    "status": {"phase": "Running", "podIP": "10.0.0.1"},
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("metadata.name=p", True),
        ("metadata.namespace==ns", True),
        ("metadata.name!=p", False),
        ("spec.nodeName=n1,status.phase=Running", True),
        ("status.podIP=10.0.0.2", False),
        ("status.phase!=Failed,status.phase!=Succeeded", True),
        ("spec.hostNetwork=false", True),
        ("", True),
    ],
)
def test_field_selectors(text: str, matches: bool) -> None:
    assert parse_fields(text, kind_of("pods"))(POD) is matches


@pytest.mark.parametrize(
    ("text", "plural", "message"),
    [
        ("spec.image=x", "pods", "field label not supported: spec.image"),
        ("spec.nodeName=x", "deployments", '"spec.nodeName" is not a known field selector'),
        ("metadata.name", "pods", "invalid selector"),
    ],
)
def test_unknown_fields_are_refused(text: str, plural: str, message: str) -> None:
    with pytest.raises(StatusError, match=message):
        parse_fields(text, kind_of(plural))
