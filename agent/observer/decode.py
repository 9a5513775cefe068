"""Stored flows to protobuf bytes, a batch at a time: flow.Flow without its ends, flows.v1.Connection, and what is joined by."""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.observer.connection import FLAGS, NO_FLAGS, connections
from flows.agent.observer.fields import Fields, chosen, fixed, join, nanoseconds, nested, number, texts
from flows.agent.observer.request_flows import requested
from flows.agent.observer.summary import ICMP, ICMPV6, summaries
from flows.agent.probe.record import TABLE_ID, Event, Initiator, of_requests
from flows.agent.store.public_names import number_of
from flows.agent.store.table import (
    DIRECTIONS,
    EVENT_TYPES,
    FROM_ENDPOINT,
    L7_EVENTS,
    SCTP,
    SUB_TYPES,
    TCP,
    UDP,
    VERDICTS,
    is_ipv4,
)
from flows.flow.batch import Batch, objects
from flows.flow.tuples import opener_keys, tuple_keys
from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from flows.agent.l7.dns_name_table import NameTable
    from flows.agent.store.requests import RequestStore
    from flows.agent.store.table import FlowIds

    Columns = Mapping[str, NDArray[Any]]

MAPPED = bytes(10) + b"\xff\xff"
FLOW = {each.name: each.number for each in flow_pb2.Flow.DESCRIPTOR.fields}
# Field of flow.Layer4 by protocol; 0: none
LAYERS = np.zeros(256, np.uint8)
LAYERS[[TCP, UDP, ICMP, ICMPV6, SCTP]] = 1, 2, 3, 4, 5


@lru_cache(maxsize=65_536)
def address_text(address: bytes) -> bytes:
    """16 bytes as text, IPv4-mapped ones as IPv4 (RFC 5952)."""
    if address.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, address[12:]).encode()
    return socket.inet_ntop(socket.AF_INET6, address).encode()


class Decoder:
    """Makes the messages of one agent's flows. Columns are as in agent/store/columns.py, each of n flows."""

    def __init__(
        self,
        node_name: str,
        node_labels: tuple[str, ...],
        version: str,
        ids: FlowIds,
        requests: RequestStore | None,
        names: NameTable,
    ) -> None:
        """node_name as shown in Flow.node_name; version: of the agent; requests, names: what details of flows refer to."""
        self.node_labels, self._ids = node_labels, ids
        self._requests, self._names = requests, names
        self._node = flow_pb2.Flow(
            Type=flow_pb2.L3_L4,
            node_name=node_name,
            node_labels=node_labels,
            emitter=flow_pb2.Emitter(name="flows", version=version),
        )
        self._kinds = texts([self._kind(event, initiator) for event in range(len(VERDICTS)) for initiator in Initiator])

    def batch(
        self,
        numbers: NDArray[np.int64],
        columns: Columns,
        ends: tuple[NDArray[np.uint32], NDArray[np.uint32]],
        *,
        extensions: bool,
    ) -> Batch:
        """Flows of these numbers. ends: numbers of the local and the remote ones; extensions: whether to make connections."""
        inbound = columns["initiator"] == Initiator.REMOTE
        protocol, (opener, acceptor) = columns["protocol"], _turned(columns, inbound)
        unknown = columns["initiator"] == Initiator.UNKNOWN
        flows, told = self._messages(numbers, columns, extensions=extensions)
        return Batch(
            flows=flows,
            connections=told,
            time_ns=columns["time"],
            start_ns=columns["start"],
            source=np.where(inbound, ends[1], ends[0]),
            destination=np.where(inbound, ends[0], ends[1]),
            opener=np.where(unknown, np.uint64(0), opener_keys(protocol, opener)),
            tuple=tuple_keys(protocol, opener, acceptor),
            at_source=(~inbound).view(np.uint8),
            node=np.zeros(len(numbers), np.uint32),
            reply=(columns["event"] == Event.RESPONSE).view(np.uint8),
        )

    def _messages(
        self, numbers: NDArray[np.int64], columns: Columns, *, extensions: bool
    ) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        """Flows and their Connections (n,), bytes each: those of connections and those of requests have different fields."""
        flows, told = np.empty(len(numbers), object), np.full(len(numbers), b"", object)
        asked = of_requests(columns["event"])
        for rows, make in ((np.flatnonzero(~asked), self._of_connections), (np.flatnonzero(asked), self._of_requests)):
            if len(rows):
                chosen_columns = {name: column[rows] for name, column in columns.items()}
                made, requests = make(numbers[rows], chosen_columns)
                flows[rows] = objects(made.rows())
                if extensions:
                    told[rows] = objects(connections(chosen_columns, _inbound(chosen_columns), requests).rows())
        return flows, told

    def _of_connections(self, numbers: NDArray[np.int64], columns: Columns) -> tuple[Fields, None]:
        names = [self._names.name(number_).encode() for number_ in number_of(columns["detail"]).tolist()]
        named = np.array([bool(name) for name in names], np.bool_)
        encrypted = (columns["protocol"] == TCP) & (columns["icmp_code"] == extension_pb2.SPOKEN_TLS)
        return join(
            *self._common(numbers, columns, encrypted),
            nested(FLOW["destination_names"], texts(names), present=named),
            nested(FLOW["Summary"], summaries(columns)),
        ), None

    def _of_requests(self, numbers: NDArray[np.int64], columns: Columns) -> tuple[Fields, list[bytes]]:
        told = requested(self._requests, columns)
        present = np.array([bool(each) for each in told.l7], np.bool_)
        named = np.array([bool(each) for each in told.names], np.bool_)
        answers, names = columns["event"] == Event.RESPONSE, texts(told.names)
        return join(
            *self._common(numbers, columns, told.encrypted),
            nested(FLOW["l7"], texts(told.l7), present=present),
            nested(FLOW["source_names"], names, present=named & answers),
            nested(FLOW["destination_names"], names, present=named & ~answers),
            nested(FLOW["Summary"], texts(told.summary)),
        ), told.request

    def _common(self, numbers: NDArray[np.int64], columns: Columns, encrypted: NDArray[np.bool_]) -> tuple[Fields, ...]:
        kinds = columns["event"].astype(np.intp) * len(Initiator) + columns["initiator"]
        cookies = columns["conn_id"]
        return (
            nanoseconds(FLOW["time"], columns["time"]),
            nested(FLOW["uuid"], fixed(self._ids.ascii(numbers))),
            chosen(kinds, self._kinds),
            *_layers(columns, _inbound(columns), encrypted),
            number(FLOW["socket_cookie"], np.where(cookies < TABLE_ID, cookies, np.uint64(0))),
        )

    def _kind(self, event: int, initiator: Initiator) -> bytes:
        """What all flows of one event and initiator have in common."""
        flow = flow_pb2.Flow()
        flow.CopyFrom(self._node)
        flow.verdict = int(VERDICTS[event])  # type: ignore[assignment]
        flow.traffic_direction = int(DIRECTIONS[initiator])  # type: ignore[assignment]
        sub_type = int(SUB_TYPES[initiator])
        flow.event_type.type = int(EVENT_TYPES[event])
        if event in L7_EVENTS:
            flow.Type = flow_pb2.L7
        else:
            flow.event_type.sub_type = sub_type
            flow.trace_observation_point = flow_pb2.FROM_ENDPOINT if sub_type == FROM_ENDPOINT else flow_pb2.TO_ENDPOINT
        if initiator != Initiator.UNKNOWN:
            flow.is_reply.value = event == Event.RESPONSE  # set, also where it is false, which is not the same as unset
        return flow.SerializeToString()


def _inbound(columns: Columns) -> NDArray[np.bool_]:
    """Where the flow comes from the remote end (n,): what it opened, and its answers."""
    inbound: NDArray[np.bool_] = (columns["initiator"] == Initiator.REMOTE) ^ (columns["event"] == Event.RESPONSE)
    return inbound


def _turned(columns: Columns, inbound: NDArray[np.bool_]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Addresses (n, 16) and ports (n,) of the sources, and of the destinations."""
    (address, port), (other_address, other_port) = ((columns[f"{side}_addr"], columns[f"{side}_port"]) for side in _SIDES)
    mask = inbound[:, None]
    source = np.where(mask, other_address, address), np.where(inbound, other_port, port)
    return source, (np.where(mask, address, other_address), np.where(inbound, port, other_port))


_SIDES = ("local", "remote")


def _layers(columns: Columns, inbound: NDArray[np.bool_], encrypted: NDArray[np.bool_]) -> tuple[Fields, Fields]:
    """Fields IP and l4 of flow.Flow."""
    (source, source_port), (destination, destination_port) = _turned(columns, inbound)
    version = np.where(is_ipv4(columns["local_addr"]), flow_pb2.IPv4, flow_pb2.IPv6)
    addresses = nested(1, _addresses(source)), nested(2, _addresses(destination))
    protocol = columns["protocol"]
    echo = (protocol == ICMP) | (protocol == ICMPV6)
    with_flags = (protocol == TCP) & ~of_requests(columns["event"])
    flags = np.where(with_flags, columns["flags_sent"] | columns["flags_received"], NO_FLAGS)
    body = (
        number(1, np.where(echo, columns["icmp_type"], source_port)),
        number(2, np.where(echo, columns["icmp_code"], destination_port)),
        chosen(flags, FLAGS),
    )
    layers = LAYERS[protocol]
    return nested(FLOW["IP"], *addresses, number(3, version), number(4, encrypted)), nested(
        FLOW["l4"], nested(layers, *body), present=layers > 0
    )


def _addresses(addresses: NDArray[np.uint8]) -> Fields:
    raw = addresses.tobytes()
    return texts([address_text(raw[at : at + 16]) for at in range(0, len(raw), 16)])
