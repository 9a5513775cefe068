"""Requests, checked: which filters are remembered."""

from __future__ import annotations

from typing import Any

import pytest

from flows.agent.observer.query import REMEMBERED_BYTES, REMEMBERED_FILTERS, parse_request
from flows.flow.filter import Filter
from flows.flow.request import RequestError
from flows.proto import observer_pb2


def matches(**fields: list[str]) -> Any:
    found = parse_request(observer_pb2.GetFlowsRequest(whitelist=[fields])).matches
    assert isinstance(found, Filter)
    return found


def test_who_asks_the_same_again_finds_what_the_filter_has_learnt() -> None:
    assert matches(source_pod=["shop/a"]) is matches(source_pod=["shop/a"])
    assert matches(source_pod=["shop/a"]) is not matches(destination_pod=["shop/a"])


@pytest.mark.parametrize("field", ["source_fqdn", "destination_fqdn", "node_name"])
def test_patterns_are_compiled_anew_because_of_what_they_may_keep(field: str) -> None:
    assert matches(**{field: ["*.example.com"]}) is not matches(**{field: ["*.example.com"]})


def test_large_filters_are_compiled_anew() -> None:
    names = [f"shop/{'a' * 50}-{number}" for number in range(REMEMBERED_BYTES // 50)]
    assert matches(source_pod=names) is not matches(source_pod=names)


def test_only_the_last_filters_are_remembered() -> None:
    first = matches(source_pod=["shop/first"])
    for number in range(REMEMBERED_FILTERS):
        matches(source_pod=[f"shop/{number}"])
    assert matches(source_pod=["shop/first"]) is not first


def test_a_filter_with_a_fault_has_it_each_time() -> None:
    for _ in range(2):
        with pytest.raises(RequestError, match="source_port"):
            matches(source_port=["no port"])
