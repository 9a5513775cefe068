"""Addresses, patterns and URLs as text: what is read, and that nothing else than FilterError comes out."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.filter import FilterError, address, names, patterns, port
from flows.flow.filter.errors import nearest, printable, quote
from flows.flow.filter.url import request_path

if TYPE_CHECKING:
    from collections.abc import Callable

PARSERS = [
    lambda text: address.parse("f", text),
    lambda text: port.parse("f", text),
    lambda text: names.parse("f", text),
    lambda text: patterns.fqdn("f", [text]),
    lambda text: patterns.node_name("f", [text]),
    lambda text: patterns.regex("f", [text]),
]


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.one_of(st.text(), st.text("0123456789./:*%-abf", max_size=24), st.text("()[]{}*+?|\\^$.", max_size=12)))
def test_any_text_is_a_value_or_a_filter_error(parse: Callable[[str], object], text: str) -> None:
    message = ""
    try:
        parse(text)
    except FilterError as error:
        message = str(error)
    assert message.isprintable()


@given(st.ip_addresses(), st.integers(0, 32))
def test_an_address_is_read_as_itself_and_as_a_network(value: IPv4Address | IPv6Address, length: int) -> None:
    assert address.parse("f", str(value)) == ip_network(value)
    assert address.parse("f", f"{value}/{length}") == ip_network(f"{value}/{length}", strict=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0",
        "010.0.0.1",
        "10.0.0.0/08",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "1.2.3.4/1/2",
        "fd00::1%eth0",
        "::1/129",
        "host",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(FilterError, match="expected an IP address"):
        address.parse("f", text)


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("example.com", "xexample.com", False),
        ("a.b", "axb", False),
        (" API.Example.com. ", "api.example.com", True),
        ("a_b.c", "a_b.c", True),
        ("*", "", True),
    ],
)
def test_globs_match_whole_names(glob: str, name: str, expected: bool) -> None:
    assert patterns.fqdn("f", ["nosuch", glob])(name) is expected


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("node-*", "west/node-1", True),
        ("west/*", "west/node-1", True),
        ("west/", "west/node.a_b", True),
        ("/node-1", "node-1", True),
        ("default/node-1", "node-1", True),
        ("west/node-1", "node-1", False),
        ("node", "node-1", False),
    ],
)
def test_node_globs_have_an_optional_cluster(glob: str, name: str, expected: bool) -> None:
    assert patterns.node_name("f", [glob])(name) is expected


def test_a_hostile_pattern_is_answered_in_linear_time() -> None:
    assert patterns.regex("f", ["(a*)*b"])("a" * 5000) is False
    assert patterns.fqdn("f", ["*a" * 40])("a" * 5000) is True


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://a:80/x/y?q#f", "/x/y"),
        ("http://a", ""),
        ("/x%2Fy+z", "/x/y+z"),
        ("/x#y", "/x#y"),
        ("//a/b", "//a/b"),
        ("http://u:p@[fd00::1]:80/x", "/x"),
        ("mailto:x", ""),
        ("*", "*"),
        ("x/y", None),
        ("", None),
        ("/a%zz", None),
        ("/a\n", None),
        (":x", None),
        ("http://a:b/x", None),
        ("http://a b/x", None),
    ],
)
def test_paths_are_what_go_reads(url: str, path: str | None) -> None:
    assert request_path(url) == path


@given(st.text())
def test_any_text_has_a_path_or_none(text: str) -> None:
    assert request_path(text) is None or isinstance(request_path(text), str)


@given(st.text())
def test_messages_hold_nothing_that_a_terminal_obeys(text: str) -> None:
    assert printable(text).isprintable()
    assert quote(text).isprintable()


def test_a_message_shows_where_a_long_value_is_cut() -> None:
    assert quote("x" * 5000).endswith('..."')


@pytest.mark.parametrize(("value", "expected"), [("in", "ingress"), ("EGRES", "egress"), ("zzz", ""), ("", "")])
def test_the_nearest_choice(value: str, expected: str) -> None:
    assert nearest(value, ["ingress", "egress"]) == expected
