"""Stored flows to protobuf bytes, a batch at a time: flow.Flow without its ends, flows.v1.Connection, and what is joined by."""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.observer.connection import FLAGS, NO_FLAGS, connections
from flows.agent.observer.fields import Fields, chosen, fixed, join, nanoseconds, nested, number, texts
from flows.agent.observer.summary import ICMP, ICMPV6, summaries
from flows.agent.probe.record import TABLE_ID, Initiator
from flows.agent.store.table import DIRECTIONS, FROM_ENDPOINT, SCTP, SUB_TYPES, TCP, UDP, VERDICTS, is_ipv4
from flows.flow.batch import Batch, objects
from flows.flow.tuples import opener_keys, tuple_keys
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from flows.agent.store.table import FlowIds

    Columns = Mapping[str, NDArray[Any]]

TYPE_TRACE = 4
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

    def __init__(self, node_name: str, node_labels: tuple[str, ...], version: str, ids: FlowIds) -> None:
        """node_name as shown in Flow.node_name; version: of the agent."""
        self.node_labels, self._ids = node_labels, ids
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
        return Batch(
            flows=objects(self._flows(numbers, columns, inbound).rows()),
            connections=objects(connections(columns, inbound).rows() if extensions else [b""] * len(numbers)),
            time_ns=columns["time"],
            start_ns=columns["start"],
            source=np.where(inbound, ends[1], ends[0]),
            destination=np.where(inbound, ends[0], ends[1]),
            opener=np.where(unknown, np.uint64(0), opener_keys(protocol, opener)),
            tuple=tuple_keys(protocol, opener, acceptor),
            at_source=(~inbound).view(np.uint8),
            node=np.zeros(len(numbers), np.uint32),
        )

    def _flows(self, numbers: NDArray[np.int64], columns: Columns, inbound: NDArray[np.bool_]) -> Fields:
        kinds = columns["event"].astype(np.intp) * len(Initiator) + columns["initiator"]
        cookies = columns["conn_id"]
        return join(
            nanoseconds(FLOW["time"], columns["time"]),
            nested(FLOW["uuid"], fixed(self._ids.ascii(numbers))),
            chosen(kinds, self._kinds),
            *_layers(columns, inbound),
            number(FLOW["socket_cookie"], np.where(cookies < TABLE_ID, cookies, np.uint64(0))),
            nested(FLOW["Summary"], summaries(columns)),
        )

    def _kind(self, event: int, initiator: Initiator) -> bytes:
        """What all flows of one event and initiator have in common."""
        flow = flow_pb2.Flow()
        flow.CopyFrom(self._node)
        flow.verdict = int(VERDICTS[event])  # type: ignore[assignment]
        flow.traffic_direction = int(DIRECTIONS[initiator])  # type: ignore[assignment]
        sub_type = int(SUB_TYPES[initiator])
        flow.event_type.type, flow.event_type.sub_type = TYPE_TRACE, sub_type
        flow.trace_observation_point = flow_pb2.FROM_ENDPOINT if sub_type == FROM_ENDPOINT else flow_pb2.TO_ENDPOINT
        if initiator != Initiator.UNKNOWN:
            flow.is_reply.SetInParent()  # false, which is not the same as unset
        return flow.SerializeToString()


def _turned(columns: Columns, inbound: NDArray[np.bool_]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Addresses (n, 16) and ports (n,) of the sources, and of the destinations."""
    (address, port), (other_address, other_port) = ((columns[f"{side}_addr"], columns[f"{side}_port"]) for side in _SIDES)
    mask = inbound[:, None]
    source = np.where(mask, other_address, address), np.where(inbound, other_port, port)
    return source, (np.where(mask, address, other_address), np.where(inbound, port, other_port))


_SIDES = ("local", "remote")


def _layers(columns: Columns, inbound: NDArray[np.bool_]) -> tuple[Fields, Fields]:
    """Fields IP and l4 of flow.Flow."""
    (source, source_port), (destination, destination_port) = _turned(columns, inbound)
    version = np.where(is_ipv4(columns["local_addr"]), flow_pb2.IPv4, flow_pb2.IPv6)
    addresses = nested(1, _addresses(source)), nested(2, _addresses(destination))
    protocol = columns["protocol"]
    echo = (protocol == ICMP) | (protocol == ICMPV6)
    flags = np.where(protocol == TCP, columns["flags_sent"] | columns["flags_received"], NO_FLAGS)
    body = (
        number(1, np.where(echo, columns["icmp_type"], source_port)),
        number(2, np.where(echo, columns["icmp_code"], destination_port)),
        chosen(flags, FLAGS),
    )
    layers = LAYERS[protocol]
    return nested(FLOW["IP"], *addresses, number(3, version)), nested(FLOW["l4"], nested(layers, *body), present=layers > 0)


def _addresses(addresses: NDArray[np.uint8]) -> Fields:
    raw = addresses.tobytes()
    return texts([address_text(raw[at : at + 16]) for at in range(0, len(raw), 16)])
