"""Times and nodes, as flows tell them and users ask for them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
NODES = {"demo/node-1", "demo/node-2", "demo/node-3"}


def nanoseconds(text: str) -> int:
    """Of a time in a flow, to the last digit."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def moment(ns: int) -> str:
    """A time as --since and --until take it."""
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat().replace("+00:00", "Z")


def node_of(pod: Json) -> str:
    return f"demo/{pod['node']}"
