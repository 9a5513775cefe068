"""reply: whether the flow is a reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.proto.flow_pb2 import DROPPED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.columns import FlowTable, Mask
    from flows.flow.filter.condition import Condition


def build(field: str, values: Sequence[bool]) -> Condition:  # noqa: ARG001 (both values are valid)
    """Unknown matches neither, except that a dropped flow counts as no reply (Hubble, for older clients)."""
    wanted = frozenset(int(value) for value in values)

    def test(table: FlowTable) -> Mask:
        replies = table.numbers("reply")
        mask = replies.isin(wanted)
        if 0 in wanted:
            mask |= replies.isin((-1,)) & table.numbers("verdict").isin((DROPPED,))
        return mask

    return test
