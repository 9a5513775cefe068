"""Redaction: what is taken out, what is left, and rules that are refused."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.l7.redact import Redaction
from flows.agent.l7.redact_rules import LONGEST_PATTERN, MOST_RULES
from flows.agent.store.request_columns import TEXT_BYTES

JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r"
HEX = b"0123456789abcdef0123456789abcdef"
RANDOM = b"aB3dE5gH7jK9mN1pQ2rS4tU6"
UUID = b"550e8400-e29b-41d4-a716-446655440000"
HIDDEN = b"HUBBLE_REDACTED"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/users/7?page=2", b"/users/7"),
        (b"/users/7#part", b"/users/7"),
        (b"/login/" + JWT, b"/login/" + HIDDEN),
        (b"/login/" + JWT + b"/next", b"/login/" + HIDDEN + b"/next"),
        (b"/keys/" + HEX, b"/keys/" + HIDDEN),
        (b"/keys/" + HEX.upper() + b".pem", b"/keys/" + HIDDEN + b".pem"),
        (b"/keys/;sid=" + HEX, b"/keys/;sid=" + HIDDEN),
        (b"/t/" + RANDOM, b"/t/" + HIDDEN),
        (b"/t/aB3dE5gH7jK9%2BmN1pQ2rS4tU6", b"/t/" + HIDDEN),
        (b"/t/%61%42%33%64%45%35%67%48%37%6a%4b%39mN1pQ2rS4tU6", b"/t/" + HIDDEN),
        (b"/t/%2561B3dE5gH7jK9mN1pQ2rS4tU6x", b"/t/" + HIDDEN),
        (b"/bot123456:AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc/getMe", b"/bot123456:" + HIDDEN + b"/getMe"),
        (b"/t/aB3dE5gH7jK9mN1pQ2rS4t", b"/t/" + HIDDEN),
        (b"/t/mfxg2zlnmu4dqnbrgiztinjw", b"/t/" + HIDDEN),
        (b"/t/npm_abcdefghijklmnopqrstuvwxyz0123456789", b"/t/" + HIDDEN),
        (b"/t/github_pat_11ABCDEFG0abcdefghijklmno_pqrstuvwxyz", b"/t/" + HIDDEN),
        (b"/aws/AKIAIOSFODNN7EXAMPLE", b"/aws/" + HIDDEN),
        (b"/proxy/http://ann:secret@db/x", b"/proxy/http://db/x"),
        (b"/proxy/http%3A%2F%2Fann:secret%40db%2Fx", b"/proxy/http%3A%2F%2Fdb%2Fx"),
        (b"/proxy/http%3A%2F%2Fdb.example%2Fx%3Ftoken%3Dabc/y", b"/proxy/http%3A%2F%2Fdb.example%2Fx/y"),
        (b"/proxy/http:%2F%2Fdb%2F%3Ftoken=abc", b"/proxy/http:%2F%2Fdb%2F"),
        (b"/proxy/http://db/x%3Ftoken=abc", b"/proxy/http://db/x"),
        (b"/p/https%3A%2F%2Fu%40h", b"/p/https%3A%2F%2Fh"),
        (b"/p/https%3A%2F%2Fh%2Fx%40y", b"/p/https%3A%2F%2Fh%2Fx%40y"),
        (b"/orders/" + UUID, b"/orders/" + UUID),
        (b"/orders/order-" + UUID, b"/orders/order-" + UUID),
        (b"/media/film-0000000012/segment-000000000000012.ts", b"/media/film-0000000012/segment-000000000000012.ts"),
        (b"/pods/nginx-deployment-66b6c48dd5-7zk8x", b"/pods/nginx-deployment-66b6c48dd5-7zk8x"),
        (b"/My-Long-Title-About-2024-Things-And-More", b"/My-Long-Title-About-2024-Things-And-More"),
        (b"/getAccountInformationByCustomerNumber", b"/getAccountInformationByCustomerNumber"),
        (b"/\x00\xff\r\x1b[31m", b"/\x00\xff\r\x1b[31m"),
        (b"", b""),
    ],
)
def test_paths_by_default(path: bytes, expected: bytes) -> None:
    assert Redaction().path(path).text == expected
    assert in_arrays(Redaction(), [path]) == [(expected, expected != path)]


def in_arrays(rules: Redaction, paths: list[bytes], cut: bool = False) -> list[tuple[bytes, bool]]:
    """The same for many at once: text, and whether it was changed."""
    text = np.full((len(paths), TEXT_BYTES), ord("/"), np.uint8)
    for row, path in enumerate(paths):
        text[row, : len(path[:TEXT_BYTES])] = np.frombuffer(path[:TEXT_BYTES], np.uint8)
    lengths = np.array([len(path) for path in paths], np.int64)
    result = rules.paths(text, lengths, np.full(len(paths), cut), lambda row: paths[row])
    ends = [int(length) if changed is False else TEXT_BYTES for length, changed in zip(lengths, result.changed, strict=True)]
    shown = [row.tobytes()[:end] for row, end in zip(result.text, ends, strict=True)]
    return [(one.rstrip(b"\0") or one[:0], changed) for one, changed in zip(shown, result.changed.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("rules", "path", "expected"),
    [
        ({"url_query": False}, b"/a?x=1", b"/a?x=1"),
        ({"user_info": False}, b"/p/http://ann:pw@db/", b"/p/http://ann:pw@db/"),
        ({"path_secrets": False}, b"/k/" + HEX, b"/k/" + HEX),
        ({"path_secrets": False}, b"/f/https%3A%2F%2Fh%2F%3ftoken%3Ds3cr3t", b"/f/https%3A%2F%2Fh%2F"),
        ({"path_secrets": False}, b"/f/https%3A%2F%2Fu%3Apw%40host/", b"/f/https%3A%2F%2Fhost/"),
        ({"url_query": False}, b"/f/https%3A%2F%2Fu%40h%2F%3Fa", b"/f/https%3A%2F%2Fh%2F%3Fa"),
        ({"path_rules": ["/customers/[^/]+"]}, b"/customers/ann/x", HIDDEN + b"/x"),
        ({"path_rules": [r"(/customers/)[^/]+ => \1NAME"]}, b"/customers/ann/x", b"/customers/NAME/x"),
        ({"path_rules": ["ann => A", "A => B"]}, b"/ann", b"/B"),
        ({"path_rules": ["é => e"]}, "/é".encode(), b"/e"),
    ],
)
def test_paths_by_rules(rules: dict[str, object], path: bytes, expected: bytes) -> None:
    redaction = Redaction.of(rules)
    assert redaction.path(path).text == expected
    assert in_arrays(redaction, [path])[0][0] == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a/deadbeef01", b"/a/" + HIDDEN),  # the beginning of something longer
        (b"/a/posts", b"/a/posts"),
        (b"/a/v1", b"/a/v1"),
        (b"/deadbeef01/x", b"/deadbeef01/x"),  # this segment is whole
        (b"/a?token=abc", b"/a"),
    ],
)
def test_a_path_whose_end_was_not_captured(path: bytes, expected: bytes) -> None:
    assert Redaction().path(path, cut=True).text == expected
    assert in_arrays(Redaction(), [path], cut=True)[0][0] == expected


def test_a_secret_across_the_end_of_what_is_kept_is_no_longer_there() -> None:
    path = b"/" + b"x" * (TEXT_BYTES - 12) + b"/" + HEX
    kept = Redaction().path(path)
    assert kept.cut
    assert HEX[:8] not in kept.text
    assert in_arrays(Redaction(), [path]) == [(kept.text, True)]


def test_many_paths_keep_their_places() -> None:
    paths = [b"/plain/%d" % i if i % 3 else b"/k/" + HEX + b"/%d" % i for i in range(50)]
    expected = [(path.replace(HEX, HIDDEN), HEX in path) for path in paths]
    assert in_arrays(Redaction(), paths) == expected


@pytest.mark.parametrize(
    ("rules", "name", "kept"),
    [
        ({}, b"Accept", False),
        ({"headers_allow": ["X-Request-Id"]}, b"x-request-ID", True),
        ({"headers_allow": ["X-Request-Id"]}, b"Authorization", False),
        ({"headers_allow": ["Authorization"]}, b"authorization", True),
        ({"headers_deny": ["X-Key"]}, b"Accept", True),
        ({"headers_deny": ["X-Key"]}, b"x-key", False),
        ({"headers_deny": ["X-Key"]}, b"Authorization", False),
        ({"headers_deny": []}, b"Cookie", False),
        ({"headers_deny": []}, b"Cookie ", False),
        ({"headers_deny": []}, b"authorization\t", False),
        ({"headers_deny": []}, b"", False),
    ],
)
def test_which_headers_are_kept(rules: dict[str, object], name: bytes, kept: bool) -> None:
    redaction = Redaction.of(rules)
    assert redaction.keeps(name) is kept
    assert redaction.keeps_headers is bool(rules)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"text/html; q=0.9", b"text/html; q=0.9"),
        (b"http://ann:pw@shop/cart?token=1#x", b"http://shop/cart"),
        (b"/cart?token=1", b"/cart"),
        (b"<https://a/b?c=d>; rel=next", b"<https://a/b>; rel=next"),
        (b"https://a/" + JWT, b"https://a/" + HIDDEN),
    ],
)
def test_values_of_headers_that_are_urls(value: bytes, expected: bytes) -> None:
    assert Redaction().header_value(b"Location", value) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"Referer", b"https://shop/list?ids=1,2&token=s3cr3t", b"https://shop/list"),
        (b"Referer", b"https://x/cb?state=a;code=s3cr3t", b"https://x/cb"),
        (b"Referer", b"https://x/cb?say=good morning s3cr3t", b"https://x/cb"),
        (b"Location", b"reset?token=s3cr3t", b"reset"),
        (b"location", b"?code=s3cr3t", b""),
        (b"Location", b"//user:pw@host/x", b"//host/x"),
        (b"Location", b"%2F%2Fuser%40host", b"%2F%2Fhost"),
        (b"Refresh", b"0; url=/login?token=s3cr3t", b"0; url=/login"),
        (b"Link", b"<page?token=s3cr3t>; rel=next, <b#c>; rel=last", b"<page>; rel=next, <b>; rel=last"),
        (b"User-Agent", b"bot/1 (+https://bot.example/?id=s3cr3t) more", b"bot/1 (+https://bot.example/ more"),
        (b"X-Note", b"what? nothing", b"what? nothing"),
        (b"Host", b"ann:pw@shop:80", b"shop:80"),
    ],
)
def test_urls_in_values_lose_all_of_their_queries(name: bytes, value: bytes, expected: bytes) -> None:
    assert Redaction().header_value(name, value) == expected


@pytest.mark.timeout(15)  # where each place is tried to the end of the text it takes a minute
@pytest.mark.parametrize("piece", [b"%3a%2f%2f", b"://", b":%2F%2F", b"%3a%2f%2fa%40", b"%3a%2f%2f%3"])
def test_what_is_made_to_take_long_does_not(piece: bytes) -> None:
    text = piece * (60_000 // len(piece))
    assert Redaction().path(b"/" + text).cut or b"@" in unquote_to_bytes(piece)
    assert len(Redaction().header_value(b"Location", text)) <= len(text)


def test_dns_names_by_rules() -> None:
    redaction = Redaction.of({"dns_rules": [r"^[^.]+(\.internal)$ => x\1"]})
    names = np.zeros((2, 32), np.uint8)
    for row, name in enumerate((b"ann.internal", b"example.com")):
        names[row, : len(name)] = np.frombuffer(name, np.uint8)
    assert redaction.dns_names(names).tolist() == [True, False]
    assert [row.tobytes().rstrip(b"\0") for row in names] == [b"x.internal", b"example.com"]
    assert redaction.dns_name(b"bob.internal") == b"x.internal"


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"url_querry": True}, "'url_querry' is no rule: expected url_query"),
        ({"url_query": "yes"}, "url_query: 'yes' is no switch"),
        ({"headers_allow": "Accept"}, "headers_allow: 'Accept': expected a list of header names"),
        ({"headers_allow": ["a b"]}, "'a b' is no name of a header"),
        ({"headers_allow": ["a"], "headers_deny": ["b"]}, "exclude each other"),
        ({"headers_allow": [1]}, "1 is no text"),
        ({"path_rules": ["("]}, r"path_rules, rule 1: '\(': expected a regular expression"),
        ({"path_rules": ["x", "x*"]}, r"rule 2: 'x\*' matches nothing at all"),
        ({"path_rules": [r"(a) => \2"]}, r"rule 1: \\2 in the replacement: the expression has 1 groups"),
        ({"path_rules": ["a => " + "b" * 65]}, "replacement is too long"),
        ({"path_rules": ["a" * (LONGEST_PATTERN + 1)]}, "1025 characters: expected an expression of 1 to 1024"),
        ({"path_rules": ["(?:a{100}){10}b{900}c{900}d{900}e{900}"]}, "too large"),
        ({"dns_rules": ["a"] * (MOST_RULES + 1)}, "65 rules: expected at most 64"),
    ],
)
def test_rules_that_are_refused(rules: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Redaction.of(rules)


@given(st.binary(max_size=300), st.booleans())
def test_any_path_is_bounded_and_the_same_alone_and_among_others(path: bytes, cut: bool) -> None:
    kept = Redaction().path(path, cut=cut)
    assert len(kept.text) <= TEXT_BYTES
    assert b"?" not in kept.text
    assert in_arrays(Redaction(), [path, b"/x"], cut)[0][0] == kept.text.rstrip(b"\0")


@given(st.text("0123456789abcdef", min_size=32, max_size=80), st.sampled_from([b"/", b".", b";k=", b":"]))
def test_hex_keys_are_never_kept(key: str, before: bytes) -> None:
    assert key.encode() not in Redaction().path(b"/a" + before + key.encode() + b"/b").text
