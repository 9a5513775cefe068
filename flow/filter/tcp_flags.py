"""tcp_flags: all flags of one of the sets are present; others do not matter, so SYN matches SYN-ACK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.columns import TCP_FLAGS
from flows.flow.filter.condition import any_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.columns import FlowTable, Mask
    from flows.flow.filter.condition import Condition
    from flows.proto.flow_pb2 import TCPFlags


def build(field: str, values: Sequence[TCPFlags]) -> Condition:  # noqa: ARG001 (all sets are valid)
    """The empty set matches every TCP flow."""
    return any_of([_superset(wanted) for wanted in sorted({bits(value) for value in values})])


def bits(flags: TCPFlags) -> int:
    """The flags as the number of the tcp_flags column."""
    return sum(bit for name, bit in TCP_FLAGS.items() if getattr(flags, name))


def _superset(wanted: int) -> Condition:
    def test(table: FlowTable) -> Mask:
        if wanted:
            return table.numbers("tcp_flags").has_bits(wanted)
        return table.numbers("protocol").isin((6,))

    return test
