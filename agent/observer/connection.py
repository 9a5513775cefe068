"""flows.v1.Connection messages of stored flows: counters and measurements, which Hubble's flow has no field for."""

from __future__ import annotations

import errno
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.observer.fields import Fields, chosen, join, nanoseconds, nested, number, texts
from flows.agent.probe.drop_reasons import reason_names
from flows.agent.probe.record import Event, Initiator
from flows.agent.store.public_names import source_of
from flows.agent.store.table import TCP
from flows.flow.ends import field
from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# TCP flag bits by field of flow.TCPFlags
TCP_FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128}
CONNECTION = {each.name: each.number for each in extension_pb2.Connection.DESCRIPTOR.fields}
# By number: errno of TCP sockets. 0, and what has no name, is no error.
ERRNOS = [errno.errorcode.get(value, str(value) if value else "").encode() for value in range(256)]
ERRORS = texts(ERRNOS)


@lru_cache(maxsize=1)
def errors_and_reasons() -> Fields:
    """After the ERRORS the kernel's reasons for dropped packets. Reading its BTF takes 0.3 s: only if a flow has one."""
    return texts([*ERRNOS, *(reason_names().get(value, str(value)).encode() for value in range(256))])


def _flags(bits: int) -> bytes:
    return flow_pb2.TCPFlags(**{name: True for name, bit in TCP_FLAGS.items() if bits & bit}).SerializeToString()


# By flag bits: field 3 of Counters, tcp_flags, which is field 3 of TCP, flags, too. NO_FLAGS: where there cannot be any.
FLAGS = texts([*(field(3, _flags(bits)) for bits in range(256)), b""])
NO_FLAGS = np.uint16(256)


def connections(
    columns: Mapping[str, NDArray[Any]], inbound: NDArray[np.bool_], requests: Sequence[bytes] | None = None
) -> Fields:
    """n messages. columns as in agent/store/columns.py; inbound (n,): where the flow comes from the remote end.

    requests: flows.v1.Request of each, for flows of requests, which count no bytes and packets.
    """
    if requests is not None:
        return join(*_of_request(columns, inbound), nested(CONNECTION["request"], texts(requests)))
    start, time, tcp = columns["start"], columns["time"], columns["protocol"] == TCP
    return join(
        number(CONNECTION["id"], columns["conn_id"]),
        number(CONNECTION["event"], columns["event"]),
        number(CONNECTION["initiator"], columns["initiator"] != Initiator.UNKNOWN),
        nanoseconds(CONNECTION["started"], start, start != 0),
        nanoseconds(CONNECTION["duration"], np.maximum(time - start, 0), start != 0),
        nested(CONNECTION["from_source"], *_counters(columns, inbound, tcp)),
        nested(CONNECTION["from_destination"], *_counters(columns, ~inbound, tcp)),
        *_measured(columns, tcp),
        number(CONNECTION["observed_at_source"], ~inbound),
        number(CONNECTION["spoken"], np.where(tcp, columns["icmp_code"], 0)),
        number(CONNECTION["name_source"], source_of(columns["detail"])),
    )


def _of_request(columns: Mapping[str, NDArray[Any]], inbound: NDArray[np.bool_]) -> tuple[Fields, ...]:
    return (
        number(CONNECTION["id"], columns["conn_id"]),
        number(CONNECTION["event"], columns["event"]),
        number(CONNECTION["initiator"], columns["initiator"] != Initiator.UNKNOWN),
        nanoseconds(CONNECTION["started"], columns["start"], columns["start"] != 0),
        number(CONNECTION["observed_at_source"], ~inbound),
    )


def _counters(columns: Mapping[str, NDArray[Any]], received: NDArray[np.bool_], tcp: NDArray[np.bool_]) -> tuple[Fields, ...]:
    """What was received where `received`, else what was sent."""
    flags, packets, size = (
        np.where(received, columns[there], columns[here])
        for here, there in (
            ("flags_sent", "flags_received"),
            ("sent_packets", "received_packets"),
            ("sent_bytes", "received_bytes"),
        )
    )
    return number(1, size), number(2, packets), chosen(np.where(tcp, flags, NO_FLAGS), FLAGS)


def _measured(columns: Mapping[str, NDArray[Any]], tcp: NDArray[np.bool_]) -> tuple[Fields, ...]:
    """What only TCP has."""
    handshake, rtt = columns["handshake_us"].astype(np.int64), columns["rtt_us"].astype(np.int64)
    dropped = columns["event"] == Event.DROPPED
    errors = np.where(tcp | dropped, columns["error"].astype(np.int64) + np.where(dropped, len(ERRNOS), 0), 0)
    table = errors_and_reasons() if dropped.any() else ERRORS
    return (
        nanoseconds(CONNECTION["handshake"], handshake * 1000, tcp & (handshake != 0)),
        nanoseconds(CONNECTION["rtt"], rtt * 1000, tcp & (rtt != 0)),
        number(CONNECTION["retransmits"], np.where(tcp, columns["retransmits"], 0)),
        nested(CONNECTION["error"], chosen(errors, table), present=errors != 0),
    )
