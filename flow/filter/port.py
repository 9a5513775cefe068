"""source_port, destination_port: ports of TCP, UDP and SCTP, as decimal text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flows.flow.filter.errors import FilterError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.columns import FlowTable, Mask
    from flows.flow.filter.condition import Condition

WITH_PORTS = (6, 17, 132)  # TCP, UDP, SCTP
# Not accepted, because Hubble does not; only to tell a person what they meant.
_WELL_KNOWN = {"http": "80", "https": "443", "dns": "53", "domain": "53", "ssh": "22", "kubernetes": "6443"}


def build(field: str, values: Sequence[str], column: str) -> Condition:
    """The port is one of those. A protocol without ports has none, not port 0."""
    ports = frozenset(parse(field, value) for value in values)

    def test(table: FlowTable) -> Mask:
        mask = table.numbers(column).isin(ports)
        return mask & table.numbers("protocol").isin(WITH_PORTS) if 0 in ports else mask

    return test


def parse(field: str, value: str) -> int:
    """A decimal u16. Raises FilterError."""
    if re.fullmatch(r"[0-9]+", value):
        if int(value[-20:]) <= 65535 and len(value) < 20:
            return int(value)
        raise FilterError(field, value, "value out of range: expected a port number from 0 to 65535", "65535")
    guess = _WELL_KNOWN.get(nearest(value, _WELL_KNOWN), "") or "".join(re.findall(r"[0-9]{1,5}", value)[:1])
    raise FilterError(field, value, "invalid syntax: expected a port number from 0 to 65535", guess)
