"""No filter is too much: what is too large is refused before it is looked at, and what is not costs a bounded time."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from flows.cli.flags_request import request_filters
from flows.flow.columns import Addresses, AddressRanges, Categories, absent
from flows.flow.endpoint import Endpoint, ServiceName
from flows.flow.filter import FilterError, compile_filters, labels, limits
from flows.flow.filter.names import NamePrefix, NamePrefixes
from flows.flow.filter.patterns import regex
from flows.proto.flow_pb2 import FlowFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

FLOWS, ENDPOINTS = 65_535, 10_000


def message(**fields: Any) -> FlowFilter:
    return json_format.ParseDict(fields, FlowFilter())


TOO_MUCH = {
    "filters": ([FlowFilter()] * (limits.MOST_FILTERS + 1), 'whitelist "4097 filters": expected at most 4096'),
    "values": (
        [message(source_port=["80"] * (limits.MOST_VALUES + 1))],
        'source_port "16385 values": expected at most 16384 in one filter',
    ),
    "networks": (
        [message(source_ip=["10.0.0.0/8"] * (limits.MOST_VALUES + 1))],
        'source_ip "16385 values": expected at most 16384 in one filter',
    ),
    "selectors": (
        [message(source_label=["a"] * (limits.MOST_TRIED + 1))],
        'source_label "65 values": expected at most 64 in one filter',
    ),
    "event types": (
        [message(event_type=[{"type": number} for number in range(limits.MOST_TRIED + 1)])],
        'event_type "65 values": expected at most 64 in one filter',
    ),
    "patterns": (
        [message(http_path=["a"] * (limits.MOST_PATTERNS + 1))],
        'http_path "1025 values": expected at most 1024 in one filter',
    ),
    "values in all": (
        [message(source_port=["80"] * limits.MOST_VALUES)] * 5,
        'whitelist "too many values": expected at most 65536 in all fields of all filters',
    ),
    "conditions": (
        [message(source_port=[str(number)]) for number in range(limits.MOST_CONDITIONS + 1)],
        'source_port "257 conditions": expected at most 256 different ones in a request',
    ),
    "conditions on patterns": (
        [message(http_path=[f"/{number}"]) for number in range(limits.MOST_PROGRAMS + 1)],
        'http_path "17 conditions on patterns": expected at most 16 different ones',
    ),
    "selectors in all": (
        [message(source_label=["a"] * 60), message(source_label=["b"] * 60), message(node_labels=["c"] * 60)],
        'node_labels "180 values in all": expected at most 128 different ones in a request',
    ),
    "a text": ([message(source_pod=["a" * 4097])], "4097 characters: expected at most 4096"),
    "a selector": ([message(source_label=[" " * 10_000_000])], "10000000 characters: expected at most 4096"),
    "an address": ([message(source_ip=["1" * 10_000_000])], "10000000 characters: expected at most 4096"),
    "a port": ([message(source_port=["1" * 10_000_000])], "10000000 characters: expected at most 4096"),
    "a text in a value": ([message(http_header=[{"key": "k", "value": "v" * 4097}])], "4097 characters: expected at most 4096"),
    "an expression's text": (
        [message(http_path=["a" * 1025])],
        "1025 characters: expected a regular expression of at most 1024",
    ),
    "a repetition": ([message(http_path=["((a{30}){30}){30}"])], "invalid repetition size"),
    "an expression's program": (
        [message(http_path=["(abc){999}"])] * 2 + [message(http_path=["([a-z]{99}x){40}(abc){300}"])],
        "expected patterns that compile to at most 4096 instructions",
    ),
    "several expressions' program": (
        [message(http_path=[f"(ab{number}){{99}}" for number in range(100)])],
        'http_path "100 values": expected patterns that compile to at most 4096 instructions',
    ),
    "names' program": (
        [message(source_fqdn=[f"*.{number}.example.com" for number in range(1000)])],
        'source_fqdn "1000 values": expected patterns that compile to at most 4096 instructions',
    ),
    "expressions that stand alone": (
        [message(http_path=[rf"\Q{number}" for number in range(65)])],
        "expected at most 64 in one filter",
    ),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_what_is_too_large_is_refused_at_once(case: str) -> None:
    filters, expected = TOO_MUCH[case]
    began = time.perf_counter()
    with pytest.raises(FilterError) as error:
        compile_filters(filters)
    assert expected in str(error.value)
    assert len(str(error.value)) < 1500
    assert time.perf_counter() - began < 5


def test_both_lists_count_together() -> None:
    values = message(source_port=["80"] * limits.MOST_VALUES)
    with pytest.raises(FilterError, match='blacklist "too many values"'):
        compile_filters([values] * 3, [values] * 2)


def test_a_selector_is_measured_before_it_is_read_by_itself() -> None:
    with pytest.raises(FilterError, match="expected at most 4096"):
        labels.parse("label", " " * 10_000_000)


def test_what_fits_is_taken() -> None:
    compile_filters(
        [
            message(
                source_ip=[f"10.{number // 250}.{number % 250}.0/24" for number in range(limits.MOST_VALUES)],
                source_label=["a"] * limits.MOST_TRIED,
                http_path=[f"^/{number}$" for number in range(100)],
                destination_fqdn=[f"*.{number}.example.com" for number in range(150)],
                source_pod=["x" * limits.LONGEST_TEXT],
            )
        ]
    )


def test_what_the_command_line_makes_of_words_stays_far_below() -> None:
    words = ["shop/web", "app=web", "10.0.0.0/8", "api.example.com", "world", "web"]
    flags = [(flag, word) for flag in ("from", "to") for word in words]
    filters = request_filters(flags).allow
    compile_filters(filters)
    assert len(filters) < limits.MOST_FILTERS / 8
    fields = {(field.name, str(value)) for one in filters for field, value in one.ListFields()}
    assert len(fields) < limits.MOST_CONDITIONS / 4


class Table:
    """A full store, as far as the test asks it."""

    def __init__(self, **columns: Any) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return FLOWS

    def categories(self, name: str) -> Any:
        return self._columns.get(name) or absent(name, FLOWS)

    numbers = addresses = categories


def seconds(table: Table, **fields: Any) -> float:
    matches = compile_filters([message(**fields)])
    began = time.perf_counter()
    matches(table)
    return time.perf_counter() - began


RNG = np.random.default_rng(1)


def addresses() -> Addresses:
    raw = RNG.integers(0, 256, (FLOWS, 16), np.uint8)
    raw[: FLOWS // 2, :12] = np.frombuffer(bytes(10) + b"\xff\xff", np.uint8)
    return Addresses(raw)


def endpoints() -> Categories[Endpoint]:
    made = [
        Endpoint(
            identity=number,
            namespace=f"ns-{number % 50}",
            pod=f"pod-{number}",
            labels=tuple(f"k8s:label-{label}=value-{number}" for label in range(20)),
            services=(ServiceName(f"ns-{number % 50}", f"svc-{number}"),),
        )
        for number in range(ENDPOINTS)
    ]
    return Categories(RNG.integers(0, ENDPOINTS, FLOWS), made)


def texts() -> Categories[str]:
    letters = RNG.choice(list("abcdefghij.-"), (FLOWS, 60))
    return Categories(np.arange(FLOWS), ["".join(row) for row in letters.tolist()])


# Seconds that a loaded machine needs, too: ten times what it takes alone.
COSTS = {
    "16,384 networks": ("source_ip", addresses, [f"{n % 223 + 1}.{n // 223}.{n % 7}.0/24" for n in range(limits.MOST_VALUES)], 2),
    "16,384 networks of IPv6": ("source_ip", addresses, [f"{4 * n:x}::/16" for n in range(limits.MOST_VALUES)], 2),
    "16,384 pods": ("source", endpoints, [f"ns-{n % 50}/pod-{n}" for n in range(limits.MOST_VALUES)], 2),
    "16,384 services": ("source", endpoints, [f"/svc-{n}" for n in range(limits.MOST_VALUES)], 2),
    "64 selectors": ("source", endpoints, [f"label-19=value-{n},!x" for n in range(limits.MOST_TRIED)], 10),
    "100 expressions": ("dns_query", texts, [rf"^a[a-j]*{n}\.example\.com" for n in range(100)], 10),
    "150 names": ("source_names", lambda: names(texts()), [f"*.{n}.example.com" for n in range(150)], 5),
    "states without end": ("dns_query", texts, [f"(a|b)*a[a-j]{{{n}}}x" for n in range(10, 40)], 10),
}
FIELDS = {
    "16,384 pods": "source_pod",
    "16,384 services": "source_service",
    "64 selectors": "source_label",
    "150 names": "source_fqdn",
}


def names(column: Categories[str]) -> Categories[tuple[str, ...]]:
    return Categories(column.codes, [(text,) for text in column.values])


@pytest.mark.parametrize("case", COSTS)
def test_the_largest_filters_take_a_bounded_time_on_a_full_store(
    case: str, record_property: Callable[[str, object], None]
) -> None:
    column, make, values, most = COSTS[case]
    table = Table(**{column: make()})
    took = seconds(table, **{FIELDS.get(case, column): values})
    record_property("seconds", took)
    print(f"{case}: {took * 1e3:.0f} ms")
    assert took < most


def pack(values: Sequence[IPv4Address | IPv6Address]) -> NDArray[np.uint8]:
    raw = [bytes(10) + b"\xff\xff" + a.packed if isinstance(a, IPv4Address) else a.packed for a in values]
    return np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 16)


PREFIXES = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 128)),
    st.tuples(st.just(ip_address("::ffff:10.0.0.0")), st.integers(60, 128)),
).map(lambda pair: ip_network(f"{pair[0]}/{pair[1]}", strict=False))


@given(st.lists(st.ip_addresses(), max_size=20), st.lists(PREFIXES, min_size=17, max_size=40), st.booleans())
def test_many_networks_are_what_each_of_them_is(
    values: list[IPv4Address | IPv6Address], networks: list[IPv4Network | IPv6Network], edges: bool
) -> None:
    if edges:
        values += [address for network in networks for address in (network[0], network[-1])]
    column = Addresses(pack(values) if values else np.empty((0, 16), np.uint8), np.ones(len(values), np.bool_))
    expected = np.zeros(len(values), np.bool_)
    for network in networks:
        expected |= column.within(network)
    assert column.within_any(AddressRanges(networks)).tolist() == expected.tolist()


def test_a_missing_address_is_in_no_network() -> None:
    networks = [ip_network(f"{n}::/16") for n in range(20)]
    assert not Addresses(np.zeros((3, 16), np.uint8), np.zeros(3, np.bool_)).within_any(AddressRanges(networks)).any()


PART = st.text("ab-", max_size=4)


@given(st.lists(st.tuples(PART, PART), max_size=12), PART, PART)
def test_many_prefixes_are_what_each_of_them_is(prefixes: list[tuple[str, str]], namespace: str, name: str) -> None:
    names = [NamePrefix(*pair) for pair in prefixes]
    assert NamePrefixes(names).holds(namespace, name) == any(one.holds(namespace, name) for one in names)


@pytest.mark.parametrize(
    ("patterns", "text", "expected"),
    [
        (["a", "b"], "xbx", True),
        (["^a", "b$"], "ba", False),
        (["(?i)a", "b"], "B", False),
        (["a|b", "c"], "b", True),
        ([r"\Qa.", "b"], "b", True),
        ([r"\Qa.", "b"], "a.", True),
        (["(?P<x>a)", "(?P<x>b)"], "b", True),
        (["", "b"], "", True),
    ],
)
def test_expressions_tried_together_match_as_each_would(patterns: list[str], text: str, expected: bool) -> None:
    assert regex("http_path", patterns)(text) == expected
