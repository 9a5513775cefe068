"""The kernel's record as a NumPy dtype, and the names of its counters: the user side of bpf/record.h."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Field by field as in `struct record` (bpf/record.h): little-endian, no padding but what is named.
RECORD = np.dtype(
    [
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("conn_id", "<u8"),
        ("cgroup_id", "<u8"),
        ("sent_bytes", "<u8"),
        ("received_bytes", "<u8"),
        ("local_addr", "u1", (16,)),
        ("remote_addr", "u1", (16,)),
        ("sent_packets", "<u4"),
        ("received_packets", "<u4"),
        ("pid", "<u4"),
        ("rtt_us", "<u4"),
        ("handshake_us", "<u4"),
        ("retransmits", "<u4"),
        ("local_port", "<u2"),
        ("remote_port", "<u2"),
        ("event", "u1"),
        ("protocol", "u1"),
        ("initiator", "u1"),
        ("flags_sent", "u1"),
        ("flags_received", "u1"),
        ("error", "u1"),
        ("icmp_type", "u1"),
        ("icmp_code", "u1"),
        ("netns", "<u4"),
        ("comm", "S16"),
    ]
)


class Event(IntEnum):
    """What made the record leave: `enum event` of bpf/record.h, numbers of flows.v1.Event."""

    OPENED = 1
    ESTABLISHED = 2
    ACTIVE = 3
    REFUSED = 4
    UNREACHABLE = 5
    UNANSWERED = 6
    RESET = 7
    TIMED_OUT = 8
    CLOSED = 9
    IDLE = 10
    REQUEST = 11
    RESPONSE = 12
    NO_RESPONSE = 13
    HELLO = 14
    DROPPED = 15


def of_requests(events: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which events (n,) are of requests: those from REQUEST to HELLO."""
    mask: NDArray[np.bool_] = (events >= Event.REQUEST) & (events <= Event.HELLO)
    return mask


class Initiator(IntEnum):
    """Who sent the first packet: `enum initiator` of bpf/record.h."""

    UNKNOWN = 0
    LOCAL = 1
    REMOTE = 2


class Counter(IntEnum):
    """Kernel-side counters: `enum counter` of bpf/record.h."""

    LOST_RING_FULL = 0
    LOST_CONNECTION = 1
    LOST_EXCHANGE = 2
    MALFORMED = 3
    FRAGMENT = 4
    UNKNOWN_PROTOCOL = 5
    SYNS_PENDING = 6
    LOST_PAYLOAD = 7
    SAMPLED_OUT = 8
    PASSED_OVER = 9
    HTTP2_UNFOLLOWED = 10
    FOUND_LATE = 11
    LOST_END = 12
    NOT_RUN = 13


# Ids of connections that live in the exchange table, not in a socket (TABLE_ID of bpf/exchange.h).
TABLE_ID = 1 << 63
