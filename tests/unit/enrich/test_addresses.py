"""Who had an address at a time, and what a range tells."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from enrich_samples import SECOND, packed
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.enrich.addresses import REMEMBER_NS, AddressBook, parse_address, ranges

A, B = packed("10.0.0.1"), packed("fd00::1")


def words(*addresses: bytes) -> tuple[np.ndarray, np.ndarray]:
    both = np.frombuffer(b"".join(addresses), np.uint64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def at(book: AddressBook, address: bytes, *seconds: float) -> list[int]:
    book.flush()
    times = np.array([int(second * SECOND) for second in seconds], np.uint64)
    numbers: list[int] = book.lookup(*words(*[address] * len(seconds)), times).tolist()
    return numbers


def assign(book: AddressBook, address: bytes, number: int, since: float, now: float = 1e6) -> None:
    book.assign(address, number, int(since * SECOND), int(now * SECOND))


def test_unknown_address_is_nobodys() -> None:
    assert at(AddressBook(), A, 5) == [0]


@pytest.mark.parametrize(
    ("left", "started", "heard", "began", "former"),
    [
        pytest.param(200.3, 200, 200.7, 200.3, 0, id="the end was heard within the second of the start"),
        pytest.param(199.8, 200, 200.7, 200, 0, id="the end was heard before that second"),
        pytest.param(None, 200, 200.7, 200.5, 7, id="the end was not heard"),
        pytest.param(None, 200, 200.2, 200.2, 0, id="the end was not heard, and the start at once"),
        pytest.param(500, 200, 500, 200.5, 7, id="both were heard long after"),
        pytest.param(None, 200, 500, 200.5, 7, id="the start was heard long after, and the end was not"),
        pytest.param(500, 50, 500, 500, 0, id="a start before the other's is none with this address"),
        pytest.param(None, 50, 300, 300, 0, id="the same, and the end was not heard"),
    ],
)
def test_one_takes_an_address_over_from_another(
    left: float | None, started: float, heard: float, began: float, former: int
) -> None:
    book = AddressBook()
    assign(book, A, 7, since=100)
    if left is not None:
        assign(book, A, 0, since=left, now=left)
    handover = book.assign(A, 8, int(started * SECOND), int(heard * SECOND))
    assert (handover.since_ns, handover.former) == (int(began * SECOND), former)
    ended = min(left or began, began)
    assert at(book, A, 100, ended - 0.01, began, began + 0.01, 900) == [7, 7, 8, 8, 8]


def test_between_two_owners_an_address_is_nobodys() -> None:
    book = AddressBook()
    assign(book, A, 7, since=100)
    assign(book, A, 0, since=200)
    assign(book, A, 8, since=250)
    assert at(book, A, 150, 220, 250) == [7, 0, 8]


def test_a_claim_ends_the_owner_that_was_not_heard_to_leave() -> None:
    book = AddressBook()
    assign(book, A, 7, since=100)
    assign(book, A, 8, since=200)
    assert at(book, A, 150, 201) == [7, 8]


def test_an_older_pod_that_gets_the_address_late_does_not_erase_the_one_before() -> None:
    book = AddressBook()
    assign(book, A, 7, since=100)
    assign(book, A, 8, since=50, now=300)
    assert at(book, A, 150, 299, 300) == [7, 7, 8]


def test_before_its_first_owner_an_address_is_nobodys() -> None:
    book = AddressBook()
    assign(book, A, 7, since=100)
    assert at(book, A, 90, 99) == [0, 7]  # two seconds of slack for whole seconds and other machines' clocks


def test_many_addresses_of_both_families() -> None:
    book = AddressBook()
    addresses = [packed(f"10.{i >> 8}.{i & 255}.1") for i in range(3000)] + [B]
    for number, address in enumerate(addresses, start=2):
        assign(book, address, number, since=0)
    book.flush()
    found = book.lookup(*words(*addresses), np.full(3001, 5, np.uint64))
    assert found.tolist() == list(range(2, 3003))


def test_purge_forgets_only_what_ended_long_ago() -> None:
    book = AddressBook()
    assign(book, A, 7, since=100)
    assign(book, A, 0, since=200)
    assign(book, B, 8, since=100)
    book.purge(before_ns=150 * SECOND)
    assert at(book, A, 150) == [7]
    book.purge(before_ns=201 * SECOND)
    assert (at(book, A, 150), at(book, B, 150), len(book), book.numbers() - {0}) == ([0], [8], 1, {8})
    assert REMEMBER_NS > 60 * SECOND


def test_a_purged_row_serves_another_address() -> None:
    book = AddressBook()
    assign(book, A, 7, since=100)
    assign(book, A, 0, since=200)
    book.flush()
    book.purge(before_ns=300 * SECOND)
    assign(book, B, 9, since=400)
    assert (at(book, A, 450), at(book, B, 450)) == ([0], [9])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", A),
        ("fd00::1", B),
        ("fe80::1%eth0", packed("fe80::1")),
        ("None", None),
        ("", None),
        ("10.0.0", None),
    ],
)
def test_parse_address(text: str, expected: bytes | None) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("127.0.0.1", "loopback"), ("127.9.9.9", "loopback"), ("::1", "loopback"),
        ("0.0.0.0", "unspecified"), ("::", "unspecified"),
        ("10.1.2.3", "private"), ("172.16.0.1", "private"), ("172.31.9.9", "private"),
        ("192.168.1.1", "private"), ("100.64.0.1", "private"), ("169.254.169.254", "private"),
        ("fe80::1", "private"), ("fd12::1", "private"),
        ("172.32.0.1", ""), ("100.128.0.1", ""), ("8.8.8.8", ""), ("2001:db8::1", ""), ("224.0.0.1", ""),
        ("ff02::1", ""),
    ],
)  # fmt: skip
def test_ranges(text: str, kind: str) -> None:
    found = ranges(*words(packed(text)))
    assert [name for name in ("loopback", "unspecified", "private") if getattr(found, name)[0]] == [kind] * bool(kind)


@given(st.integers(0, (1 << 32) - 1))
def test_ranges_of_ipv4_agree_with_ipaddress(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    found = ranges(*words(packed(str(address))))
    assert bool(found.loopback[0]) == address.is_loopback
    networks = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
    assert bool(found.private[0]) == any(address in ipaddress.ip_network(network) for network in networks)
