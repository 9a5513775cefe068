"""Keeper: keeps one agent connected: attempts, probes, changes of address, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from flows.proto import relay_pb2
from flows.relay.backoff import Backoff
from flows.relay.link import Link, PeerError
from flows.relay.probe import Probe
from flows.wire.tls import TlsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.relay.dialer import Dialer
    from flows.relay.discovery.found import Found

log = logging.getLogger("flows.relay")

NOT_READY: Final = "its pod is not ready"
NO_ADDRESS: Final = "its address is not known"
NOT_TRIED: Final = "not connected yet"


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient the relay is with its agents, in seconds."""

    connect: float = 5.0  # TCP's first retransmissions are after 1 and 3 s; who needs more is not there
    answer: float = 5.0  # for the short questions by which an agent shows that it is well
    probe: float = 30.0  # between them; NTP's shortest usual intervals are 16 and 64 s
    backoff: tuple[float, float] = (1.0, 30.0)  # the first and the longest pause between attempts
    lasted: float = 10.0  # a connection that stood for so long was a good one: the next attempt follows at once
    again: float = 1.0  # a query may have a lost agent tried again before its pause is over, if the last attempt is this old


class Keeper:
    """One agent's connection. Its state changes in the loop's thread only."""

    def __init__(
        self, found: Found, dialer: Dialer, turns: asyncio.Semaphore, changed: Callable[[], None], pace: Pace | None = None
    ) -> None:
        """turns: how many peers may be connecting at once. changed: called after each change of what others can see."""
        self.state: int = relay_pb2.NODE_UNAVAILABLE
        self.message = NOT_TRIED if found.usable else _unusable(found)
        self.since_ns = time.time_ns()
        self.connectivity = "NIL_CONNECTION"  # as Hubble's metric has it
        self._found, self._dialer, self._turns, self._changed = found, dialer, turns, changed
        self._pace = pace or Pace()
        self._backoff = Backoff(*self._pace.backoff)
        self._probe = Probe(self._pace.answer)
        self._link: Link | None = None
        self._attempts = 0
        self._at_once = False  # a connection was given up for a new one
        self._wake = asyncio.Event()  # something happened that ends a pause
        self._settled = asyncio.Event()  # no attempt is under way
        self._tried_at = 0.0
        self._quick = False  # the last attempt failed at once, so that another does not hold a query up
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """As flows show the node; its address as long as nobody told."""
        return self._found.name or self._probe.node or self.address

    @property
    def named(self) -> bool:
        """Whether `name` is the node's."""
        return bool(self._found.name or self._probe.node)

    @property
    def address(self) -> str:
        """Where it is connected, else where it is tried next."""
        if self._link is not None:
            return self._link.address
        endpoints = self._found.endpoints or ("",)
        return endpoints[self._attempts % len(endpoints)]

    def start(self) -> None:
        """Begin to keep it connected."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"peer {self.name}")

    def update(self, found: Found) -> None:
        """Take what its discovery says now: a connection to an address that is no longer its own is replaced."""
        if found == self._found:
            return
        before, self._found = self._found, found
        if self._link is not None and not self._still(before, self._link.address):
            self._drop(self._link, "reconnecting: its address changed")
            self._at_once = True
        elif self._link is None and not found.usable:
            self._set(relay_pb2.NODE_UNAVAILABLE, _unusable(found))
        self._attempts = 0
        self._wake.set()

    def _still(self, before: Found, address: str) -> bool:
        """Whether a connection that was made when this was found is still what is wanted."""
        same = (before.server_name, before.tls) == (self._found.server_name, self._found.tls)
        return same and address in self._found.endpoints

    async def remove(self) -> None:
        """It is no longer named by any discovery. Streams under way go on until they end."""
        await self._stop()
        dropped, self._link = self._link, None
        if dropped is not None:
            dropped.retire()
        self.connectivity = "SHUTDOWN"
        self._set(relay_pb2.NODE_GONE, "removed from the cluster")

    async def close(self) -> None:
        """End everything now."""
        await self._stop()
        dropped, self._link = self._link, None
        if dropped is not None:
            dropped.cut("the relay stops")
            await dropped.closed()

    async def available(self, timeout: float) -> bool:  # noqa: ASYNC109 - how long a query may be held up
        """Whether it is connected, after waiting for an attempt that is under way, or is worth making now."""
        if self._link is None and self._settled.is_set() and self._worth_trying():
            self._settled.clear()
            self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._settled.wait()
        return self._link is not None

    async def _keep(self) -> None:
        """Connect, stay, and again, for ever: a fault of ours in one round must not be the last of it."""
        while True:
            try:
                await self._round()
            except Exception as error:
                log.exception("keeping %s connected", self.name)
                self._drop(self._link, "a fault of the relay")
                self._set(relay_pb2.NODE_UNAVAILABLE, f"a fault of the relay: {error!r}")
                await self._pause()

    async def _round(self) -> None:
        self._wake.clear()
        if not self._found.usable:
            self._settled.set()
            await self._wake.wait()
            return
        self._settled.clear()
        async with self._turns:
            made = await self._attempt()
        began = time.monotonic()
        if made is not None:
            await self._stay(made)
            if self._at_once or time.monotonic() - began > self._pace.lasted:
                self._at_once = False
                self._backoff.reset()
                return
        await self._pause()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.pause()):
                await self._wake.wait()

    async def _attempt(self) -> Link | None:
        """One attempt at one of its addresses, settled either way."""
        began, address = time.monotonic(), self.address
        self.connectivity = "CONNECTING"
        try:
            made = await self._connect(address)
        except PeerError as error:
            self._attempts += 1
            self.connectivity = "TRANSIENT_FAILURE"
            self._set(relay_pb2.NODE_UNAVAILABLE, str(error))
            return None
        else:
            self._link, self.connectivity = made, "READY"
            self._set(relay_pb2.NODE_CONNECTED, "")
            return made
        finally:
            self._tried_at = time.monotonic()
            self._quick = self._tried_at - began < self._pace.again
            self._settled.set()

    async def _connect(self, address: str) -> Link:
        """A connection to an agent that has answered. Raises PeerError."""
        found = self._found
        act = f"connecting to {self.name}" if self.name == address else f"connecting to {self.name} at {address}"
        try:
            made = Link(self._dialer.channel(found, address), self.name, address)
        except TlsError as error:
            raise PeerError(grpc.StatusCode.UNAVAILABLE, f"{act}: {error}") from error
        try:
            async with asyncio.timeout(self._pace.connect):
                connected = await made.connect()
            if connected:
                await self._probe.greet(made, named=bool(found.name))
        except TimeoutError:
            connected = False
        except BaseException:
            made.cut("it did not answer as it should")
            raise
        if connected and self._still(found, address):
            return made
        made.cut("no connection")
        why = "its address changed meanwhile" if connected else await self._dialer.diagnose(found, address)
        why = why or f"no gRPC server answered within {self._pace.connect:g} s"
        raise PeerError(grpc.StatusCode.UNAVAILABLE, f"{act}: {why}")

    async def _stay(self, made: Link) -> None:
        """Return when the connection is of no more use."""
        lost = asyncio.create_task(made.lost())
        try:
            while self._link is made and not lost.done():
                pause = self._pace.probe * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing
                await self._first(lost, pause)
                if self._link is made and not lost.done() and not await self._well(made):
                    break
        finally:
            lost.cancel()
            await asyncio.gather(lost, return_exceptions=True)
        self._drop(made, "the connection was lost")

    async def _first(self, lost: asyncio.Task[None], seconds: float) -> None:
        """Wait for the connection's end, for something to do, or so long."""
        woken = asyncio.create_task(self._wake.wait())
        await asyncio.wait((lost, woken), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()
        self._wake.clear()

    async def _well(self, made: Link) -> bool:
        """Whether it still answers. One that does not, twice, has its streams ended: they would hang with it."""
        for last in (False, True):
            try:
                await self._probe.once(made)
                if not self.named and await self._probe.identify(made):
                    self._changed()
            except PeerError as error:
                if error.code is grpc.StatusCode.UNAVAILABLE:
                    return False
                if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and last:
                    self._drop(
                        made, f"no answer within {2 * self._pace.answer:g} s: is the agent stopped or overloaded?", cut=True
                    )
                    return False
                if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                    continue
            return True
        return True

    def _drop(self, dropped: Link | None, why: str, *, cut: bool = False) -> None:
        if dropped is None or self._link is not dropped:
            return
        self._link, self.connectivity = None, "IDLE"
        if cut:
            dropped.cut(why)
        else:
            dropped.retire()
        self._set(relay_pb2.NODE_UNAVAILABLE, why if self._found.usable else _unusable(self._found))

    def _worth_trying(self) -> bool:
        return self._found.usable and self._quick and time.monotonic() - self._tried_at >= self._pace.again

    def _set(self, state: int, message: str) -> None:
        if (state, message) == (self.state, self.message):
            return
        if state != self.state:
            self.since_ns = time.time_ns()
        self.state, self.message = state, message
        self._changed()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._settled.set()


def _unusable(found: Found) -> str:
    return NOT_READY if found.endpoints else NO_ADDRESS
