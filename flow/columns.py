"""Columns: what a filter may ask of a table of flows, and the vectorised answers.

A table of n flows gives each column as one of three kinds, always n long and in the table's row order:

- `Categories`: dictionary-encoded values (endpoints, names); a predicate runs once per distinct value.
- `Numbers`: integers (ports, enums, nanoseconds).
- `Addresses`: IPv6 or IPv4-mapped addresses as 16 bytes.

`COLUMNS` is the one list of names. A table hands out `absent(name, n)` for a column it does not keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from flows.flow.endpoint import Endpoint, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

T = TypeVar("T")
Mask = NDArray[np.bool_]
Network = IPv4Network | IPv6Network

_UNSEEN = np.int8(-1)


class Memo(Generic[T]):
    """A predicate that remembers its answers for one append-only sequence of values.

    A compiled filter holds one per condition, so a follower that scans batch after batch asks only about
    values that it has not met. A value is asked about when a row has its code, and never before.
    """

    def __init__(self, predicate: Callable[[T], bool]) -> None:
        self._predicate = predicate
        self._values: Sequence[T] = ()
        self._answers = np.empty(0, np.int8)

    def mask(self, codes: NDArray[np.integer[Any]], values: Sequence[T]) -> Mask:
        """True where the predicate holds for values[code]; bool (n,)."""
        if self._values is not values:
            self._values, self._answers = values, np.empty(0, np.int8)
        if len(values) > len(self._answers):
            fresh = np.full(len(values) - len(self._answers), _UNSEEN)
            self._answers = np.concatenate((self._answers, fresh))
        answers = self._answers.take(codes)
        if (answers < 0).any():
            self._ask(np.unique(codes[answers < 0]))
            answers = self._answers.take(codes)
        return answers.astype(np.bool_)

    def _ask(self, codes: NDArray[np.integer[Any]]) -> None:
        for code in codes.tolist():
            self._answers[code] = self._predicate(self._values[code])


@dataclass(frozen=True, slots=True)
class Categories(Generic[T]):
    """codes: any integer dtype, (n,), each an index into values.

    values may grow at its end but its entries never change: a table that renumbers hands out a new sequence.
    """

    codes: NDArray[np.integer[Any]]
    values: Sequence[T]

    def where(self, predicate: Callable[[T], bool] | Memo[T]) -> Mask:
        """True where predicate(value) holds; bool (n,). A Memo keeps its answers between calls."""
        memo = predicate if isinstance(predicate, Memo) else Memo(predicate)
        return memo.mask(self.codes, self.values)

    def isin(self, wanted: Collection[T]) -> Mask:
        """True where the value is one of wanted; bool (n,). A table with a faster way (uuid) overrides it."""
        return self.where(frozenset(wanted).__contains__)


@dataclass(frozen=True, slots=True)
class Numbers:
    """values: any integer dtype, (n,)."""

    values: NDArray[np.integer[Any]]

    def isin(self, wanted: Collection[int]) -> Mask:
        """True where the number is one of wanted; bool (n,)."""
        if len(wanted) > 8:
            return np.isin(self.values, np.array([w for w in wanted if self._fits(w)], self.values.dtype))
        mask = np.zeros(len(self.values), np.bool_)
        for number in wanted:
            mask |= self.values == number
        return mask

    def has_bits(self, bits: int) -> Mask:
        """True where all of bits are set; bool (n,)."""
        if not self._fits(bits):
            return np.zeros(len(self.values), np.bool_)
        mask: Mask = (self.values & bits) == bits
        return mask

    def _fits(self, number: int) -> bool:
        limits = np.iinfo(self.values.dtype)
        return int(limits.min) <= number <= int(limits.max)


@dataclass(frozen=True, slots=True)
class Addresses:
    """raw: u8 (n, 16), network byte order, IPv4 as ::ffff:a.b.c.d; rows may be strided, their bytes adjacent.

    present: bool (n,), False where there is no address, or None where all rows have one.
    """

    raw: NDArray[np.uint8]
    present: Mask | None = None

    def within(self, network: Network) -> Mask:
        """True where the address is in the network; bool (n,). IPv4 is never within IPv6 or vice versa."""
        halves = self.raw.view(np.uint64)
        wanted, bits = _as_halves(network)
        mask = np.ones(len(halves), np.bool_)
        for half in (1, 0):
            if bits[half]:
                mask &= (halves[:, half] & bits[half]) == wanted[half]
        if isinstance(network, IPv6Network) and network.prefixlen < 96 and network.supernet_of(_MAPPED):
            mask &= ~self.within(_MAPPED)
        return mask if self.present is None else mask & self.present

    def within_any(self, ranges: AddressRanges) -> Mask:
        """True where the address is in any of the ranges; bool (n,)."""
        if len(ranges.networks) <= _FEW:
            found: Mask = np.logical_or.reduce([self.within(network) for network in ranges.networks])
            return found
        texts = np.ascontiguousarray(self.raw).view("S16").ravel()
        at = np.searchsorted(ranges.first, texts, side="right") - 1
        mask: Mask = (at >= 0) & (texts <= ranges.last[at])
        return mask if self.present is None else mask & self.present


class AddressRanges:
    """Networks as ranges of addresses that do not touch, in order. There is at least one network.

    first, last: S16 (m,), network byte order, IPv4 as ::ffff:a.b.c.d. NumPy compares such bytes like numbers of 128 bits: it
    takes zeros at the end for padding, and all have the same length.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self.networks = tuple(networks)
        merged: list[list[int]] = []
        for first, last in sorted(bounds for network in self.networks for bounds in _bounds(network)):
            if merged and first <= merged[-1][1] + 1:
                merged[-1][1] = max(merged[-1][1], last)
            else:
                merged.append([first, last])
        self.first, self.last = (np.array([pair[i].to_bytes(16, "big") for pair in merged], "S16") for i in (0, 1))


# Up to so many networks it is faster to look at one after the other.
_FEW = 16
_MAPPED = IPv6Network("::ffff:0:0/96")


def _bounds(network: Network) -> list[tuple[int, int]]:
    """First and last address of the parts of a network; IPv4 is not within IPv6, as in `within`."""
    base = int(_MAPPED.network_address) if isinstance(network, IPv4Network) else 0
    first, last = base + int(network.network_address), base + int(network.broadcast_address)
    if isinstance(network, IPv6Network) and network.prefixlen < 96 and network.supernet_of(_MAPPED):
        low, high = int(_MAPPED.network_address), int(_MAPPED.broadcast_address)
        return [(low, high) for low, high in ((first, low - 1), (high + 1, last)) if low <= high]
    return [(first, last)]


def _as_halves(network: Network) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The network's address and mask as two native u64 each, so that equal bytes compare equal."""
    address, bits = int(network.network_address), int(network.netmask)
    if isinstance(network, IPv4Network):
        address |= 0xFFFF << 32
        bits |= ((1 << 96) - 1) << 32
    pair = (np.frombuffer(number.to_bytes(16, "big"), np.uint64) for number in (address, bits))
    return next(pair), next(pair)


class Interface(NamedTuple):
    """Flow.interface."""

    ifindex: int = 0
    name: str = ""


class Http(NamedTuple):
    """Flow.l7.http as far as filters ask. code is 0 for a request."""

    code: int = 0
    method: str = ""
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FlowEndpoint(Endpoint):
    """An endpoint as a Flow message tells it, which may name several workloads. `workload` is then unused."""

    workloads: tuple[Workload, ...] = ()


def workloads(endpoint: Endpoint) -> tuple[Workload, ...]:
    """All workloads of the endpoint."""
    if isinstance(endpoint, FlowEndpoint):
        return endpoint.workloads
    return (endpoint.workload,) if endpoint.workload else ()


# A flow that names no endpoint at all: not even identity 0 (unknown) matches it, as in Hubble.
NO_ENDPOINT = Endpoint(identity=-1)


class FlowTable(Protocol):
    """n flows as columns. Names are those of COLUMNS, each asked through the method of its kind."""

    def __len__(self) -> int: ...

    def categories(self, name: str) -> Categories[Any]: ...

    def numbers(self, name: str) -> Numbers: ...

    def addresses(self, name: str) -> Addresses: ...


@dataclass(frozen=True, slots=True)
class Column:
    """One row of COLUMNS. absent is the value of a flow that has none, and of a table without the column."""

    kind: type[Categories[Any] | Numbers | Addresses]
    meaning: str
    absent: Any = None


COLUMNS: Mapping[str, Column] = {
    # who. Endpoint.service is Flow.source_service / destination_service.
    "source": Column(Categories, "Endpoint", NO_ENDPOINT),
    "destination": Column(Categories, "Endpoint", NO_ENDPOINT),
    "source_names": Column(Categories, "tuple[str, ...]: DNS names of the source's address", ()),
    "destination_names": Column(Categories, "tuple[str, ...]", ()),
    "node": Column(Categories, "str: Flow.node_name, `node` or `cluster/node`", ""),
    "node_labels": Column(Categories, "tuple[str, ...]: `key=value` or `key`", ()),
    # L3 and L4
    "source_ip": Column(Addresses, "Flow.IP.source"),
    "destination_ip": Column(Addresses, "Flow.IP.destination"),
    "source_ip_xlated": Column(Addresses, "Flow.IP.source_xlated"),
    "ip_version": Column(Numbers, "flow.IPVersion: 0 not IP, 1 IPv4, 2 IPv6", 0),
    "encrypted": Column(Numbers, "1 where Flow.IP.encrypted", 0),
    "protocol": Column(Numbers, "IP protocol number (IANA) of Flow.l4; 0 where there is no l4", 0),
    "source_port": Column(Numbers, "port of TCP, UDP or SCTP; 0 for other protocols", 0),
    "destination_port": Column(Numbers, "port of TCP, UDP or SCTP; 0 for other protocols", 0),
    "tcp_flags": Column(Numbers, "FIN=1 SYN=2 RST=4 PSH=8 ACK=16 URG=32 ECE=64 CWR=128 NS=256", 0),
    "ip_trace_id": Column(Numbers, "Flow.ip_trace_id.trace_id, u64", 0),
    # L7
    "l7": Column(Numbers, "0 none, 1 DNS, 2 HTTP, 3 Kafka (L7_*)", 0),
    "http": Column(Categories, "Http, or None where the flow is not HTTP"),
    "dns_query": Column(Categories, "str: Flow.l7.dns.query, or None where the flow is not DNS"),
    "trace_id": Column(Categories, "str: Flow.trace_context.parent.trace_id", ""),
    # the event
    "time": Column(Numbers, "ns since 1970 (UTC), i64", 0),
    "uuid": Column(Categories, "str", ""),
    "verdict": Column(Numbers, "flow.Verdict", 0),
    "drop_reason": Column(Numbers, "flow.DropReason (drop_reason_desc)", 0),
    "traffic_direction": Column(Numbers, "flow.TrafficDirection", 0),
    "event_type": Column(Numbers, "Flow.event_type.type; -1 where event_type is unset", -1),
    "event_sub_type": Column(Numbers, "Flow.event_type.sub_type", 0),
    "reply": Column(Numbers, "Flow.is_reply: 0 no, 1 yes, -1 unset", -1),
    "interface": Column(Categories, "Interface, or None where unset"),
}

L7_DNS, L7_HTTP, L7_KAFKA = 1, 2, 3
TCP_FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128, "NS": 256}


def absent(name: str, n: int) -> Any:
    """The constant column of n rows for a table that does not keep this one. KeyError: no such column."""
    column = COLUMNS[name]
    if column.kind is Categories:
        return Categories(np.broadcast_to(np.intp(0), n), _CONSTANTS[name])
    if column.kind is Numbers:
        return Numbers(np.broadcast_to(np.int8(column.absent), n))
    return Addresses(np.broadcast_to(np.zeros(16, np.uint8), (n, 16)), np.zeros(n, np.bool_))


# One sequence per name, always the same object, so that a Memo keeps its answer.
_CONSTANTS = {name: (column.absent,) for name, column in COLUMNS.items()}
