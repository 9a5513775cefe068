"""interface: the network interface at which the flow was seen, by index, name or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.filter.condition import on_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.columns import Interface
    from flows.flow.filter.condition import Condition
    from flows.proto.flow_pb2 import NetworkInterface


def build(field: str, values: Sequence[NetworkInterface]) -> Condition:  # noqa: ARG001 (all are valid)
    """Index 0 and the empty name are wildcards; a flow without an interface never matches."""
    wanted = frozenset((value.index, value.name) for value in values)

    def matches(seen: Interface | None) -> bool:
        if seen is None:
            return False
        index, name = seen.ifindex, seen.name
        return not wanted.isdisjoint(((index, name), (index, ""), (0, name), (0, "")))

    return on_value("interface", matches)
