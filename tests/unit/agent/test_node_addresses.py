"""The node's addresses, from the kernel's tables."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flows.agent import node_addresses

FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.0
           /24 link UNICAST
        |-- 10.0.0.7
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
Local:
        |-- 10.0.0.7
           /32 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
"""
IF_INET6 = """00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000080000000000000a1 02 40 20 80     eth0
"""


def test_ipv4_addresses_are_the_local_leaves() -> None:
    assert node_addresses.parse_ipv4(FIB_TRIE) == {"10.0.0.7", "127.0.0.1"}


def test_ipv6_addresses_are_the_first_column() -> None:
    assert node_addresses.parse_ipv6(IF_INET6) == {"::1", "fe80::8000:0:0:a1"}


@given(st.text(max_size=200))
def test_any_text_gives_addresses_or_none(text: str) -> None:
    assert node_addresses.parse_ipv4(text) == set()
    assert isinstance(node_addresses.parse_ipv6(text), set)
