"""peer.Peer of an agent: who the agents are, as Hubble's relay takes it, and what changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from samples import packed

from flows.agent.enrich.kube_records import NodeRecord
from flows.agent.observer import peers
from flows.agent.observer.peers import Addressing, changes, members
from flows.proto import peer_pb2, peer_pb2_grpc

if TYPE_CHECKING:
    import grpc
    from samples import Names

OPEN = ("unix:///run/flows.sock", "0.0.0.0:4244")
ADDED, DELETED, UPDATED = peer_pb2.PEER_ADDED, peer_pb2.PEER_DELETED, peer_pb2.PEER_UPDATED


def nodes(**addresses: str) -> dict[str, NodeRecord]:
    made = {name.replace("_", "."): (packed(text).tobytes(),) if text else () for name, text in addresses.items()}
    return {name: NodeRecord(f"uid-{name}", name, given) for name, given in made.items()}


@pytest.mark.parametrize(
    ("addressing", "known", "told"),
    [
        (Addressing("a", "demo", OPEN), nodes(a="10.0.0.1", b="10.0.0.2"),
            {"demo/a": "10.0.0.1:4244", "demo/b": "10.0.0.2:4244"}),
        (Addressing("a", "default", OPEN), nodes(a="fd00::1"), {"a": "[fd00::1]:4244"}),
        (Addressing("a", "default", ("[::]:5000",)), nodes(b="10.0.0.2"), {"a": "[::]:5000", "b": "10.0.0.2:5000"}),
        (Addressing("a", "default", ("localhost:1", "unix:///x")), nodes(b="10.0.0.2"),
            {"a": "localhost:1", "b": "10.0.0.2:4244"}),
        (Addressing("a", "default", OPEN), nodes(b=""), {"a": OPEN[1], "b": ""}),
    ],
)  # fmt: skip
def test_members(addressing: Addressing, known: dict[str, NodeRecord], told: dict[str, str]) -> None:
    found = members(known, addressing)
    assert {name: member.address for name, member in found.items()} == told
    assert all(member.name == name and not member.HasField("tls") for name, member in found.items())


def test_server_names_are_as_hubble_makes_them() -> None:
    found = members(nodes(node_1="10.0.0.1"), Addressing("node.1", "c.d", OPEN, tls=True))
    assert found["c.d/node.1"].tls.server_name == "node-1.c-d.hubble-grpc.cilium.io"


def test_changes_are_told_once() -> None:
    addressing = Addressing("a", "default", OPEN)
    before = members(nodes(a="10.0.0.1", b="10.0.0.2", c="10.0.0.3"), addressing)
    now = members(nodes(a="10.0.0.1", b="10.0.0.9", d="10.0.0.4"), addressing)
    told = [(change.name, change.type, change.address) for change in changes(before, now)]
    assert told == [("b", UPDATED, "10.0.0.9:4244"), ("d", ADDED, "10.0.0.4:4244"), ("c", DELETED, "10.0.0.3:4244")]
    assert not list(changes(now, now))


async def test_a_stream_of_peers(channel: grpc.aio.Channel, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LOOK_SECONDS", 0.01)
    stub = peer_pb2_grpc.PeerStub(channel)  # type: ignore[no-untyped-call] # generated
    call = stub.Notify(peer_pb2.NotifyRequest())

    async def told(count: int) -> list[tuple[str, int]]:
        heard = [await asyncio.wait_for(call.read(), 10) for _ in range(count)]
        return [(one.name, one.type) for one in heard]

    assert await told(1) == [("demo/node-1", ADDED)]
    names.known_nodes = nodes(b="10.0.0.2", c="10.0.0.3")
    assert await told(2) == [("demo/b", ADDED), ("demo/c", ADDED)]
    names.known_nodes = nodes(b="10.0.0.2")
    assert await told(1) == [("demo/c", DELETED)]
    call.cancel()
