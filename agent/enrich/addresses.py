"""Addresses: who has each address since when, and who had it before; ranges for those that nobody is known to
have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.enrich.hashindex import HashIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How long a former owner is remembered: much longer than a record waits anywhere; connections that outlive their peer
# by more (retransmitting for up to 15 minutes, tcp_retries2) are then to nobody.
REMEMBER_NS: Final = 5 * 60 * 10**9
SECOND_NS: Final = 10**9
_MAPPED: Final = b"\0" * 10 + b"\xff\xff"  # ::ffff:0:0/96
# When a pod started has whole seconds, cut off, and another machine's clock.
CLOCK_SLACK_NS: Final = 2 * SECOND_NS


def parse_address(text: str) -> bytes | None:
    """Read an IP address as 16 bytes (IPv4 as ::ffff:a.b.c.d); None when it is none, e.g. `None` of headless
    Services.
    """
    text = text.partition("%")[0]
    try:
        return inet_pton(AF_INET6, text) if ":" in text else _MAPPED + inet_pton(AF_INET, text)
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Handover:
    """From when on an assignment holds, and who was taken for the owner of that time until now; 0 for nobody."""

    since_ns: int
    former: int


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who had an address from since_ns until end_ns (CLOCK_MONOTONIC)."""

    since_ns: int
    end_ns: int
    number: int


class AddressBook:
    """Address and time to endpoint number. Times are CLOCK_MONOTONIC ns; number 0 means nobody.

    Assignments take effect for lookup() at flush(), which puts a whole batch into the index at once.
    """

    def __init__(self) -> None:
        self._index = HashIndex(words=2)
        self._rows: dict[bytes, int] = {}
        self._free: list[int] = []
        self._number = np.zeros(1024, np.uint32)
        self._since = np.zeros(1024, np.uint64)
        self._past: dict[int, list[Ownership]] = {}
        self._unindexed: list[tuple[bytes, int]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def owner(self, address: bytes) -> int:
        """Give the number that has the address now, 0 if none."""
        row = self._rows.get(address)
        return int(self._number[row]) if row is not None else 0

    def assign(self, address: bytes, number: int, since_ns: int, now_ns: int) -> Handover:
        """Give an address to number from since_ns on, or (0) to nobody.

        since_ns is a whole second, cut off, in which the new owner was at work with the address already. Who had it
        before has lost it by then, whenever that is heard of: before, within that second, or long after.
        """
        row = self._rows.get(address)
        if row is None:
            row, handover = self._new_row(address), Handover(max(0, since_ns - CLOCK_SLACK_NS), 0)
        elif self._number[row]:
            handover = self._succeed(row, number, since_ns, now_ns)
        else:
            handover = self._reclaim(row, since_ns)
        self._number[row], self._since[row] = number, handover.since_ns
        return handover

    def _succeed(self, row: int, number: int, since_ns: int, now_ns: int) -> Handover:
        """Follow an owner that was not heard to leave. A claim from before that one came is from its sender's clock, or of
        one that waited for the address.
        """
        began, former = int(self._since[row]), int(self._number[row])
        since = now_ns if since_ns <= began else min(now_ns, since_ns + (SECOND_NS // 2 if number else 0))
        self._past.setdefault(row, []).append(Ownership(began, since, former))
        return Handover(since, former if number and since < now_ns else 0)

    def _reclaim(self, row: int, since_ns: int) -> Handover:
        """Follow nobody, or the last owner, if that was heard to leave more than a second after the new one was there."""
        past, left = self._past.setdefault(row, []), int(self._since[row])
        if past and past[-1].number and past[-1].since_ns < since_ns < left - SECOND_NS:
            since = since_ns + SECOND_NS // 2
            past[-1] = replace(past[-1], end_ns=since)
            return Handover(since, past[-1].number)
        since = max(since_ns, left)
        past.append(Ownership(left, since, 0))
        return Handover(since, 0)

    def lookup(self, high: NDArray[np.uint64], low: NDArray[np.uint64], times: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Give who had each address at its time. high, low: (n,) uint64, the address' 16 bytes as loaded;
        times: (n,) ns.
        """
        rows = self._index.lookup(high, low)
        numbers = self._number.take(rows)
        early = (times < self._since.take(rows)).nonzero()[0]
        for i in early.tolist():  # bounded by traffic to addresses that changed hands within REMEMBER_NS
            numbers[i] = self._former(int(rows[i]), int(times[i]))
        return numbers

    def flush(self) -> None:
        """Make assignments of new addresses visible to lookup()."""
        fresh = [(address, row) for address, row in self._unindexed if self._rows.get(address) == row]
        if fresh:
            keys = np.frombuffer(b"".join(address for address, _ in fresh), np.uint64).reshape(-1, 2)
            self._index.insert(keys, np.array([row for _, row in fresh], np.uint32))
        self._unindexed.clear()

    def purge(self, before_ns: int) -> None:
        """Forget owners that lost their address before a time, and addresses that nobody has since then."""
        for row, past in list(self._past.items()):
            kept = [ownership for ownership in past if ownership.end_ns >= before_ns]
            if kept:
                self._past[row] = kept
            else:
                del self._past[row]
        gone = [
            address
            for address, row in self._rows.items()
            if not self._number[row] and row not in self._past and self._since[row] < before_ns
        ]
        if gone:
            self._index.remove(np.frombuffer(b"".join(gone), np.uint64).reshape(-1, 2))
            self._free += [self._rows.pop(address) for address in gone]

    def numbers(self) -> set[int]:
        """All numbers that have or had an address."""
        return set(self._number.tolist()) | {one.number for past in self._past.values() for one in past}

    def _former(self, row: int, time_ns: int) -> int:
        for past in self._past.get(row, ()):
            if past.since_ns <= time_ns < past.end_ns:
                return past.number
        return 0

    def _new_row(self, address: bytes) -> int:
        # Row 0 is what lookup() reads for addresses that are not in the index: it stays nobody's, since ever.
        row = self._free.pop() if self._free else len(self._rows) + 1
        if row >= self._number.size:
            self._number = np.concatenate((self._number, np.zeros_like(self._number)))
            self._since = np.concatenate((self._since, np.zeros_like(self._since)))
        self._rows[address] = row
        self._unindexed.append((address, row))
        return row


@dataclass(frozen=True, slots=True)
class Ranges:
    """What an address' range tells; each (n,) bool. private: not routed on the Internet (RFC 1918, 6598,
    4193, 3927).
    """

    unspecified: NDArray[np.bool_]
    loopback: NDArray[np.bool_]
    private: NDArray[np.bool_]


def ranges(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> Ranges:
    """Classify addresses by range. high, low: (n,) uint64, the 16 bytes as loaded by a little-endian
    machine.
    """
    octets = low.astype("<u8").view(np.uint8).reshape(-1, 8)
    first, second = octets[:, 4], octets[:, 5]
    v4 = (high == 0) & ((low & np.uint64(0xFFFFFFFF)) == np.uint64(0xFFFF0000))
    top = high.astype("<u8").view(np.uint8).reshape(-1, 8)
    private4 = (first == 10) | ((first == 172) & (second & 0xF0 == 16)) | ((first == 192) & (second == 168))
    private4 |= ((first == 100) & (second & 0xC0 == 64)) | ((first == 169) & (second == 254))
    private6 = (top[:, 0] & 0xFE == 0xFC) | ((top[:, 0] == 0xFE) & (top[:, 1] & 0xC0 == 0x80))
    return Ranges(
        unspecified=(high == 0) & ((low == 0) | (v4 & ((low >> np.uint64(32)) == 0))),
        loopback=(v4 & (first == 127)) | ((high == 0) & (low == np.uint64(1 << 56))),
        private=np.where(v4, private4, private6),
    )
