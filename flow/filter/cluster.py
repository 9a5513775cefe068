"""source_cluster_name, destination_cluster_name: the endpoint's cluster, by its exact name, as in Hubble."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.filter.condition import on_value
from flows.flow.filter.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.filter.condition import Condition


def build(field: str, values: Sequence[str], column: str) -> Condition:
    """The endpoint's cluster is one of those."""
    if "" in values:
        raise FilterError(field, "", "expected the name of a cluster")
    wanted = frozenset(values)
    return on_value(column, lambda endpoint: endpoint.cluster in wanted)
