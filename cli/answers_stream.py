"""Stream of an answer's flows: batches are read as they are, without making whole flows of what is only counted."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from flows.cli.batches import BatchResponses
from flows.cli.servers import ServerError
from flows.cli.stream import SILENCE_S, FlowStream
from flows.flow.answers.told import Teller, Told
from flows.flow.batch import BatchError, BatchReader
from flows.flow.ends import EndTable
from flows.proto.flows_pb2 import FlowBatch
from flows.proto.observer_pb2 import GetFlowsResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from flows.cli.client import Client
    from flows.cli.route import Route
    from flows.proto.observer_pb2 import GetFlowsRequest

    Take = Callable[[Sequence[Told]], None]

# Flows that are put together before the connection and the screen get their turn: some 20 ms.
TURN = 512


class AnswerStream(FlowStream):
    """One query to one server. responses() gives what no batch brought, and what batches tell of nodes and losses."""

    def __init__(self, way: Route, query: GetFlowsRequest, tell: Callable[[str], None], take: Take) -> None:
        """take: gets the flows of batches, in order."""
        super().__init__(way, query, tell)
        self._take = take

    async def _from_batches(self, client: Client) -> AsyncGenerator[GetFlowsResponse, None]:
        reader, silence = _Reader(), SILENCE_S if self._query.follow else None
        async with aclosing(client.get_batches(self._progress.batched(), silence)) as batches:
            async for message in batches:
                self._accept()
                try:
                    flows = reader.read(message)
                except BatchError as error:
                    cause = f"its batch cannot be read: {error}; both sides must be of versions that go together"
                    raise ServerError(client.server, cause) from error
                while some := list(islice(flows, TURN)):
                    self._take(some)
                    await asyncio.sleep(0)
                for response in reader.rest(message):
                    yield response
                self._progress.note(message)
                self._note_time(reader.last_ns)
                self._note_unreadable(client, reader.unreadable)
                if message.HasField("coverage"):
                    self.coverage = message.coverage

    def _note_time(self, last_ns: int) -> None:
        """So that a server without batches can be asked to go on, if it comes back as that."""
        if self._query.follow and last_ns > 0:
            response = GetFlowsResponse()
            response.time.seconds, response.time.nanos = divmod(last_ns, 1_000_000_000)
            self._progress.note_flow(response, last_ns)

    def _note_unreadable(self, client: Client, unreadable: int) -> None:
        if unreadable and not self.unreadable:
            self._tell(f"{client.server}: flows are left out whose bytes cannot be read")
        self.unreadable |= unreadable > 0


class _Reader:
    """Reads the batches of one connection. last_ns: time of the last flow."""

    def __init__(self) -> None:
        self._begin()
        self._teller = Teller()
        self.last_ns = 0

    def _begin(self) -> None:
        self._ends = EndTable()
        self._batches = BatchReader(self._ends, [])

    @property
    def unreadable(self) -> int:
        return self._teller.unreadable

    def read(self, message: FlowBatch) -> Iterator[Told]:
        """What its flows tell. Raises BatchError at once."""
        if message.fresh:  # as BatchResponses: tables would only grow
            self._begin()
        batch = self._batches.read(message)
        if len(batch):
            self.last_ns = int(batch.time_ns[-1])
        return self._teller.read(batch, self._ends)

    def rest(self, message: FlowBatch) -> Iterator[GetFlowsResponse]:
        """What it says beside its flows."""
        rest = FlowBatch(node_status=message.node_status, losses=message.losses)
        return BatchResponses(FieldMask()).read(rest)
