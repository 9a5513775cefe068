"""source_fqdn, destination_fqdn, dns_query: names of an address, and the name asked for in a DNS flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.filter import patterns
from flows.flow.filter.condition import on_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.filter.condition import Condition


def build(field: str, values: Sequence[str], column: str) -> Condition:
    """Any name of the address matches any of the globs."""
    matches = patterns.fqdn(field, values)
    return on_value(column, lambda names: any(map(matches, names)))


def build_query(field: str, values: Sequence[str]) -> Condition:
    """The DNS flow's query holds a match of any of the expressions; other flows never match."""
    matches = patterns.regex(field, values)
    return on_value("dns_query", lambda query: query is not None and matches(query))
