"""Rows of the store to flow.Flow messages: made only for the flows that somebody asked for."""

from __future__ import annotations

import errno
import socket
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage

from flows.agent.observer import summary
from flows.agent.probe.record import TABLE_ID, Initiator
from flows.agent.store.table import DIRECTIONS, FROM_ENDPOINT, SCTP, SUB_TYPES, TCP, UDP, VERDICTS
from flows.flow.endpoint import Endpoint, Evidence
from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp
    from numpy.typing import NDArray

    from flows.agent.store.process_names import ProcessNames
    from flows.agent.store.store import Rows
    from flows.agent.store.table import FlowIds

SECOND = 1_000_000_000
ICMP, ICMPV6 = 1, 58
TYPE_TRACE = 4
WITH_PORTS = {TCP: "TCP", UDP: "UDP", SCTP: "SCTP"}  # field of flow.Layer4 by protocol
MAPPED = bytes(10) + b"\xff\xff"

# TCP flag bits by field of flow.TCPFlags
TCP_FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128}


class Row(NamedTuple):
    """One stored flow as Python values; fields as in agent/store/columns.py."""

    time: int
    start: int
    conn_id: int
    sent_bytes: int
    received_bytes: int
    local_addr: bytes
    remote_addr: bytes
    sent_packets: int
    received_packets: int
    pid: int
    rtt_us: int
    handshake_us: int
    retransmits: int
    local_port: int
    remote_port: int
    event: int
    protocol: int
    initiator: int
    flags_sent: int
    flags_received: int
    error: int
    icmp_type: int
    icmp_code: int
    netns: int
    local: int
    remote: int
    process: int


class End(NamedTuple):
    """One end of a flow, with the process that the socket's record named."""

    endpoint: Endpoint
    pid: int
    process: str
    evidence: Evidence


def to_rows(columns: Rows) -> list[Row]:
    """Columns (n,) to n rows."""
    values: list[Any] = []
    for name in Row._fields:
        column: NDArray[Any] = columns[name]
        values.append([row.tobytes() for row in column] if column.ndim == 2 else column.tolist())
    return [Row(*row) for row in zip(*values, strict=True)]


@lru_cache(maxsize=65_536)
def address_text(address: bytes) -> str:
    """16 bytes as text, IPv4-mapped ones as IPv4 (RFC 5952)."""
    if address.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)


def set_time(message: Timestamp, ns: int) -> None:
    """Set a Timestamp to ns since 1970."""
    message.seconds, message.nanos = divmod(ns, SECOND)


def _set_duration(message: Duration, ns: int) -> None:
    message.seconds, message.nanos = divmod(ns, SECOND)
    message.SetInParent()


def _tcp_flags(bits: int) -> flow_pb2.TCPFlags:
    return flow_pb2.TCPFlags(**{name: True for name, bit in TCP_FLAGS.items() if bits & bit})


def endpoint_message(endpoint: Endpoint) -> flow_pb2.Endpoint:
    """Hubble's view of an endpoint."""
    message = flow_pb2.Endpoint(
        identity=max(endpoint.identity, 0),
        namespace=endpoint.namespace,
        pod_name=endpoint.pod,
        labels=endpoint.labels,
        cluster_name=endpoint.cluster,
    )
    if endpoint.workload:
        message.workloads.add(name=endpoint.workload.name, kind=endpoint.workload.kind)
    return message


def _detail(end: End) -> extension_pb2.EndpointDetail:
    endpoint = end.endpoint
    detail = extension_pb2.EndpointDetail(
        evidence=int(end.evidence),  # type: ignore[arg-type]
        systemd_unit=endpoint.systemd_unit,
        node=endpoint.node,
        cgroup=endpoint.cgroup,
        services=[flow_pb2.Service(name=service.name, namespace=service.namespace) for service in endpoint.services],
    )
    if end.pid:
        detail.process.pid, detail.process.name = end.pid, end.process
    if endpoint.container:
        container = endpoint.container
        detail.container.id, detail.container.runtime, detail.container.name = (
            container.id,
            container.runtime,
            container.name,
        )
    return detail


class Decoder:
    """Makes Flow messages of one agent."""

    def __init__(
        self,
        node_name: str,
        node_labels: tuple[str, ...],
        version: str,
        processes: ProcessNames,
        ids: FlowIds,
    ) -> None:
        """node_name as shown in Flow.node_name."""
        self._node_name, self._node_labels = node_name, node_labels
        self._version, self._processes, self._ids = version, processes, ids

    def flows(
        self,
        numbers: list[int],
        rows: list[Row],
        others: list[Row | None],
        endpoints: Callable[[int], Endpoint],
    ) -> Iterator[flow_pb2.Flow]:
        """Yield one Flow for each row; others: the rows that the other ends' sockets gave, where this node has them."""
        for number, row, other in zip(numbers, rows, others, strict=True):
            local = self._local_end(row, endpoints)
            remote = self._remote_end(row, other, endpoints)
            yield self._flow(number, row, local, remote)

    def _local_end(self, row: Row, endpoints: Callable[[int], Endpoint]) -> End:
        endpoint = endpoints(row.local)
        return End(endpoint, row.pid, self._processes[row.process], endpoint.evidence)

    def _remote_end(self, row: Row, other: Row | None, endpoints: Callable[[int], Endpoint]) -> End:
        if other is None:
            endpoint = endpoints(row.remote)
            return End(endpoint, 0, "", endpoint.evidence)
        endpoint = endpoints(other.local)
        return End(endpoint, other.pid, self._processes[other.process], Evidence.CONNECTION)

    def _flow(self, number: int, row: Row, local: End, remote: End) -> flow_pb2.Flow:
        inbound = row.initiator == Initiator.REMOTE
        source, destination = (remote, local) if inbound else (local, remote)
        flow = flow_pb2.Flow(
            uuid=self._ids.of(number),
            verdict=int(VERDICTS[row.event]),  # type: ignore[arg-type]
            Type=flow_pb2.L3_L4,
            node_name=self._node_name,
            node_labels=self._node_labels,
            traffic_direction=int(DIRECTIONS[row.initiator]),  # type: ignore[arg-type]
            source=endpoint_message(source.endpoint),
            destination=endpoint_message(destination.endpoint),
            emitter=flow_pb2.Emitter(name="flows", version=self._version),
        )
        set_time(flow.time, row.time)
        self._layers(flow, row, inbound=inbound)
        self._event(flow, row)
        self._services(flow, source.endpoint, destination.endpoint)
        flow.extensions.CopyFrom(_packed(self._extension(row, source, destination, inbound=inbound)))
        return flow

    @staticmethod
    def _layers(flow: flow_pb2.Flow, row: Row, *, inbound: bool) -> None:
        ends = [(row.local_addr, row.local_port), (row.remote_addr, row.remote_port)]
        (source, source_port), (destination, destination_port) = reversed(ends) if inbound else ends
        flow.IP.source, flow.IP.destination = address_text(source), address_text(destination)
        ipv4 = row.local_addr.startswith(MAPPED)
        flow.IP.ipVersion = flow_pb2.IPv4 if ipv4 else flow_pb2.IPv6
        if row.protocol in (ICMP, ICMPV6):
            icmp = flow.l4.ICMPv4 if row.protocol == ICMP else flow.l4.ICMPv6
            icmp.type, icmp.code = row.icmp_type, row.icmp_code
            icmp.SetInParent()
            return
        layer: Any = getattr(flow.l4, WITH_PORTS[row.protocol])
        layer.source_port, layer.destination_port = source_port, destination_port
        if row.protocol == TCP:
            flow.l4.TCP.flags.CopyFrom(_tcp_flags(row.flags_sent | row.flags_received))

    @staticmethod
    def _event(flow: flow_pb2.Flow, row: Row) -> None:
        sub_type = int(SUB_TYPES[row.initiator])
        flow.event_type.type, flow.event_type.sub_type = TYPE_TRACE, sub_type
        point = flow_pb2.FROM_ENDPOINT if sub_type == FROM_ENDPOINT else flow_pb2.TO_ENDPOINT
        flow.trace_observation_point = point
        if row.initiator != Initiator.UNKNOWN:
            flow.is_reply.value = False
            flow.is_reply.SetInParent()
        if row.conn_id < TABLE_ID:
            flow.socket_cookie = row.conn_id
        flow.Summary = _summary(row)

    @staticmethod
    def _services(flow: flow_pb2.Flow, source: Endpoint, destination: Endpoint) -> None:
        for endpoint, message in ((source, flow.source_service), (destination, flow.destination_service)):
            if endpoint.service:
                message.name, message.namespace = endpoint.service.name, endpoint.service.namespace

    @staticmethod
    def _extension(row: Row, source: End, destination: End, *, inbound: bool) -> extension_pb2.FlowExtension:
        extension = extension_pb2.FlowExtension(source=_detail(source), destination=_detail(destination))
        connection = extension.connection
        connection.id = row.conn_id
        connection.event = row.event  # type: ignore[assignment]
        connection.observed_at_source = not inbound
        if row.initiator != Initiator.UNKNOWN:
            connection.initiator = extension_pb2.SOURCE
        if row.start:
            set_time(connection.started, row.start)
            _set_duration(connection.duration, max(0, row.time - row.start))
        sent, received = connection.from_source, connection.from_destination
        if inbound:
            sent, received = received, sent
        sent.bytes, sent.packets = row.sent_bytes, row.sent_packets
        received.bytes, received.packets = row.received_bytes, row.received_packets
        if row.protocol == TCP:
            sent.tcp_flags.CopyFrom(_tcp_flags(row.flags_sent))
            received.tcp_flags.CopyFrom(_tcp_flags(row.flags_received))
            _measured(connection, row)
        return extension


def _measured(connection: extension_pb2.Connection, row: Row) -> None:
    if row.handshake_us:
        _set_duration(connection.handshake, row.handshake_us * 1000)
    if row.rtt_us:
        _set_duration(connection.rtt, row.rtt_us * 1000)
    connection.retransmits = row.retransmits
    if row.error:
        connection.error = errno.errorcode.get(row.error, str(row.error))


def _packed(extension: extension_pb2.FlowExtension) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(extension)
    return packed


def _summary(row: Row) -> str:
    if row.protocol == TCP:
        seconds = (row.time - row.start) / SECOND if row.start else None
        error = errno.errorcode.get(row.error, "")
        flags = summary.tcp(row.flags_sent | row.flags_received)
        return flags + summary.outcome(row.event, seconds, row.retransmits, error)
    if row.protocol == ICMP:
        return summary.icmp(4, row.icmp_type, row.icmp_code)
    if row.protocol == ICMPV6:
        return summary.icmp(6, row.icmp_type, row.icmp_code)
    return {UDP: "UDP", SCTP: "SCTP"}[row.protocol]
