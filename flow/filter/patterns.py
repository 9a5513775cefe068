"""Patterns: globs over DNS and node names, and regular expressions. All are RE2, so no pattern is slow.

Source: Hubble pkg/hubble/filters/patterns.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import re2  # type: ignore[import-untyped]

from flows.flow.filter import limits
from flows.flow.filter.errors import FilterError

Matcher = Callable[[str], bool]

# What an omitted cluster or node stands for; underscores and dots, unlike `*` below, which has no underscore.
_ANY_NAME = r"(?:[-0-9_a-z]+(?:\.[-0-9_a-z]+)*)"
_STAR = r"[-.0-9a-z]*"
_LITERAL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_DEFAULT_CLUSTER = "default"

# What cannot be one of several in an expression: a quotation, which may have no end, and a group's name, which may come once.
_ALONE = (r"\Q", "(?P<", "(?<")

_TOO_LARGE = f"expected patterns that compile to at most {limits.LARGEST_PROGRAM} instructions: fewer, shorter or less repeated"

_OPTIONS = re2.Options()
_OPTIONS.max_mem = limits.PROGRAM_BYTES
_OPTIONS.log_errors = False  # a bad pattern is reported to its author, not to stderr


def regex(field: str, patterns: Sequence[str]) -> Matcher:
    """An unanchored search for any of the patterns (RE2 syntax, as Go's)."""
    for pattern in patterns:
        _compile(field, pattern)  # alone, so that an error is about one
    alone = [pattern for pattern in patterns if any(begins in pattern for begins in _ALONE)]
    together = [f"(?:{pattern})" for pattern in patterns if not any(begins in pattern for begins in _ALONE)]
    if len(alone) > limits.MOST_TRIED:
        found = f"{len(alone)} values with {' or '.join(_ALONE)}"
        raise FilterError(field, found, f"expected at most {limits.MOST_TRIED} in one filter")
    compiled = [_compile(field, expression) for expression in alone]
    if together:
        compiled.append(_program(field, "|".join(together), len(together)))
    return lambda text: any(expression.search(text) for expression in compiled)


def fqdn(field: str, globs: Sequence[str]) -> Matcher:
    """A whole-name match of any of the globs; `*` spans dots."""
    return _whole(field, [_fqdn(field, glob, glob) for glob in globs])


def node_name(field: str, globs: Sequence[str]) -> Matcher:
    """A whole-name match of `[cluster/]node` globs. A name without a cluster is in cluster `default`."""
    matches = _whole(field, [_node(field, glob) for glob in globs])
    return lambda name: bool(name) and matches(name if "/" in name else f"{_DEFAULT_CLUSTER}/{name}")


def _whole(field: str, expressions: Sequence[str]) -> Matcher:
    compiled = _program(field, rf"\A(?:{'|'.join(expressions)})\z", len(expressions))
    return lambda text: compiled.search(text) is not None


def _compile(field: str, pattern: str) -> Any:
    """One expression as its author wrote it."""
    if len(pattern) > limits.LONGEST_PATTERN:
        fault = f"{len(pattern)} characters: expected a regular expression of at most {limits.LONGEST_PATTERN}"
        raise FilterError(field, pattern, fault)
    try:
        compiled = re2.compile(pattern, _OPTIONS)
    except (re2.error, UnicodeEncodeError) as error:
        fault = f"expected a regular expression (RE2 syntax): {_reason(error)}"
        raise FilterError(field, pattern, fault, re2.escape(pattern) if pattern.isascii() else "") from None
    if compiled.programsize > limits.LARGEST_PROGRAM:
        raise FilterError(field, pattern, _TOO_LARGE)
    return compiled


def _program(field: str, expression: str, values: int) -> Any:
    """Several expressions, each valid, as one: RE2 tries all of them at once."""
    try:
        compiled = re2.compile(expression, _OPTIONS)
    except re2.error:  # larger than its memory
        compiled = None
    if compiled is None or compiled.programsize > limits.LARGEST_PROGRAM:
        raise FilterError(field, f"{values} values", _TOO_LARGE)
    return compiled


def _reason(error: Exception) -> str:
    cause = error.args[0] if isinstance(error, re2.error) else "not valid Unicode"
    return cause.decode(errors="replace") if isinstance(cause, bytes) else str(cause)


def _fqdn(field: str, value: str, glob: str) -> str:
    name = glob.strip().removesuffix(".").lower()
    expected = "expected a DNS name, in which * stands for any part (api.example.com, *.example.com)"
    if not name:
        raise FilterError(field, value, f"{expected}; the pattern is empty")
    if name.endswith("."):
        raise FilterError(field, value, f"{expected}; several dots at the end", name.rstrip("."))
    wrong = next((rune for rune in name if rune not in _LITERAL and rune not in ".*"), None)
    if wrong is not None:
        clean = "".join(rune for rune in name if rune in _LITERAL or rune in ".*")
        raise FilterError(field, value, f"{expected}; {wrong!r}: invalid rune in pattern", clean)
    return name.replace(".", r"\.").replace("*", _STAR)


def _node(field: str, value: str) -> str:
    cluster, slash, node = value.rpartition("/")
    if not value or "/" in cluster:
        expected = "expected [cluster/]node, in which * stands for any part (node-*, west/node-1)"
        raise FilterError(field, value, expected)
    parts = (cluster if slash else "", node)
    return "/".join(_fqdn(field, value, part) if part else _ANY_NAME for part in parts)
