"""DNS over TCP: whole messages from the payloads of packets (RFC 1035, 4.2.2; RFC 7766). Rare, so one packet after the other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.dns_stream import MessageReader, plausible
from flows.agent.probe.payload import LONG_PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from flows.agent.l7.dns_stream import Whole

MS: Final = 1_000_000
DIRECTIONS: Final = 1_024  # followed at once; the one that was quiet for the longest goes first
PACKETS: Final = 64  # of a direction that wait for one before them
BYTES: Final = 4 << 20  # of all packets that wait
SETTLE_NS: Final = 100 * MS  # packets come out of two rings: so long, one from the other ring may still belong before the first
GAP_NS: Final = 500 * MS  # after so long, what is missing does not come any more
QUIET_NS: Final = 120_000 * MS  # a direction without packets is forgotten; connections are told to end, but that can be lost
HEAD: Final[int] = LONG_PAYLOAD.fields["text"][1] if LONG_PAYLOAD.fields else 0
_WRAP, _HALF = 1 << 32, 1 << 31
Key = tuple[int, int, int]  # conn_id, sent, origin


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet. head: the record without its text; data: what was captured of length bytes."""

    head: bytes
    data: bytes
    length: int
    time_ns: int


@dataclass(slots=True)
class Direction:
    """One direction of a connection. next: the sequence number that comes next; None: not in step."""

    next: int | None = None
    seen_ns: int = 0
    packets: dict[int, Packet] = field(default_factory=dict)
    reader: MessageReader = field(default_factory=MessageReader)


class Streams:
    """Directions of TCP connections by Key. Everything returns LONG_PAYLOAD records, each a whole message.

    Such a record has the head of the packet in which its message began, the message's length, and its first bytes as text.
    """

    def __init__(self) -> None:
        self._directions: dict[Key, Direction] = {}  # in the order of their last packet
        self._waiting: set[Key] = set()  # those that have packets
        self._bytes = 0
        self._counts: Counter[str] = Counter()

    def counts(self) -> dict[str, int]:
        """Since the start, by reason; packets, but bytes of `unseen_bytes` and messages of `incomplete`."""
        reasons = ("gap", "incomplete", "out_of_step", "overflow", "repeated", "unseen_bytes")
        return {f"dns_tcp_{reason}": self._counts[reason] for reason in reasons}

    def take(self, payloads: NDArray[np.void]) -> NDArray[np.void]:
        """Packets (n,) of TCP; messages of directions that are in step."""
        whole: list[Whole] = []
        for key, sequence, packet in _packets(payloads):
            direction = self._direction(key)
            direction.seen_ns = max(direction.seen_ns, packet.time_ns)
            self._put(key, direction, sequence, packet)
            if direction.next is not None:
                whole += self._read(key, direction)
        return _records(whole)

    def expire(self, now_ns: int) -> NDArray[np.void]:
        """Messages of directions whose beginning is known by now, or whose gap will not be filled."""
        whole: list[Whole] = []
        for key in sorted(self._waiting):
            direction = self._directions[key]
            waited = now_ns - min(packet.time_ns for packet in direction.packets.values())
            if direction.next is None and waited >= SETTLE_NS:
                whole += self._begin(key, direction, final=waited >= GAP_NS)
            elif waited >= GAP_NS:
                whole += self._skip(key, direction)
        self._forget(now_ns)
        return _records(whole)

    def end(self, connections: NDArray[np.uint64]) -> NDArray[np.void]:
        """What is left of connections (k,) that ended."""
        whole: list[Whole] = []
        if self._directions:
            ended = set(connections.tolist())
            for key in [key for key in self._directions if key[0] in ended]:
                whole += self._finish(key)
        return _records(whole)

    def _direction(self, key: Key) -> Direction:
        direction = self._directions.pop(key, None) or Direction()
        self._directions[key] = direction
        if len(self._directions) > DIRECTIONS:
            self._drop(next(iter(self._directions)), "overflow")
        return direction

    def _put(self, key: Key, direction: Direction, sequence: int, packet: Packet) -> None:
        known = direction.packets.get(sequence)
        if known is not None:
            self._counts["repeated"] += 1
            if known.length >= packet.length:
                return
            self._bytes -= len(known.data)
        elif len(direction.packets) == PACKETS or self._bytes + len(packet.data) > BYTES:
            self._counts["overflow"] += 1
            return
        direction.packets[sequence] = packet
        self._bytes += len(packet.data)
        self._waiting.add(key)

    def _taken(self, key: Key, direction: Direction, sequence: int) -> Packet:
        packet = direction.packets.pop(sequence)
        self._bytes -= len(packet.data)
        if not direction.packets:
            self._waiting.discard(key)
        return packet

    def _read(self, key: Key, direction: Direction) -> list[Whole]:
        """Messages of all packets that follow on what was read; a packet may overlap it."""
        whole: list[Whole] = []
        while direction.packets and direction.next is not None:
            expected = direction.next
            first = min(direction.packets, key=lambda sequence: (sequence - expected + _HALF) % _WRAP)
            behind = (expected - first) % _WRAP
            if behind >= _HALF:
                break
            packet = self._taken(key, direction, first)
            if behind >= packet.length:
                self._counts["repeated"] += 1
                continue
            unseen = packet.length - max(behind, len(packet.data))
            direction.next = (first + packet.length) % _WRAP
            whole += direction.reader.feed(packet.head, packet.data[behind:], unseen)
            if not direction.reader.in_step:
                self._counts["unseen_bytes" if unseen else "out_of_step"] += unseen or 1
                direction.next = None
        return whole

    def _begin(self, key: Key, direction: Direction, *, final: bool) -> list[Whole]:
        """Get in step at the first packet that begins with a message. final: with the bytes that are there."""
        whole: list[Whole] = []
        while direction.packets and direction.next is None:
            some = next(iter(direction.packets))
            first = min(direction.packets, key=lambda sequence: (sequence - some + _HALF) % _WRAP)
            verdict = plausible(_joined(direction.packets, first))
            if verdict is None and not final:
                break
            if verdict:
                direction.reader = MessageReader()
                direction.next = first
                whole += self._read(key, direction)
            else:
                self._taken(key, direction, first)
                self._counts["out_of_step"] += 1
        return whole

    def _skip(self, key: Key, direction: Direction) -> list[Whole]:
        """Packets are missing: what had begun before ends there."""
        self._counts["gap"] += 1
        whole = direction.reader.broken_off()
        direction.next = None
        return [*whole, *self._begin(key, direction, final=True)]

    def _finish(self, key: Key) -> list[Whole]:
        direction = self._directions[key]
        whole: list[Whole] = []
        while direction.packets:
            whole += self._begin(key, direction, final=True) if direction.next is None else self._skip(key, direction)
        self._drop(key, "incomplete")
        return whole

    def _drop(self, key: Key, reason: str) -> None:
        direction = self._directions.pop(key)
        self._counts[reason] += len(direction.packets) + direction.reader.begun
        for sequence in list(direction.packets):
            self._taken(key, direction, sequence)

    def _forget(self, now_ns: int) -> None:
        while self._directions:
            key, direction = next(iter(self._directions.items()))
            if direction.seen_ns + QUIET_NS > now_ns:
                break
            self._drop(key, "incomplete")


def _packets(payloads: NDArray[np.void]) -> Iterator[tuple[Key, int, Packet]]:
    """Packets in the order of time, with their sequence numbers."""
    payloads = payloads[np.argsort(payloads["time_ns"], kind="stable")]
    raw = payloads.view(np.uint8).reshape(len(payloads), payloads.dtype.itemsize)
    names = ("conn_id", "sent", "origin", "sequence", "captured", "length", "time_ns")
    columns = (payloads[name].tolist() for name in names)
    for row, (conn_id, sent, origin, sequence, captured, length, time_ns) in enumerate(zip(*columns, strict=True)):
        data = raw[row, HEAD : HEAD + min(captured, length)].tobytes()
        if length:
            yield (conn_id, sent, origin), sequence, Packet(raw[row, :HEAD].tobytes(), data, length, time_ns)


def _joined(packets: dict[int, Packet], first: int) -> bytes:
    """The known bytes from a packet on, as long as nothing is missing, and as far as a decision needs."""
    data, at = b"", first
    while (packet := packets.get(at)) is not None and len(data) < MessageReader.DECIDING:
        data += packet.data
        if len(packet.data) < packet.length:
            break
        at = (at + packet.length) % _WRAP
    return data


def _records(whole: Iterable[Whole]) -> NDArray[np.void]:
    messages = list(whole)
    records = np.zeros(len(messages), LONG_PAYLOAD)
    raw = records.view(np.uint8).reshape(len(messages), LONG_PAYLOAD.itemsize)
    for row, message in enumerate(messages):
        raw[row, :HEAD] = np.frombuffer(message.head, np.uint8)
        records["text"][row, : len(message.data)] = np.frombuffer(message.data, np.uint8)
        records["captured"][row], records["length"][row] = len(message.data), message.length
    return records
