"""MessageTable: a FlowTable over flow.Flow messages, for flows that come from a file or a test."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError

from flows.flow.columns import (
    COLUMNS,
    L7_DNS,
    L7_HTTP,
    L7_KAFKA,
    NO_ENDPOINT,
    Addresses,
    Categories,
    FlowEndpoint,
    Http,
    Interface,
    Mask,
    Numbers,
    absent,
)
from flows.flow.endpoint import Endpoint, ServiceName, Workload
from flows.flow.filter.selection import Selection, select
from flows.flow.filter.tcp_flags import bits
from flows.proto.extension_pb2 import EndpointDetail, FlowExtension

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from flows.flow.filter.algebra import Filter
    from flows.proto.flow_pb2 import Flow, Service
    from flows.proto.observer_pb2 import GetFlowsResponse

# IANA protocol numbers by the field of Layer4.
_PROTOCOLS = {"TCP": 6, "UDP": 17, "ICMPv4": 1, "ICMPv6": 58, "SCTP": 132, "VRRP": 112, "IGMP": 2}
_WITH_PORTS = ("TCP", "UDP", "SCTP")
_L7 = {"dns": L7_DNS, "http": L7_HTTP, "kafka": L7_KAFKA}
_I64 = np.iinfo(np.int64)
# Of no flow Hubble's filters take them for nothing at all, and what else they ask of for unset (pkg/hubble/filters).
_NEVER_MISSING = ("verdict", "ip_version")


class MessageTable:
    """Columns are made when first asked for, by one pass over the messages each."""

    def __init__(self, flows: Sequence[Flow], missing: Mask | None = None) -> None:
        """missing: rows that stand for no flow, bool (n,)."""
        self._flows, self._missing = flows, missing
        self._columns: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._flows)

    def categories(self, name: str) -> Categories[Any]:
        """KeyError: no such column; so do the others."""
        column: Categories[Any] = self._column(name)
        return column

    def numbers(self, name: str) -> Numbers:
        column: Numbers = self._column(name)
        return column

    def addresses(self, name: str) -> Addresses:
        column: Addresses = self._column(name)
        return column

    def _column(self, name: str) -> Any:
        if name not in self._columns:
            read = _READ.get(name)
            self._columns[name] = absent(name, len(self)) if read is None else self._read(name, read)
        return self._columns[name]

    def _read(self, name: str, read: Callable[[Flow], Any]) -> Categories[Any] | Numbers | Addresses:
        kind = COLUMNS[name].kind
        if kind is Categories:
            return _encode(map(read, self._flows), len(self))
        if kind is Numbers:
            dtype = np.uint64 if name == "ip_trace_id" else np.int64
            values = np.fromiter(map(read, self._flows), dtype, len(self))
            if name in _NEVER_MISSING and self._missing is not None:
                values[self._missing] = -1
            return Numbers(values)
        return _pack([read(flow) for flow in self._flows])


def choose(responses: Sequence[GetFlowsResponse], matches: Filter, selection: Selection) -> list[GetFlowsResponse]:
    """The responses to show, in their order, of a file: lost events and node states pass a filter as a flow without fields would,
    and count as one, as with `hubble observe --input-file` (hubble/cmd/observe/io_reader_observer.go).
    """
    missing = np.fromiter((not response.HasField("flow") for response in responses), np.bool_, len(responses))
    times = np.fromiter((_nanoseconds(response) for response in responses), np.int64, len(responses))
    mask: Mask = matches(MessageTable([response.flow for response in responses], missing))
    shown = select(mask, times, selection)
    return [responses[row] for row in np.flatnonzero(shown).tolist()]


def _encode(values: Any, n: int) -> Categories[Any]:
    index: dict[Hashable, int] = {}
    codes = np.fromiter((index.setdefault(value, len(index)) for value in values), np.intp, n)
    return Categories(codes, list(index))


def _pack(texts: list[str]) -> Addresses:
    """Text that is no address counts as none."""
    packed = {text: _packed(text) for text in set(texts)}
    raw = b"".join(packed[text] or bytes(16) for text in texts)
    present = np.fromiter((packed[text] is not None for text in texts), np.bool_, len(texts))
    return Addresses(np.frombuffer(raw, np.uint8).reshape(-1, 16), present)


def _packed(text: str) -> bytes | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return bytes(10) + b"\xff\xff" + address.packed if isinstance(address, IPv4Address) else address.packed


def _nanoseconds(message: Flow | GetFlowsResponse) -> int:
    return max(int(_I64.min), min(int(_I64.max), message.time.ToNanoseconds()))


def _endpoint(flow: Flow, side: str) -> Endpoint:
    """The endpoint with both kinds of services; NO_ENDPOINT where the flow tells nothing of that side."""
    address_of = getattr(flow, f"{side}_service") if flow.HasField(f"{side}_service") else None
    selected_by = _detail(flow, side).services
    if not flow.HasField(side) and address_of is None and not selected_by:
        return NO_ENDPOINT
    end = getattr(flow, side)
    return FlowEndpoint(
        identity=end.identity if flow.HasField(side) else NO_ENDPOINT.identity,
        namespace=end.namespace,
        pod=end.pod_name,
        labels=tuple(end.labels),
        workloads=tuple(Workload(workload.kind, workload.name) for workload in end.workloads),
        service=_service(address_of) if address_of is not None else None,
        services=tuple(map(_service, selected_by)),
        cluster=end.cluster_name,
    )


def _service(service: Service) -> ServiceName:
    return ServiceName(service.namespace, service.name)


def _detail(flow: Flow, side: str) -> EndpointDetail:
    """Ours only: empty where the flow carries no FlowExtension, or a damaged one."""
    extension = FlowExtension()
    try:
        flow.extensions.Unpack(extension)
    except DecodeError:
        return EndpointDetail()
    detail: EndpointDetail = getattr(extension, side)
    return detail


def _port(flow: Flow, side: str) -> int:
    protocol = flow.l4.WhichOneof("protocol")
    if protocol not in _WITH_PORTS:
        return 0
    # Hubble cuts the u32 to 16 bits.
    return int(getattr(getattr(flow.l4, protocol), f"{side}_port")) & 0xFFFF


def _http(flow: Flow) -> Http | None:
    if flow.l7.WhichOneof("record") != "http":
        return None
    http = flow.l7.http
    headers = tuple((header.key, header.value) for header in http.headers)
    return Http(http.code, http.method, http.url, headers)


_READ: Mapping[str, Callable[[Flow], Any]] = {
    "source": lambda flow: _endpoint(flow, "source"),
    "destination": lambda flow: _endpoint(flow, "destination"),
    "source_names": lambda flow: tuple(flow.source_names),
    "destination_names": lambda flow: tuple(flow.destination_names),
    "node": lambda flow: flow.node_name,
    "node_labels": lambda flow: tuple(flow.node_labels),
    "source_ip": lambda flow: flow.IP.source,
    "destination_ip": lambda flow: flow.IP.destination,
    "source_ip_xlated": lambda flow: flow.IP.source_xlated,
    "ip_version": lambda flow: flow.IP.ipVersion,
    "encrypted": lambda flow: flow.IP.encrypted,
    "protocol": lambda flow: _PROTOCOLS.get(flow.l4.WhichOneof("protocol") or "", 0),
    "source_port": lambda flow: _port(flow, "source"),
    "destination_port": lambda flow: _port(flow, "destination"),
    "tcp_flags": lambda flow: bits(flow.l4.TCP.flags),
    "ip_trace_id": lambda flow: flow.ip_trace_id.trace_id,
    "l7": lambda flow: _L7.get(flow.l7.WhichOneof("record") or "", 0),
    "http": _http,
    "dns_query": lambda flow: flow.l7.dns.query if flow.l7.WhichOneof("record") == "dns" else None,
    "trace_id": lambda flow: flow.trace_context.parent.trace_id,
    "time": _nanoseconds,
    "uuid": lambda flow: flow.uuid,
    "verdict": lambda flow: flow.verdict,
    "drop_reason": lambda flow: flow.drop_reason_desc,
    "traffic_direction": lambda flow: flow.traffic_direction,
    "event_type": lambda flow: flow.event_type.type if flow.HasField("event_type") else -1,
    "event_sub_type": lambda flow: flow.event_type.sub_type,
    "reply": lambda flow: int(flow.is_reply.value) if flow.HasField("is_reply") else -1,
    "interface": lambda flow: Interface(flow.interface.index, flow.interface.name) if flow.HasField("interface") else None,
}
