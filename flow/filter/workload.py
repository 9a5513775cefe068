"""source_workload, destination_workload: the workload that runs the endpoint, by name, kind or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.columns import workloads
from flows.flow.filter.condition import on_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.endpoint import Endpoint
    from flows.flow.filter.condition import Condition
    from flows.proto.flow_pb2 import Workload


def build(field: str, values: Sequence[Workload], column: str) -> Condition:  # noqa: ARG001 (all are valid)
    """Empty name and empty kind are wildcards; an endpoint without a workload never matches."""
    wanted = frozenset((value.name, value.kind) for value in values)

    def matches(endpoint: Endpoint) -> bool:
        return any(not wanted.isdisjoint(_meant(workload.name, workload.kind)) for workload in workloads(endpoint))

    return on_value(column, matches)


def _meant(name: str, kind: str) -> tuple[tuple[str, str], ...]:
    """What may have been written for a workload."""
    return (name, kind), (name, ""), ("", kind), ("", "")
