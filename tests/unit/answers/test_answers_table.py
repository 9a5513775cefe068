"""Order of rows, and filters for both ways of a request."""

from __future__ import annotations

from typing import Any

import pytest

from flows.flow.answers import filters
from flows.flow.answers.latency import Latency
from flows.flow.answers.table import Column, Kind, SortError, check_sort, ordered
from flows.flow.filter import compile_filters
from flows.proto.flow_pb2 import FORWARDED, FlowFilter

COLUMNS = (
    Column("name"),
    Column("p99_ns", Kind.DURATION, "p99"),
    Column("counts", Kind.COUNTS),
    Column("pods", Kind.LIST),
    Column("hits", Kind.COUNT),
)
ROWS: list[dict[str, Any]] = [
    {"name": "b", "p99_ns": 5, "counts": {"x": 1}, "pods": ["q"], "hits": 0},
    {"name": "a", "p99_ns": None, "counts": {}, "pods": [], "hits": None},
    {"name": "c", "p99_ns": 9, "counts": {"x": 1, "y": 7}, "pods": ["p", "z"], "hits": 1},
]


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("", "bac"),
        ("name", "abc"),
        ("-name", "cba"),
        ("p99", "bca"),
        ("-p99", "cba"),
        ("p99_ns", "bca"),
        ("-counts", "cba"),
        ("pods", "cba"),
        ("-pods", "bca"),
        ("counts", "bca"),
        ("hits", "bca"),
        ("other", "bac"),
    ],
)
def test_rows_are_ordered_and_what_is_not_known_comes_last(order: str, names: str) -> None:
    assert [row["name"] for row in ordered(ROWS, order, COLUMNS)] == list(names)


def test_no_such_column() -> None:
    check_sort("-p99", COLUMNS)
    with pytest.raises(SortError, match="expected one of name, p99, counts, pods"):
        check_sort("nope", COLUMNS)


def test_a_sketch_of_nothing_knows_nothing() -> None:
    latency = Latency()
    latency.add(None)
    assert (latency.quantile(0.5), latency.greatest) == (None, None)


def test_merged_sketches_know_both() -> None:
    one, other, empty = Latency(), Latency(), Latency()
    one.add(1_000)
    other.add(9_000)
    one.merge(other)
    one.merge(empty)
    empty.merge(one)
    assert empty.greatest == 9_000
    assert one.quantile(1.0) == pytest.approx(9_000, rel=0.01)


def test_requests_are_asked_for_with_their_answers() -> None:
    there, back = filters.of_requests([FlowFilter(source_pod=["demo/a"], destination_port=["53"], verdict=[FORWARDED])], ["dns"])
    assert there == FlowFilter(
        source_pod=["demo/a"], destination_port=["53"], verdict=[FORWARDED], protocol=["dns"], reply=[False]
    )
    assert back == FlowFilter(destination_pod=["demo/a"], source_port=["53"], verdict=[FORWARDED], protocol=["dns"], reply=[True])


def test_filters_without_ends_are_asked_for_once_and_own_protocols_stay() -> None:
    assert filters.of_requests([], ["dns"]) == (FlowFilter(protocol=["dns"]),)
    assert filters.of_requests([FlowFilter(protocol=["udp"])], ["dns"]) == (FlowFilter(protocol=["udp"]),)
    assert filters.of_denied([FlowFilter(http_method=["GET"])]) == (FlowFilter(http_method=["GET"]),)
    assert len(filters.of_denied([FlowFilter(source_ip=["10.0.0.1"])])) == 2


def test_second_looks_are_filters_that_servers_take() -> None:
    names = [f"a{n}.example-{n}.com" for n in range(200)] + ["x" * 900, "new\nline", "a+b(.c"]
    found, fit = filters.of_names([*names[-3:], *names])
    assert 1 < len(found) <= 8
    assert fit == ["a+b(.c", *names[:63]]  # the others cannot be asked for, so nothing is concluded about them
    compile_filters([*found, *filters.of_service_names(names), *filters.of_services(names), filters.of_drops()], [])
    assert filters.of_connections([], ["1.1.1.1"]) == ()
