"""experimental.cel_expression: known, and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flows.flow.filter.errors import UnsupportedError

if TYPE_CHECKING:
    from flows.flow.filter.condition import Condition
    from flows.proto.flow_pb2 import FlowFilter


def build(field: str, value: FlowFilter.Experimental) -> Condition:
    """A CEL expression raises UnsupportedError; an empty message restricts nothing."""
    if value.cel_expression:
        raise UnsupportedError(f"{field}.cel_expression", value.cel_expression[0])
    return lambda table: np.ones(len(table), np.bool_)
