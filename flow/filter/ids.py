"""uuid, trace_id, ip_trace_id: identifiers, compared whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.filter.condition import equals, number_in
from flows.flow.filter.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.filter.condition import Condition


def build_uuid(field: str, values: Sequence[str]) -> Condition:
    """The flow's own identifier is one of those."""
    if "" in values:
        raise FilterError(field, "", "expected a flow's uuid (shown by -o json)")
    return equals("uuid", values)


def build_trace(field: str, values: Sequence[str]) -> Condition:  # noqa: ARG001 (every text is valid)
    """The W3C trace id is one of those; the empty one is that of flows without a trace, as in Hubble."""
    return equals("trace_id", values)


def build_ip_trace(field: str, values: Sequence[int]) -> Condition:
    """The number carried in the IP option is one of those."""
    if 0 in values:
        raise FilterError(field, "0", "expected a number greater than 0")
    return number_in("ip_trace_id", values)
