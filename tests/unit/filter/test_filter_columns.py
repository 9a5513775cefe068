"""Columns answer for all rows at once what Python would answer for each."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.columns import COLUMNS, Addresses, Categories, Memo, Numbers, absent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def pack(addresses: Sequence[IPv4Address | IPv6Address]) -> NDArray[np.uint8]:
    raw = [bytes(10) + b"\xff\xff" + a.packed if isinstance(a, IPv4Address) else a.packed for a in addresses]
    return np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 16)


NETWORKS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
).map(lambda pair: ip_network(f"{pair[0]}/{pair[1]}", strict=False))


@given(st.lists(st.ip_addresses(), min_size=1), NETWORKS)
def test_within_is_what_ipaddress_says(addresses: list[IPv4Address | IPv6Address], network: IPv4Network | IPv6Network) -> None:
    expected = [
        address.version == network.version and address in network
        for address in addresses
        if getattr(address, "ipv4_mapped", None) is None
    ]
    unmapped = [address for address in addresses if getattr(address, "ipv4_mapped", None) is None]
    assert Addresses(pack(unmapped) if unmapped else np.empty((0, 16), np.uint8)).within(network).tolist() == expected


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("0.0.0.0/0", [True, False, False]),
        ("::/0", [False, True, False]),
        ("10.0.0.1/32", [True, False, False]),
        ("::ffff:10.0.0.1/128", [True, False, False]),
        ("fd00::/64", [False, True, False]),
    ],
)
def test_a_family_never_matches_the_other_nor_a_missing_address(network: str, expected: list[bool]) -> None:
    raw = np.concatenate((pack([ip_address("10.0.0.1"), ip_address("fd00::1")]), np.zeros((1, 16), np.uint8)))
    column = Addresses(raw, np.array([True, True, False]))
    assert column.within(ip_network(network)).tolist() == expected


def test_addresses_may_be_rows_of_a_larger_record() -> None:
    records = np.zeros((3, 136), np.uint8)
    records[:, 32:48] = pack([ip_address("10.0.0.1"), ip_address("10.0.0.2"), ip_address("fd00::1")])
    assert Addresses(records[:, 32:48]).within(ip_network("10.0.0.2/32")).tolist() == [False, True, False]


def test_a_predicate_runs_once_per_value_that_some_row_has() -> None:
    asked: list[str] = []
    column = Categories(np.array([2, 0, 2, 2]), ["a", "never", "c"])

    def predicate(value: str) -> bool:
        asked.append(value)
        return value == "c"

    assert column.where(predicate).tolist() == [True, False, True, True]
    assert sorted(asked) == ["a", "c"]


def test_a_memo_asks_only_about_new_values_when_a_sequence_grows() -> None:
    asked: list[str] = []
    values = ["a", "b"]

    def predicate(value: str) -> bool:
        asked.append(value)
        return value > "a"

    memo = Memo(predicate)
    assert Categories(np.array([0, 1], np.uint16), values).where(memo).tolist() == [False, True]
    values.append("c")
    assert Categories(np.array([2, 1, 0], np.uint16), values).where(memo).tolist() == [True, True, False]
    assert asked == ["a", "b", "c"]


def test_a_memo_forgets_when_it_meets_another_sequence() -> None:
    memo: Memo[str] = Memo(lambda value: value == "x")
    assert Categories(np.array([0]), ["x"]).where(memo).tolist() == [True]
    assert Categories(np.array([0]), ["y"]).where(memo).tolist() == [False]


@given(st.lists(st.integers(0, 65535)), st.lists(st.integers(0, 1 << 40), max_size=20))
def test_isin_is_membership_even_of_numbers_that_do_not_fit(values: list[int], wanted: list[int]) -> None:
    column = Numbers(np.array(values, np.uint16))
    assert column.isin(wanted).tolist() == [value in wanted for value in values]


@pytest.mark.parametrize(("bits", "expected"), [(2, [True, True, False]), (18, [False, True, False]), (256, [False] * 3)])
def test_has_bits_is_a_superset(bits: int, expected: list[bool]) -> None:
    assert Numbers(np.array([2, 18, 16], np.uint8)).has_bits(bits).tolist() == expected


@pytest.mark.parametrize("name", COLUMNS)
def test_an_absent_column_has_the_absent_value_in_each_row(name: str) -> None:
    column = absent(name, 3)
    if COLUMNS[name].kind is Addresses:
        assert not column.present.any()
        assert not column.within(ip_network("::/0")).any()
    elif COLUMNS[name].kind is Numbers:
        assert column.values.tolist() == [COLUMNS[name].absent] * 3
    else:
        assert column.where(lambda value: value == COLUMNS[name].absent).tolist() == [True] * 3


def test_an_unknown_column_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        absent("colour", 1)
