"""Flows of requests as agents stream them, kept as bytes until somebody looks: following must not slow down what is followed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
from google.protobuf.field_mask_pb2 import FieldMask

from flows.cli.batches import BatchResponses
from flows.proto import extension_pb2, flow_pb2, flows_pb2, flows_pb2_grpc, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from demo_command import Demo

Json = dict[str, Any]
LONGEST_SECONDS = 60.0  # that a stream may be behind: one machine has it all, and full speed is more than it can show live


@dataclass
class Followed:
    """Streams of servers (addresses as gRPC knows them), from now until the end of a `with`."""

    servers: Iterable[str]
    filters: list[flow_pb2.FlowFilter]
    fields: Iterable[str] = ()  # of flows; none: all
    _messages: dict[str, list[flows_pb2.FlowBatch]] = field(default_factory=dict)
    _calls: list[Any] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _channels: list[grpc.Channel] = field(default_factory=list)

    def __enter__(self) -> Self:
        query = observer_pb2.GetFlowsRequest(whitelist=self.filters, follow=True)
        if self.fields:
            query.field_mask.paths.extend(self.fields)
        for server in self.servers:
            channel = grpc.insecure_channel(server)
            stub: Any = flows_pb2_grpc.FlowsStub(channel)  # type: ignore[no-untyped-call] # generated
            call = stub.GetFlows(flows_pb2.FlowsRequest(query=query))
            self._messages[server] = []
            thread = threading.Thread(target=self._read, args=(call, self._messages[server]))
            thread.start()
            self._channels.append(channel)
            self._calls.append(call)
            self._threads.append(thread)
        end = time.monotonic() + LONGEST_SECONDS
        while not all(map(self._watermark, self._messages)):
            assert time.monotonic() < end, "a stream has not begun"
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        for call in self._calls:
            call.cancel()
        for thread in self._threads:
            thread.join()
        for channel in self._channels:
            channel.close()

    @staticmethod
    def _read(call: Iterator[flows_pb2.FlowBatch], messages: list[flows_pb2.FlowBatch]) -> None:
        try:
            messages.extend(call)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.CANCELLED, error  # noqa: PT017 - it is a thread: what fails shows as no flows

    def settle(self) -> None:
        """Wait until all that has happened by now has come."""
        now, end = time.time_ns(), time.monotonic() + LONGEST_SECONDS
        while any(self._watermark(server) <= now for server in self._messages):
            assert time.monotonic() < end, f"streams are more than {LONGEST_SECONDS:.0f} s behind"
            time.sleep(0.1)

    def _watermark(self, server: str) -> int:
        """Up to when a stream has all flows; ns since 1970."""
        marks = (message.watermark_ns for message in reversed(list(self._messages[server])))
        return next((mark for mark in marks if mark), 0)

    def late(self) -> list[int]:
        """Of flows that came after a watermark which is later than they are: by how many ns."""
        found = []
        for messages in self._messages.values():
            mark = 0
            for message in messages:
                found += [mark - at for at in np.frombuffer(message.time_ns, "<i8").tolist() if at < mark]
                mark = max(mark, message.watermark_ns)
        return found

    def raw(self) -> bytes:
        """All that came, as it came over the wire."""
        return b"".join(message.SerializeToString() for messages in self._messages.values() for message in messages)

    def responses(self) -> Iterator[observer_pb2.GetFlowsResponse]:
        """All that was said."""
        for messages in self._messages.values():
            reader = BatchResponses(FieldMask())
            for message in messages:
                yield from reader.read(message)

    def told(self) -> list[Told]:
        """The flows of requests."""
        flows = (response.flow for response in self.responses() if response.HasField("flow"))
        return [told for told in map(Told.of, flows) if told is not None]

    def lost(self) -> dict[str, int]:
        """How many events the servers say were lost, by reason."""
        count: dict[str, int] = {}
        for messages in self._messages.values():
            for loss in (loss for message in messages for loss in message.losses):
                count[loss.reason] = count.get(loss.reason, 0) + loss.count
        return count


@dataclass(frozen=True, slots=True)
class Told:
    """A flow of a request or of what became of it, with its extension."""

    flow: flow_pb2.Flow
    connection: extension_pb2.Connection

    @classmethod
    def of(cls, flow: flow_pb2.Flow) -> Told | None:
        """None for a flow that is about no request."""
        extension = extension_pb2.FlowExtension()
        if not flow.extensions.Unpack(extension) or not extension.connection.HasField("request"):
            return None
        return cls(flow, extension.connection)

    @property
    def request(self) -> extension_pb2.Request:
        return self.connection.request

    @property
    def by_client(self) -> bool:
        """Whether the end that asked saw it: a request's source is the client, an answer's the server."""
        return self.connection.observed_at_source == (self.connection.event != extension_pb2.RESPONSE)

    @property
    def path(self) -> str:
        """Of an HTTP request, without host."""
        after = self.flow.l7.http.url.partition("://")[2] or self.flow.l7.http.url
        return "/" + after.partition("/")[2].partition("?")[0] if not after.startswith("/") else after.partition("?")[0]

    @property
    def marks(self) -> set[str]:
        return {extension_pb2.RequestMark.Name(mark) for mark in self.request.marks}


def agents(demo: Demo, *pods: Json) -> list[str]:
    """Sockets of the agents on these pods' nodes, each once."""
    nodes = {pod["node"] for pod in pods}
    return [agent["socket"] for agent in demo.status()["agents"] if agent["node"] in nodes]


def only(**fields: Any) -> list[flow_pb2.FlowFilter]:
    """A filter."""
    return [flow_pb2.FlowFilter(**fields)]
