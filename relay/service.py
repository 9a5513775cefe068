"""observer.Observer and flows.v1.Flows on gRPC: all agents as one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from flows.flow.request import RequestError
from flows.proto import flows_pb2, observer_pb2
from flows.relay import query as queries
from flows.relay.access.credentials import credentials
from flows.relay.access.scope import Denied
from flows.relay.answer import Answer
from flows.relay.causes import Causes
from flows.relay.emission import BatchEmitter, ObserverEmitter
from flows.relay.follower import Outbox, buffered
from flows.relay.looks import Looks
from flows.relay.others import Others
from flows.relay.quota import QuotaError
from flows.relay.seal import Seal
from flows.wire.addresses import bind
from flows.wire.clients import understands_extensions
from flows.wire.limits import server_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from google.protobuf.message import Message

    from flows.relay.access.scope import Access, Grant
    from flows.relay.emission import Emitter
    from flows.relay.metrics import Metrics
    from flows.relay.parcel import Parcel
    from flows.relay.pool import Pool
    from flows.relay.query import Query
    from flows.relay.quota import Quota
    from flows.relay.status import Status
    from flows.relay.tables import Tables
    from flows.wire.tls import ServerTls

    Context = grpc.aio.ServicerContext[Any, Any]
    Work = Callable[[Any, Context, Grant], Awaitable[Any]]

OBSERVER: Final = observer_pb2.DESCRIPTOR.services_by_name["Observer"].full_name
FLOWS: Final = flows_pb2.DESCRIPTOR.services_by_name["Flows"].full_name
VERSION_KEY: Final = "hubble-relay-version"  # initial metadata, as Hubble's relay sends it
NAME: Final = "hubble-relay"  # stands for a node's name where the relay itself tells something
NOT_SERVED: Final = "relays and agents of flows have no events of Cilium's agent or datapath"


class _Refused(Exception):  # noqa: N818 - what is done to the caller
    """A call ends with this code and text."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True)
class Relay:
    """What the handlers of one server need. access: for callers of its listeners; seal: its own; all else is all servers'."""

    pool: Pool
    access: Access
    status: Status
    metrics: Metrics
    version: str
    quota: Quota
    looks: Looks
    seal: Seal = field(default_factory=Seal)

    async def get_flows(self, request: observer_pb2.GetFlowsRequest, context: Context, grant: Grant) -> None:
        """Observer/GetFlows."""
        query = _checked(partial(queries.parse, request, extensions=understands_extensions(context)))
        await self._answer(query, context, grant, ObserverEmitter(NAME))

    async def get_batches(self, request: flows_pb2.FlowsRequest, context: Context, grant: Grant) -> None:
        """Flows/GetFlows."""
        query = _checked(partial(queries.parse_batched, request))
        positions = {node: self.seal.open(position, grant.scope) for node, position in query.positions.items()}
        emitter = BatchEmitter(lambda position: self.seal.close(position, grant.scope))
        await self._answer(replace(query, positions=positions), context, grant, emitter)

    async def server_status(self, _request: observer_pb2.ServerStatusRequest, _context: Context, grant: Grant) -> bytes:
        """Observer/ServerStatus."""
        return (await self.status.server_status(grant.scope.namespaces)).SerializeToString()

    async def nodes(self, _request: observer_pb2.GetNodesRequest, _context: Context, grant: Grant) -> bytes:
        """Observer/GetNodes."""
        return (await self.status.nodes(grant.scope.namespaces)).SerializeToString()

    async def namespaces(self, _request: observer_pb2.GetNamespacesRequest, _context: Context, grant: Grant) -> bytes:
        """Observer/GetNamespaces."""
        return (await self.status.namespaces(grant.scope.namespaces)).SerializeToString()

    async def clock(self, _request: flows_pb2.ClockRequest, _context: Context, _grant: Grant) -> bytes:
        """Flows/GetClock."""
        return flows_pb2.ClockResponse(now_ns=time.time_ns()).SerializeToString()

    async def not_served(self, _request: bytes, _context: Context, _grant: Grant) -> bytes:
        """Observer/GetAgentEvents and GetDebugEvents."""
        raise _Refused(grpc.StatusCode.UNIMPLEMENTED, NOT_SERVED)

    async def _answer(self, query: Query, context: Context, grant: Grant, emitter: Emitter) -> None:
        with contextlib.ExitStack() as opened:
            try:
                opened.enter_context(self.quota.stream(_caller(grant, context)))
            except QuotaError as error:
                raise _Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from error
            self.metrics.streams.inc()
            opened.callback(self.metrics.streams.dec)
            causes = Causes(self.looks, self._count_causes, limited=lambda: grant.scope.namespaces is not None)
            answer = Answer(self.pool, query, lambda: grant.scope, partial(self._others, query, grant), causes)
            await _while_granted(self._send(answer, query, context, emitter), grant)

    def _count_causes(self, outcome: str, flows: int) -> None:
        self.metrics.causes.labels(outcome).inc(flows)

    def _others(self, query: Query, grant: Grant, tables: Tables) -> Others:
        limit, asked = grant.scope.namespaces, query.namespaces
        return Others(
            self.pool,
            tables.ends,
            tables.nodes,
            query.whole,
            namespaces=asked if limit is None else limit,
            counts=self.metrics.joins,
        )

    async def _send(self, answer: Answer, query: Query, context: Context, emitter: Emitter) -> None:
        outbox = Outbox(NAME)
        parcels: AsyncIterator[Parcel] = answer.parcels()
        if query.selection.follow:
            parcels = buffered(answer.parcels(), outbox)
        try:
            async with contextlib.aclosing(parcels):  # type: ignore[type-var]
                async for parcel in parcels:
                    for message in emitter.messages(parcel):
                        await context.write(message)
                    self.metrics.flows.inc(len(parcel.batch))
        finally:
            if outbox.dropped:
                self.metrics.lost.labels("slow client").inc(outbox.dropped)


def _checked(parse: Callable[[], Query]) -> Query:
    try:
        return parse()
    except RequestError as error:
        raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error


def _caller(grant: Grant, context: Context) -> str:
    """Whom a stream counts for: the user, else the address; "" for who comes by a unix socket."""
    peer = str(context.peer())
    return grant.scope.user or ("" if peer.startswith("unix:") else peer.rpartition(":")[0])


async def _while_granted(work: Awaitable[None], grant: Grant) -> None:
    """Do it for as long as the caller may have it. Raises Denied when the grant ends before."""
    sending, watching = asyncio.ensure_future(work), asyncio.ensure_future(grant.revoked())
    try:
        await asyncio.wait((sending, watching), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await sending
        else:
            raise watching.result()
    finally:
        for task in (sending, watching):
            task.cancel()
        await asyncio.gather(sending, watching, return_exceptions=True)


def _handled(relay: Relay, name: str, work: Work) -> Callable[[Any, Context], Any]:
    """A call's handler: who calls is checked first, and how it ended is counted."""

    async def handle(request: Any, context: Context) -> Any:
        code = grpc.StatusCode.CANCELLED
        try:
            grant = await relay.access.admit(credentials(context))
            await context.send_initial_metadata(((VERSION_KEY, relay.version),))
            answered = await work(request, context, grant)
        except Denied as refusal:
            code = refusal.code
            relay.metrics.denials.labels(code.name).inc()
            await context.abort(code, str(refusal))
        except _Refused as refusal:
            code = refusal.code
            await context.abort(code, str(refusal))
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception:
            code = grpc.StatusCode.UNKNOWN  # as gRPC answers it
            raise
        else:
            code = grpc.StatusCode.OK
            return answered
        finally:
            relay.metrics.requests.labels(name, code.name).inc()

    return handle


def _method(relay: Relay, request: type[Message], work: Work, *, stream: bool = False) -> Any:
    """A method whose responses are made as bytes. request: the message that it takes."""
    kind = grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler
    handler = _handled(relay, work.__name__, work)
    return kind(handler, request_deserializer=request.FromString, response_serializer=None)


def handlers(relay: Relay) -> list[grpc.GenericRpcHandler]:
    """Both services."""
    method = partial(_method, relay)
    observer = {
        "GetFlows": method(observer_pb2.GetFlowsRequest, relay.get_flows, stream=True),
        "GetAgentEvents": method(observer_pb2.GetAgentEventsRequest, relay.not_served, stream=True),
        "GetDebugEvents": method(observer_pb2.GetDebugEventsRequest, relay.not_served, stream=True),
        "GetNodes": method(observer_pb2.GetNodesRequest, relay.nodes),
        "GetNamespaces": method(observer_pb2.GetNamespacesRequest, relay.namespaces),
        "ServerStatus": method(observer_pb2.ServerStatusRequest, relay.server_status),
    }
    flows = {
        "GetFlows": method(flows_pb2.FlowsRequest, relay.get_batches, stream=True),
        "GetClock": method(flows_pb2.ClockRequest, relay.clock),
    }
    return [grpc.method_handlers_generic_handler(OBSERVER, observer), grpc.method_handlers_generic_handler(FLOWS, flows)]


async def serve(
    addresses: Sequence[str],
    tls: ServerTls | None,
    pool: Pool,
    access: Access,
    status: Status,
    metrics: Metrics,
    version: str,
    quota: Quota,
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """Serve on all addresses (`host:port`, `unix:///path`). Raises AddressError. The caller keeps the health service."""
    server = grpc.aio.server(options=server_options())
    relay = Relay(pool, access, status, metrics, version, quota, Looks(pool))
    server.add_generic_rpc_handlers(handlers(relay))
    healths = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    reflection.enable_server_reflection([OBSERVER, FLOWS, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    bind(server, addresses, tls)
    await server.start()
    return server, healths
