"""Stream: the responses of one query, from the batched service where there is one; followed, across reconnections."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from flows.cli.progress import Progress
from flows.cli.servers import ServerError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from flows.cli.client import Client
    from flows.cli.route import Route
    from flows.proto import observer_pb2
    from flows.proto.flows_pb2 import Coverage

    Responses = AsyncGenerator[observer_pb2.GetFlowsResponse, None]

# Pauses before another attempt to reach a server that went away: the first, and the longest after doubling.
BACKOFF_S = (1.0, 30.0)
# A followed batch comes at least every 5 s (proto/flows.proto, max_delay); some is left for slow networks.
SILENCE_S = 30.0
# A plain server says nothing until there is a flow; a call that stood for so long was accepted.
ACCEPTED_S = 1.0
# gRPC codes of a server that went away, not of one that refuses.
_GONE = frozenset({"UNAVAILABLE", "CANCELLED"})


class FlowStream:
    """One query to one server.

    coverage: what the answer's end says of its completeness; None: nothing. unreadable: flows came whose bytes are none.
    """

    def __init__(self, way: Route, query: observer_pb2.GetFlowsRequest, tell: Callable[[str], None]) -> None:
        """tell: takes a line for the person who follows."""
        self._way, self._query, self._tell = way, query, tell
        self._progress = Progress(query, time.time_ns())
        self._batched = True  # until the server says that it has no such service
        self._accepted = False  # by this connection
        self._lost = self._renewed = False  # since the server last accepted us: the connection; the login
        self._pause = BACKOFF_S[0]
        self.coverage: Coverage | None = None
        self.unreadable = False

    async def responses(self) -> Responses:
        """As they arrive. Raises ServerError, UsageError: at once if the first connection fails or is refused."""
        established = False
        while True:
            client: Client | None = None
            self._accepted = False
            try:
                client = await self._way.client()
                async with aclosing(self._answer(client)) as answer:
                    async for response in answer:
                        yield response
                break
            except ServerError as error:
                established |= self._accepted
                if not (established and self._query.follow and await self._worth_trying(error, client)):
                    raise
            finally:
                if client is not None:
                    await client.close()
            await asyncio.sleep(self._pause)
            self._pause = min(BACKOFF_S[1], 2 * self._pause)

    async def _answer(self, client: Client) -> Responses:
        if self._batched:
            try:
                async with aclosing(self._from_batches(client)) as answer:
                    async for response in answer:
                        yield response
            except ServerError as error:
                if error.code != "UNIMPLEMENTED" or self._accepted:
                    raise
                self._batched = False
        if not self._batched:
            async with aclosing(self._from_observer(client)) as answer:
                async for response in answer:
                    yield response

    async def _from_batches(self, client: Client) -> Responses:
        from flows.cli.batches import BatchResponses  # noqa: PLC0415 - not for servers that have none
        from flows.flow.batch import BatchError  # noqa: PLC0415

        reader = BatchResponses(self._query.field_mask)
        silence = SILENCE_S if self._query.follow else None
        async with aclosing(client.get_batches(self._progress.batched(), silence)) as batches:
            async for message in batches:
                self._accept()
                try:
                    responses = reader.read(message)
                except BatchError as error:
                    cause = f"its batch cannot be read: {error}; both sides must be of versions that go together"
                    raise ServerError(client.server, cause) from error
                for response in responses:
                    yield response
                    self._note(response)
                self._progress.note(message)
                if reader.unreadable and not self.unreadable:
                    self._tell(f"{client.server}: flows are left out whose bytes cannot be read")
                self.unreadable |= reader.unreadable > 0
                if message.HasField("coverage"):
                    self.coverage = message.coverage

    async def _from_observer(self, client: Client) -> Responses:
        request = self._progress.plain() if self._lost else self._query
        connected = self._query.follow and await client.connected()
        began = time.monotonic()
        try:
            async with aclosing(client.get_flows(request)) as responses:
                async for response in responses:
                    self._accept()
                    yield response
                    self._note(response)
        finally:
            if connected and time.monotonic() - began > ACCEPTED_S:
                self._accept()

    def _note(self, response: observer_pb2.GetFlowsResponse) -> None:
        if self._query.follow and response.HasField("flow"):
            self._progress.note_flow(response, time.time_ns())

    def _accept(self) -> None:
        """The server answers on this connection."""
        if self._accepted:
            return
        self._accepted, self._renewed = True, False
        if self._lost:
            self._lost, self._pause = False, BACKOFF_S[0]
            flaw = "" if self._batched else "; flows of the meantime may be missing or shown twice: it can go on only by time"
            self._tell(f"{self._way.server}: connected again{flaw}")

    async def _worth_trying(self, error: ServerError, client: Client | None) -> bool:
        """Whether another attempt may succeed; the first one of an outage is told."""
        if error.code == "UNAUTHENTICATED" and client is not None and not self._renewed:
            self._renewed = True
            if (await self._way.login(fresh=True)).authorization in {"", client.login.authorization}:
                return False
        elif error.code not in _GONE:
            return False
        if not self._lost:
            self._lost = True
            self._tell(f"{self._way.server}: {error.cause}; trying again")
        return True
