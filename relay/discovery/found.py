"""Found: one agent as a discovery names it, and what several of them name together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flows.wire.addresses import ip_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Found:
    """One agent. name: as flows show its node; "" if the discovery does not know. endpoints: where it can be reached, best first;
    none of an agent whose address is not known (yet).

    ready: whether to connect. server_name: that its certificate must have; "": by the pattern. tls: whatever the address.
    """

    name: str
    endpoints: tuple[str, ...]
    ready: bool = True
    server_name: str = ""
    tls: bool = False

    @property
    def usable(self) -> bool:
        """Whether there is something to connect to."""
        return self.ready and bool(self.endpoints)

    @property
    def key(self) -> str:
        """What stays the same while an agent is known."""
        return self.name or self.endpoints[0]

    @property
    def addresses(self) -> frozenset[str]:
        """The IP addresses among the endpoints."""
        return frozenset(str(ip) for ip in map(ip_of, self.endpoints) if ip is not None)


class Discovery(Protocol):
    """Where agents are found."""

    status: str  # "" or why what it found may be out of date

    async def follow(self, found: Callable[[Sequence[Found]], None]) -> None:
        """Call found with all agents, at first and after each change, until cancelled.

        It is called again, with the same, when only status changed.
        """


def node_name(cluster: str, node: str) -> str:
    """A node as flows show it: the cluster "default" is left out, as in Hubble."""
    return node if cluster == "default" or not node else f"{cluster}/{node}"


def merge(lists: Iterable[Sequence[Found]]) -> dict[str, Found]:
    """All agents by key: what has one name is one agent; what has none is one of the named ones if it has its address."""
    merged: dict[str, Found] = {}
    everybody = [one for each in lists for one in each if one.endpoints or one.name]
    for one in everybody:
        if one.name:
            known = merged.get(one.key)
            merged[one.key] = one if known is None else _both(known, one)
    taken = {endpoint for one in merged.values() for endpoint in one.endpoints}
    for one in everybody:
        if not one.name and not taken.intersection(one.endpoints):
            merged[one.key] = one
            taken.update(one.endpoints)
    return merged


def _both(one: Found, other: Found) -> Found:
    """The same agent found twice, e.g. by its IPv4 and its IPv6 address: what is ready goes first."""
    first, second = (other, one) if other.ready and not one.ready else (one, other)
    endpoints = tuple(dict.fromkeys(first.endpoints + second.endpoints))
    return Found(one.name, endpoints, first.ready, first.server_name or second.server_name, first.tls or second.tls)
