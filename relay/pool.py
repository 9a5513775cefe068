"""Pool: the agents that discovery names, each kept connected."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from flows.proto import relay_pb2
from flows.relay.discovery.found import Discovery, Found, merge
from flows.relay.peer import Peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence

    from flows.relay.dialer import Dialer
    from flows.relay.keeper import Pace

log = logging.getLogger("flows.relay")

# Agents that may be connecting at once: each has a TLS handshake (1 ms of a core), and those that do not answer wait.
CONNECTING: Final = 64


class Pool:
    """All agents. Use as an async context manager."""

    def __init__(self, discoveries: Sequence[Discovery], dialer: Dialer, pace: Pace | None = None) -> None:
        self._discoveries, self._dialer, self._pace = tuple(discoveries), dialer, pace
        self._turns = asyncio.Semaphore(CONNECTING)
        self._lists: list[Sequence[Found]] = [()] * len(self._discoveries)
        self._peers: dict[str, Peer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._version = 0
        self._sorted: tuple[int, tuple[Peer, ...]] = (-1, ())  # peers() as of a version: each change has many readers
        self._next = asyncio.Event()

    async def __aenter__(self) -> Self:
        for number, discovery in enumerate(self._discoveries):
            self._spawn(self._follow(number, discovery))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(peer.close() for peer in self._peers.values()))

    @property
    def discovery_status(self) -> str:
        """Why the list of peers may be out of date; "" if it is not."""
        return "; ".join(one.status for one in self._discoveries if one.status)

    def peers(self) -> tuple[Peer, ...]:
        """All that discovery names now, sorted by name. Of several addresses that turn out to be one node, the connected one."""
        version, peers = self._sorted
        if version != self._version:
            version = self._version
            peers = _by_name(list(self._peers.values()))  # the metrics thread reads, too
            self._sorted = version, peers
        return peers

    def changes(self) -> AsyncIterator[None]:
        """Yields after every change of membership or of a peer's state since this call; several at once count as one."""
        return self._changes(self._version)

    async def _changes(self, seen: int) -> AsyncIterator[None]:
        while True:
            while self._version == seen:
                await self._next.wait()
            seen = self._version
            yield

    def _changed(self) -> None:
        self._version += 1
        self._next.set()
        self._next = asyncio.Event()

    def _found(self, number: int, found: Sequence[Found]) -> None:
        """Take what one discovery names now."""
        self._lists[number] = found
        wanted = merge(self._lists)
        for key in self._peers.keys() - wanted.keys():
            self._spawn(self._peers.pop(key).remove())
        for key, one in wanted.items():
            if key in self._peers:
                self._peers[key].update(one)
            else:
                self._peers[key] = Peer(one, self._dialer, self._turns, self._changed, self._pace)
                self._peers[key].start()
        self._changed()

    async def _follow(self, number: int, discovery: Discovery) -> None:
        """A discovery that fails is a fault of ours: what it found stays, and everybody is told."""
        try:
            await discovery.follow(partial(self._found, number))
        except Exception as error:
            log.exception("a discovery of agents failed")
            discovery.status = f"discovery failed: {error!r}; restart the relay"
            self._changed()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _by_name(peers: Iterable[Peer]) -> tuple[Peer, ...]:
    by_name: dict[str, Peer] = {}
    for peer in peers:
        known = by_name.get(peer.name)
        if known is None or (known.state, peer.state) == (relay_pb2.NODE_UNAVAILABLE, relay_pb2.NODE_CONNECTED):
            by_name[peer.name] = peer
    return tuple(by_name[name] for name in sorted(by_name))
