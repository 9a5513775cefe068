"""Conditions: the shapes that a field's test of a table can have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.flow.columns import Memo

if TYPE_CHECKING:
    from collections.abc import Collection

from collections.abc import Callable

from flows.flow.columns import FlowTable, Mask

Condition = Callable[[FlowTable], Mask]


def on_value(column: str, predicate: Callable[[Any], bool]) -> Condition:
    """The predicate holds for the row's value in a Categories column; asked once per distinct value."""
    memo: Memo[Any] = Memo(predicate)
    return lambda table: table.categories(column).where(memo)


def equals(column: str, wanted: Collection[Any]) -> Condition:
    """The row's value in a Categories column is one of wanted."""
    values = frozenset(wanted)
    return lambda table: table.categories(column).isin(values)


def number_in(column: str, wanted: Collection[int]) -> Condition:
    """The row's number is one of wanted."""
    numbers = frozenset(wanted)
    return lambda table: table.numbers(column).isin(numbers)


def any_of(conditions: Collection[Condition]) -> Condition:
    """At least one of the conditions, of which there is at least one, holds."""

    def test(table: FlowTable) -> Mask:
        first, *rest = conditions
        mask = first(table)
        for condition in rest:
            mask |= condition(table)
        return mask

    return test
