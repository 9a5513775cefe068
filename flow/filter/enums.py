"""verdict, drop_reason_desc, traffic_direction, ip_version, encrypted: numbers of an enum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.filter.condition import number_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.filter.condition import Condition


def build(field: str, values: Sequence[int], column: str) -> Condition:  # noqa: ARG001 (every number is valid)
    """The number is one of those. Numbers that no enum has are valid: a newer agent may send them."""
    return number_in(column, [int(value) for value in values])
