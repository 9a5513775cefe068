"""Follower: what waits for one client. One who is too slow loses the oldest flows, and is told so; nobody else waits for him."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from flows.flow.batch import empty
from flows.proto import flow_pb2, flows_pb2
from flows.relay.coverage import MOST_COUNT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from flows.relay.parcel import Parcel

MOST_ROWS: Final = 65_536
MOST_BYTES: Final = 16 << 20
SAY_SECONDS: Final = 1.0  # between two messages about losses, as Hubble does
SLOW: Final = "the client was too slow"


class Outbox:
    """Parcels between the maker of an answer and its client, which never makes the maker wait."""

    def __init__(self, name: str, most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES) -> None:
        """name: of the relay, as losses name it."""
        self.dropped = 0  # flows, in all
        self._name, self._most_rows, self._most_bytes = name, most_rows, most_bytes
        self._parcels: deque[tuple[Parcel, int]] = deque()
        self._rows = self._bytes = 0
        self._loss: flows_pb2.Loss | None = None
        self._said_at = -SAY_SECONDS
        self._some = asyncio.Event()
        self._ended = False

    def put(self, parcel: Parcel) -> None:
        """Take a parcel, and forget the oldest flows if they are too many now. The newest parcel stays in any case."""
        size = parcel.size()
        self._parcels.append((parcel, size))
        self._rows += len(parcel.batch)
        self._bytes += size
        while len(self._parcels) > 1 and (self._rows > self._most_rows or self._bytes > self._most_bytes):
            self._drop()
        self._shrink()
        self._some.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._some.set()

    async def get(self) -> Parcel | None:
        """The next parcel; None at the end."""
        while not self._parcels:
            if self._ended:
                return None
            self._some.clear()
            await self._some.wait()
        parcel, size = self._parcels.popleft()
        self._rows -= len(parcel.batch)
        self._bytes -= size
        now = time.monotonic()
        if self._loss is not None and now - self._said_at >= SAY_SECONDS:
            parcel.losses.append(self._loss)
            self._loss, self._said_at = None, now
        return parcel

    def _drop(self) -> None:
        """The oldest flows go, what is said with them goes on with the next ones."""
        parcel, size = self._parcels.popleft()
        self._rows -= len(parcel.batch)
        self._bytes -= size
        self._lose(parcel)
        self._merge(parcel, self._parcels[0][0])

    def _shrink(self) -> None:
        """Of parcels without flows that wait, as when a client takes nothing at all, one is enough."""
        while len(self._parcels) > 1 and not len(self._parcels[-2][0].batch):
            last, size = self._parcels.pop()
            before, before_size = self._parcels.pop()
            self._merge(before, last)
            self._parcels.append((last, size + before_size))

    @staticmethod
    def _merge(before: Parcel, parcel: Parcel) -> None:
        """Say with a parcel what was to be said with the one before."""
        parcel.past = parcel.past or before.past
        positions = {position.node: position for position in (*before.positions, *parcel.positions)}
        parcel.positions = list(positions.values())
        parcel.states = [*before.states, *parcel.states]
        parcel.losses = _joined([*before.losses, *parcel.losses])
        parcel.coverage = parcel.coverage or before.coverage

    def _lose(self, parcel: Parcel) -> None:
        count = len(parcel.batch)
        if not count:
            return
        self.dropped += count
        times = parcel.batch.time_ns
        if self._loss is None:
            self._loss = flows_pb2.Loss(node=self._name, reason=SLOW, source=flow_pb2.OBSERVER_EVENTS_QUEUE)
            self._loss.first.FromNanoseconds(int(times.min()))
        self._loss.count += count
        self._loss.last.FromNanoseconds(int(times.max()))
        parcel.batch = empty()


def _joined(losses: list[flows_pb2.Loss]) -> list[flows_pb2.Loss]:
    """One of each node and reason."""
    by_kind: dict[tuple[str, str], flows_pb2.Loss] = {}
    for loss in losses:
        known = by_kind.setdefault((loss.node, loss.reason), loss)
        if known is not loss:
            known.count = min(known.count + loss.count, MOST_COUNT)
            known.last.CopyFrom(loss.last)
    return list(by_kind.values())


async def buffered(parcels: AsyncGenerator[Parcel, None], outbox: Outbox) -> AsyncIterator[Parcel]:
    """The parcels, made whether or not somebody takes them."""
    maker = asyncio.create_task(_fill(parcels, outbox))
    try:
        while (parcel := await outbox.get()) is not None:
            yield parcel
        await maker
    finally:
        maker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await maker


async def _fill(parcels: AsyncGenerator[Parcel, None], outbox: Outbox) -> None:
    try:
        async with contextlib.aclosing(parcels):
            async for parcel in parcels:
                outbox.put(parcel)
    finally:
        outbox.end()
