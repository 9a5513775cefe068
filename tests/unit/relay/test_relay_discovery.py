"""Discovery: what is given and found, merged into one peer for each agent, which come and go with it."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from relay_agents import Agent, List, agents, connected, found, names, pool, until

from flows.relay.discovery.found import Found, merge, node_name
from flows.relay.discovery.static import StaticPeers, peers

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a:1", [Found("", ("a:1",))]),
        ("n=a:1, east/m=[::1]:2", [Found("n", ("a:1",)), Found("east/m", ("[::1]:2",))]),
        ("n=tls://localhost:1", [Found("n", ("localhost:1",), tls=True)]),
        ("n=unix:///run/a.sock", [Found("n", ("unix:///run/a.sock",))]),
    ],
)
def test_peers_of_the_command_line(text: str, wanted: list[Found]) -> None:
    assert peers(text) == wanted


@pytest.mark.parametrize("text", ["n", "n=", "=a:1", "n=a", "n=tls://unix:///a", "n=a:1,b"])
def test_peers_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        peers(text)


@pytest.mark.parametrize(
    ("lists", "wanted"),
    [
        # Slices of IPv4 and of IPv6, whichever comes first.
        ([[Found("n", ("10.0.0.1:1",))], [Found("n", ("[fd00::1]:1",))]], {"n": ("10.0.0.1:1", "[fd00::1]:1")}),
        # A pod that ends and the one that replaces it: the ready one goes first.
        ([[Found("n", ("10.0.0.1:1",), ready=False), Found("n", ("10.0.0.2:1",))]], {"n": ("10.0.0.2:1", "10.0.0.1:1")}),
        # Named on the command line by an address that the API has a name for.
        ([[Found("", ("10.0.0.1:1",))], [Found("n", ("10.0.0.1:1",))]], {"n": ("10.0.0.1:1",)}),
        ([[Found("", ("10.0.0.1:1",)), Found("", ("10.0.0.1:1",))]], {"10.0.0.1:1": ("10.0.0.1:1",)}),
        ([[Found("n", ())], [Found("n", ("10.0.0.1:1",))]], {"n": ("10.0.0.1:1",)}),
        ([[Found("", ())]], {}),
    ],
)
def test_one_agent_found_twice_is_one(lists: list[list[Found]], wanted: dict[str, Sequence[str]]) -> None:
    merged = merge(lists)
    assert {key: one.endpoints for key, one in merged.items()} == wanted
    assert all(one.ready for one in merged.values())


def test_only_the_default_cluster_is_left_out_of_names() -> None:
    assert (node_name("default", "n"), node_name("east", "n"), node_name("east", "")) == ("n", "east/n", "")


async def test_two_addresses_of_one_node_that_only_it_knows_are_one_peer() -> None:
    async with agents(Agent("n"), Agent("n")) as (one, other):
        given_ = StaticPeers([Found("", (one.address,)), Found("", (other.address,))])
        async with pool(given_) as pooled:
            await until(lambda: names(pooled) == ["n"], pooled)


async def test_peers_come_and_go_with_what_is_found() -> None:
    async with agents(Agent("a"), Agent("b")) as (one, other):
        discovery = List(found(one))
        async with pool(discovery) as pooled:
            await connected(pooled)
            discovery.set(found(one), found(other))
            await connected(pooled, 2)
            assert names(pooled) == ["a", "b"]
            (kept, _) = pooled.peers()
            discovery.set(found(one), status="it is broken")
            await until(lambda: names(pooled) == ["a"], pooled)
            assert pooled.discovery_status == "it is broken"
            assert pooled.peers() == (kept,)


async def test_a_change_between_the_question_and_the_wait_is_not_missed() -> None:
    async with agents(Agent("a")) as (one,):
        discovery = List()
        async with pool(discovery) as pooled:
            await asyncio.sleep(0)
            changes = pooled.changes()
            discovery.set(found(one))
            async with asyncio.timeout(1):
                await anext(changes)


async def test_a_discovery_that_fails_keeps_what_it_found_and_says_so() -> None:
    class Broken:
        status = ""

        async def follow(self, tell: Any) -> None:
            tell([Found("a", ("127.0.0.1:1",))])
            raise ValueError("a fault")

    async with pool(Broken()) as pooled:
        await until(lambda: "a fault" in pooled.discovery_status, pooled)
        assert names(pooled) == ["a"]
