"""node_name: the node that saw the flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.filter import patterns
from flows.flow.filter.condition import on_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.filter.condition import Condition


def build_name(field: str, values: Sequence[str]) -> Condition:
    """The node's name matches any of the `[cluster/]node` globs."""
    return on_value("node", patterns.node_name(field, values))
