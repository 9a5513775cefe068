"""Agents and a pool for tests of the join: real messages, no connections."""

import numpy as np
from google.protobuf.json_format import ParseDict
from join_samples import S, batch

from flows.flow.batch import BatchWriter, compose
from flows.flow.ends import EndTable
from flows.proto import extension_pb2, flow_pb2, flows_pb2, observer_pb2, relay_pb2
from flows.relay.clock import Clock
from flows.relay.link import PeerError
from flows.relay.others import Others

NOW = 1000 * S
NODES = ["node-1", "node-2", "node-3"]


class Agent:
    """A peer that answers GetConnections of its rows as an agent does: by opener and time."""

    def __init__(self, name, rows=(), *, addresses=(), offset=0, error=0, state=relay_pb2.NODE_CONNECTED, batched=True):
        self.name, self.rows, self.addresses = name, list(rows), frozenset(addresses)
        self.clock, self.state, self.batched = Clock(offset, error), state, batched
        self.asked = []
        self.fails = None
        self.coverage = flows_pb2.NodeCoverage(node=name, state=relay_pb2.NODE_CONNECTED)
        getattr(self.coverage, "from").FromNanoseconds(S)
        self.coverage.to.FromNanoseconds(NOW)

    async def get_connections(self, request, timeout):  # noqa: ASYNC109 - Peer's signature
        self.asked.append(request)
        if self.fails:
            raise PeerError(self.fails, f"asking {self.name}: it fails")
        openers = np.frombuffer(request.openers, "<u8").tolist()
        since, until = request.since.ToNanoseconds(), request.until.ToNanoseconds()
        rows = [row for row in self.rows if row.opener in openers and since <= row.time <= until]
        ends = EndTable()
        message = BatchWriter(ends, NODES).write(batch(rows, ends))
        message.coverage.nodes.add().CopyFrom(self.coverage)
        return message

    def openers(self):
        return [np.frombuffer(request.openers, "<u8").tolist() for request in self.asked]


class Agents:
    def __init__(self, *peers):
        self._peers = peers

    def peers(self):
        return self._peers


class Query:
    """One query through Others; windows are lists of rows."""

    def __init__(self, *peers, namespaces=None, **request):
        self.peers, self.ends, self.nodes = peers, EndTable(), list(NODES)
        self.now = NOW
        wanted = ParseDict(request, observer_pb2.GetFlowsRequest())
        self.others = Others(Agents(*peers), self.ends, self.nodes, wanted, namespaces=namespaces, now_ns=lambda: self.now)
        self.counts = self.others.counts

    async def window(self, *rows):
        """The flows that come of it."""
        joined = await self.others.joined(batch(rows, self.ends))
        self.last = joined
        return [flow_pb2.Flow.FromString(raw) for raw in compose(joined, self.ends)]


def extension(flow):
    unpacked = extension_pb2.FlowExtension()
    flow.extensions.Unpack(unpacked)
    return unpacked


def views(flows):
    return [extension(flow).connection.other_view for flow in flows]


def names(flows):
    return [(flow.source.pod_name, flow.destination.pod_name) for flow in flows]
