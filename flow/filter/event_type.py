"""event_type: Cilium's event type, and its sub-type if asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.filter.condition import any_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.columns import FlowTable, Mask
    from flows.flow.filter.condition import Condition
    from flows.proto.flow_pb2 import EventTypeFilter

# Cilium pkg/monitor/api/types.go
EVENT_TYPES = {
    "drop": 1,
    "debug": 2,
    "capture": 3,
    "trace": 4,
    "policy-verdict": 5,
    "trace-sock": 7,
    "l7": 129,
    "agent": 130,
}
L7 = EVENT_TYPES["l7"]
# Cilium pkg/monitor/api/types.go (TraceObservationPoints) and Hubble's flows_filter.go (agent events).
SUB_TYPES = {
    "trace": {
        "to-endpoint": 0,
        "to-proxy": 1,
        "to-host": 2,
        "to-stack": 3,
        "to-overlay": 4,
        "from-endpoint": 5,
        "from-proxy": 6,
        "from-host": 7,
        "from-stack": 8,
        "from-overlay": 9,
        "from-network": 10,
        "to-network": 11,
        "from-crypto": 12,
        "to-crypto": 13,
    },
    "agent": {
        "unspecified": 0,
        "message": 1,
        "agent-started": 2,
        "policy-updated": 3,
        "policy-deleted": 4,
        "endpoint-regenerate-success": 5,
        "endpoint-regenerate-failure": 6,
        "endpoint-created": 7,
        "endpoint-deleted": 8,
        "ipcache-upserted": 9,
        "ipcache-deleted": 10,
    },
}


def build(field: str, values: Sequence[EventTypeFilter]) -> Condition:  # noqa: ARG001 (every number is valid)
    """Type 0 is any type; a flow without an event type never matches."""
    return any_of([_one(value.type, value.sub_type if value.match_sub_type else None) for value in values])


def _one(wanted: int, sub_type: int | None) -> Condition:
    def test(table: FlowTable) -> Mask:
        types = table.numbers("event_type").values
        mask: Mask = types == wanted if wanted else types >= 0
        if sub_type is not None:
            mask = mask & (table.numbers("event_sub_type").values == sub_type)
        return mask

    return test
