"""source_identity, destination_identity: the endpoint's security identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.filter.condition import on_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.filter.condition import Condition

# Hubble's reserved identities (cilium pkg/identity/numericidentity.go).
RESERVED = {
    "unknown": 0,
    "host": 1,
    "world": 2,
    "unmanaged": 3,
    "health": 4,
    "init": 5,
    "remote-node": 6,
    "kube-apiserver": 7,
    "ingress": 8,
    "world-ipv4": 9,
    "world-ipv6": 10,
}


def build(field: str, values: Sequence[int], column: str) -> Condition:  # noqa: ARG001 (every number is valid)
    """The endpoint's identity is one of those."""
    wanted = frozenset(values)
    return on_value(column, lambda endpoint: endpoint.identity in wanted)
