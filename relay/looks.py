"""Looks: questions of the relay's own to all agents, for what a caller's flows do not tell by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flows.proto.observer_pb2 import GetFlowsRequest
from flows.relay import query as queries
from flows.relay.access.scope import EVERYTHING
from flows.relay.answer import Answer
from flows.relay.inquiry import Allowance

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from flows.flow.batch import Batch
    from flows.flow.ends import EndTable
    from flows.proto.flow_pb2 import FlowFilter
    from flows.relay.fanout import PoolLike
    from flows.relay.parcel import Parcel


# Looks at once, and then in a second: one may take a fifth of one of the loop's time.
AT_FIRST: Final = 16
PER_SECOND: Final = 1.0


class Looks:
    """Of one relay: all its answers together make no more of them than it and the agents can take."""

    def __init__(self, pool: PoolLike) -> None:
        self._pool, self._looks, self._calls = pool, Allowance(AT_FIRST, PER_SECOND), Allowance()

    def take(self) -> bool:
        """Whether one more may be made now; it counts if so."""
        return self._looks.take() and self._calls.take(max(1, len(self._pool.peers())))

    def parcels(
        self, wanted: Sequence[FlowFilter], number: int, since_ns: int, until_ns: int | None
    ) -> AsyncGenerator[Parcel, None]:
        """The newest flows of that time that match any filter, as their agents tell them. Times by the relay's clock."""
        request = GetFlowsRequest(whitelist=wanted, number=number)
        request.since.FromNanoseconds(max(0, since_ns))
        if until_ns is not None:
            request.until.FromNanoseconds(until_ns)
        return Answer(self._pool, queries.parse(request), lambda: EVERYTHING, lambda _: _AsTheyCame()).parcels()


class _AsTheyCame:
    """In place of a join: both ends' views are put together by whoever looks."""

    async def joined(self, batch: Batch) -> Batch:
        return batch

    def change_tables(self, ends: EndTable, nodes: list[str]) -> None:
        """It has none."""
