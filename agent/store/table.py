"""The store as filters see it: a FlowTable over a range of flow numbers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from flows.agent.probe.record import Event, Initiator
from flows.agent.store.request_table import RequestTable
from flows.flow.columns import Addresses, Categories, Numbers, absent
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from flows.agent.store.requests import RequestStore
    from flows.agent.store.store import FlowStore
    from flows.flow.endpoint import Endpoint

TCP, UDP, SCTP = 6, 17, 132
EVENT_TYPE_TRACE = 4  # Hubble's MessageTypeTrace
TO_ENDPOINT, FROM_ENDPOINT = 0, 5  # Hubble's trace observation points, as event sub-types

# What became of the packets: a refusal or a reset is an answer that was delivered; silence and ICMP errors are not.
VERDICTS = np.full(len(Event) + 1, flow_pb2.FORWARDED, np.uint8)
VERDICTS[[Event.UNREACHABLE, Event.UNANSWERED, Event.TIMED_OUT, Event.NO_RESPONSE]] = flow_pb2.ERROR
VERDICTS[Event.DROPPED] = flow_pb2.DROPPED

EVENT_TYPE_L7 = 129  # Hubble's MessageTypeAccessLog
L7_EVENTS = (Event.REQUEST, Event.RESPONSE, Event.NO_RESPONSE)  # a ClientHello is no request that Hubble knows
EVENT_TYPES = np.full(len(Event) + 1, EVENT_TYPE_TRACE, np.int16)
EVENT_TYPES[list(L7_EVENTS)] = EVENT_TYPE_L7

# By initiator: unknown, local, remote.
DIRECTIONS = np.array([flow_pb2.TRAFFIC_DIRECTION_UNKNOWN, flow_pb2.EGRESS, flow_pb2.INGRESS], np.uint8)
SUB_TYPES = np.array([FROM_ENDPOINT, FROM_ENDPOINT, TO_ENDPOINT], np.uint8)
REPLIES = np.array([-1, 0, 0], np.int8)

MAPPED_HALF = np.frombuffer(bytes(8) + b"\0\0\xff\xff" + bytes(4), "u8")[1]  # of ::ffff:0:0/96
MAPPED_BITS = np.frombuffer(bytes(8) + b"\xff\xff\xff\xff" + bytes(4), "u8")[1]


def is_ipv4(addresses: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True where an address (n, 16) is IPv4-mapped; bool (n,)."""
    halves = np.ascontiguousarray(addresses).view("u8")
    mask: NDArray[np.bool_] = (halves[:, 0] == 0) & (halves[:, 1] & MAPPED_BITS == MAPPED_HALF)
    return mask


HEXADECIMAL = np.frombuffer(b"0123456789abcdef", np.uint8)
NUMBER_DIGITS = np.r_[19:23, 24:36]  # where a UUID's last 64 bits are written


class FlowIds:
    """UUIDs of an agent's flows: its own random 8 bytes and the flow's number, in the form of RFC 9562's version 8."""

    def __init__(self) -> None:
        """Draw the agent's part."""
        self._high = uuid.uuid4().int >> 64 & ~(0xF << 12) | 8 << 12

    def of(self, number: int) -> str:
        """UUID of a flow number (below 2^62)."""
        return str(uuid.UUID(int=self._high << 64 | 1 << 63 | number))

    def ascii(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """UUIDs of flow numbers (n,), as 36 characters each: (n, 36)."""
        digits = numbers.astype(np.uint64)[:, None] | np.uint64(1 << 63)
        digits = digits >> (np.arange(15, -1, -1) * 4).astype(np.uint64) & np.uint64(0xF)
        texts = np.tile(np.frombuffer(self.of(0).encode(), np.uint8), (len(numbers), 1))
        texts[:, NUMBER_DIGITS] = HEXADECIMAL[digits]
        return texts

    def number(self, text: str) -> int | None:
        """Flow number of a UUID of this agent; None for any other text."""
        try:
            value = uuid.UUID(text).int
        except ValueError:
            return None
        return value & (1 << 62) - 1 if value >> 64 == self._high else None


class Uuids(Categories[str]):
    """The uuid column: computed, never stored."""

    def __init__(self, first: int, count: int, ids: FlowIds) -> None:
        """For flows first..first+count-1."""
        super().__init__(np.arange(count), _Texts(first, count, ids))
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "ids", ids)

    first: int
    ids: FlowIds

    def isin(self, wanted: Collection[str]) -> NDArray[np.bool_]:
        """By arithmetic instead of by text."""
        numbers = {self.ids.number(text) for text in wanted} - {None}
        return np.isin(self.codes + self.first, np.array(list(numbers), np.int64))


class _Texts(Sequence[str]):
    """Lazy UUID texts of consecutive flows."""

    def __init__(self, first: int, count: int, ids: FlowIds) -> None:
        self._first, self._count, self._ids = first, count, ids

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._ids.of(self._first + i) for i in range(self._count)[index]]
        return self._ids.of(self._first + range(self._count)[index])


class StoreTable:
    """FlowTable of flows first..last-1. Used and dropped while the store's lock is held."""

    def __init__(
        self,
        store: FlowStore,
        first: int,
        last: int,
        *,
        endpoints: Sequence[Endpoint],
        node: tuple[str, tuple[str, ...]],
        ids: FlowIds,
        requests: RequestStore | None = None,
        names: Callable[[int], str] = lambda _: "",
    ) -> None:
        """endpoints by number; node: its name as shown, and its labels; requests, names: what details of flows refer to."""
        self._request_store, self._names = requests, names
        self._store, self._first, self._last = store, first, last
        self._endpoints, self._node, self._ids = endpoints, node, ids

    def __len__(self) -> int:
        return self._last - self._first

    @property
    def times(self) -> NDArray[np.int64]:
        """ns since 1970 (n,)."""
        return self._raw("time")

    def _raw(self, name: str) -> NDArray[Any]:
        return self._store.column(name, self._first, self._last)

    def _source(self, local: str, remote: str) -> NDArray[Any]:
        """Values of the source's side; with the arguments swapped, of the destination's."""
        return np.where(self._inbound, self._raw(remote), self._raw(local))

    @cached_property
    def _inbound(self) -> NDArray[np.bool_]:
        """Where the remote end is the source; bool (n,)."""
        answers = self._raw("event") == Event.RESPONSE
        mask: NDArray[np.bool_] = (self._raw("initiator") == Initiator.REMOTE) ^ answers
        return mask

    @cached_property
    def _requests(self) -> RequestTable:
        return RequestTable(self._request_store, self._raw("event"), self._raw("detail"), self._names)

    def _source_address(self, local: str, remote: str) -> Addresses:
        """The same for addresses, as two words each: eight times as fast as by bytes."""
        here, there = (self._raw(side).view("u8") for side in (local, remote))
        return Addresses(np.where(self._inbound[:, None], there, here).view("u1"))

    def categories(self, name: str) -> Categories[Any]:
        """See flows.flow.columns."""
        if name == "source":
            return Categories(self._source("local", "remote"), self._endpoints)
        if name == "destination":
            return Categories(self._source("remote", "local"), self._endpoints)
        if name == "uuid":
            return Uuids(self._first, len(self), self._ids)
        if name in ("node", "node_labels"):
            value = self._node[0 if name == "node" else 1]
            return Categories(np.broadcast_to(np.intp(0), len(self)), (value,))
        if name in REQUESTED:
            return REQUESTED[name](self._requests)
        result: Categories[Any] = absent(name, len(self))
        return result

    def numbers(self, name: str) -> Numbers:
        """See flows.flow.columns."""
        make = NUMBERS.get(name)
        if make is None:
            result: Numbers = absent(name, len(self))
            return result
        return Numbers(make(self))

    def addresses(self, name: str) -> Addresses:
        """See flows.flow.columns."""
        if name == "source_ip":
            return self._source_address("local_addr", "remote_addr")
        if name == "destination_ip":
            return self._source_address("remote_addr", "local_addr")
        result: Addresses = absent(name, len(self))
        return result

    def _port(self, local: str, remote: str) -> NDArray[Any]:
        has_ports = np.isin(self._raw("protocol"), (TCP, UDP, SCTP))
        return np.where(has_ports, self._source(local, remote), 0)


NUMBERS: dict[str, Callable[[StoreTable], NDArray[Any]]] = {
    "time": lambda table: table._raw("time"),
    "protocol": lambda table: table._raw("protocol"),
    "source_port": lambda table: table._port("local_port", "remote_port"),
    "destination_port": lambda table: table._port("remote_port", "local_port"),
    "tcp_flags": lambda table: table._raw("flags_sent") | table._raw("flags_received"),
    "ip_version": lambda table: np.where(is_ipv4(table._raw("local_addr")), flow_pb2.IPv4, flow_pb2.IPv6),
    "verdict": lambda table: VERDICTS[table._raw("event")],
    "traffic_direction": lambda table: DIRECTIONS[table._raw("initiator")],
    "event_type": lambda table: EVENT_TYPES[table._raw("event")],
    "event_sub_type": lambda table: np.where(
        EVENT_TYPES[table._raw("event")] == EVENT_TYPE_L7, 0, SUB_TYPES[table._raw("initiator")]
    ),
    "reply": lambda table: np.where(table._raw("event") == Event.RESPONSE, np.int8(1), REPLIES[table._raw("initiator")]),
    "l7": lambda table: table._requests.l7(),
    "encrypted": lambda table: table._requests.encrypted(table._raw("protocol"), table._raw("icmp_code")),
}

REQUESTED: dict[str, Callable[[RequestTable], Categories[Any]]] = {
    "http": RequestTable.http,
    "dns_query": RequestTable.dns_query,
    "source_names": lambda table: table.asked_names(answers=True),
    "destination_names": lambda table: table.asked_names(answers=False),
}
