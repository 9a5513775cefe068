"""source_label, destination_label, node_labels: label selectors over Cilium's `source:key=value`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flows.flow.filter import limits
from flows.flow.filter.condition import on_value
from flows.flow.filter.errors import FilterError
from flows.flow.filter.selector import Label, Selector, SelectorError, parse_label, parse_selector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flows.flow.filter.condition import Condition

EXAMPLES = "expected a label selector (app=web, tier in (front,back), !canary, k8s:app=web, reserved:world)"


def build_endpoint(field: str, values: Sequence[str], column: str) -> Condition:
    """Any of the selectors selects the endpoint's labels."""
    selectors = [parse(field, value) for value in values]
    return on_value(column, lambda endpoint: _any(selectors, endpoint.labels))


def build_node(field: str, values: Sequence[str]) -> Condition:
    """Any of the selectors selects the node's labels."""
    selectors = [parse(field, value) for value in values]
    return on_value("node_labels", lambda labels: _any(selectors, labels))


def parse(field: str, value: str) -> Selector:
    """Raises FilterError."""
    limits.check_text(field, value)
    try:
        return parse_selector(value)
    except SelectorError as error:
        raise FilterError(field, value, f"{error}; {EXAMPLES}", _nearest(value)) from None


def _nearest(value: str) -> str:
    """A usual slip mended: a bracket left open, a comma too many, blanks in a key or value, `is` for `=`."""
    slim = value.strip(" ,")
    guesses = (
        slim,
        f"{slim})",
        re.sub(r"\s+(?:is|eq|equals|:)\s+", "=", slim),
        re.sub(r"\s+", "-", slim),
        slim.lower(),
    )
    return next((guess for guess in guesses if guess and _parses(guess)), "")


def _parses(value: str) -> bool:
    try:
        parse_selector(value)
    except SelectorError:
        return False
    return True


def _any(selectors: Sequence[Selector], labels: Iterable[str]) -> bool:
    parsed: list[Label] = sorted((parse_label(label) for label in labels), key=lambda label: label.key)
    return any(selector.selects(parsed) for selector in selectors)
