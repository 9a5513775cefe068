"""protocol: a layer 4 or layer 7 protocol by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.columns import L7_DNS, L7_HTTP, L7_KAFKA
from flows.flow.filter.condition import any_of, number_in
from flows.flow.filter.errors import one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.filter.condition import Condition

# IANA protocol numbers.
L4 = {
    "icmp": (1, 58),
    "icmpv4": (1,),
    "icmpv6": (58,),
    "tcp": (6,),
    "udp": (17,),
    "sctp": (132,),
    "vrrp": (112,),
    "igmp": (2,),
}
L7 = {"dns": (L7_DNS,), "http": (L7_HTTP,), "kafka": (L7_KAFKA,)}


def build(field: str, values: Sequence[str]) -> Condition:
    """The flow's layer 4 or layer 7 protocol is one of those; upper or lower case."""
    wanted: dict[str, set[int]] = {}
    for value in values:
        name = value.lower()
        if name not in L4 and name not in L7:
            raise one_of(field, value, [*L4, *L7])
        column, numbers = ("protocol", L4[name]) if name in L4 else ("l7", L7[name])
        wanted.setdefault(column, set()).update(numbers)
    return any_of([number_in(column, numbers) for column, numbers in wanted.items()])
