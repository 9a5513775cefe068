"""Place: what tells that two flows have one end in common, though an end may have several addresses, and nodes some in common."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.flow.answers.party import Party
    from flows.flow.answers.view import View

    # An address; or a node, and an address, a pod or a process of it.
    Trait = str | tuple[str, str | int]

# Addresses of DNS servers and their clients: more are looked at again.
REMEMBERED_ADDRESSES = 4_096


@lru_cache(REMEMBERED_ADDRESSES)
def loopback(address: str) -> bool:
    """Whether it never leaves the node: 127.0.0.53 of systemd-resolved."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


@lru_cache(REMEMBERED_ADDRESSES)
def of_each_node(address: str) -> bool:
    """Whether other nodes may have it, too, for themselves: loopback, and link-local like 169.254.20.10 of NodeLocal DNSCache."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return found.is_loopback or found.is_link_local


def address_at(address: str, node: str) -> Trait:
    """What an address means to a node."""
    return (node, address) if of_each_node(address) else address


def client_traits(view: View) -> set[Trait]:
    """Of who asked."""
    return _traits(view.client, view.node, own=view.at_client is True)


def server_traits(view: View) -> set[Trait]:
    """Of who was asked. One that is asked by IPv6, or at a link-local address, may ask in turn by IPv4, or from its node's."""
    return _traits(view.server, view.node, own=view.at_client is False)


def told_apart(end: Party) -> bool:
    """Whether what it does under another address is known to be of it."""
    return bool(end.pod or end.pid)


def _traits(end: Party, node: str, *, own: bool) -> set[Trait]:
    """own: whether this end is the node's."""
    found: set[Trait] = {address_at(end.address, node)} if end.address else set()
    if where := end.node or (node if own else ""):
        found |= {(where, each) for each in (end.pod, end.pid) if each}
    return found
