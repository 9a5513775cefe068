"""Which name a pod had asked for before it spoke with an address: what its own DNS answers said, while they were valid."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from flows.agent.enrich.hashindex import HashIndex
from flows.agent.l7.dns_name_table import NameTable
from flows.agent.l7.dns_wire import ANSWER, CNAME, parse
from flows.agent.store.request_columns import ANSWER_BYTES, TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flows.agent.l7.dns_wire import Message, Record

SECOND: Final = 1_000_000_000
ADDRESSES: Final = 65_536  # pairs of pod and address; 5 MB
# How long after its TTL an address may still be used: who has asked just before needs a moment to connect, and to try again.
GRACE_NS: Final = 30 * SECOND
MOST_TTL: Final = 86_400  # seconds; nobody believes in more (RFC 8767, 4: a week at the utmost)
CHAIN: Final = 16  # aliases from the name that was asked for; BIND and unbound follow no more than 11 to 16
PARSED: Final = 512  # messages per batch that were not met lately; at 20 us each, a fifth of the reader's 50 ms
MEMO: Final = 4_096  # messages that are remembered; all are forgotten when there are more
_MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
_SEEDS: Final = np.array([secrets.randbits(64) | 1 for _ in range(ANSWER_BYTES // 8 + TEXT_BYTES // 8 + 2)], np.uint64)

Addresses = tuple[tuple[bytes, int], ...]  # address, 16 bytes, and seconds that it holds


class Learned(NamedTuple):
    """m addresses of answers. keys: cgroup id and address (m, 3), u8; numbers: of names (m,), u4; since_ns, until_ns: (m,)."""

    keys: NDArray[np.uint64]
    numbers: NDArray[np.uint32]
    since_ns: NDArray[np.uint64]
    until_ns: NDArray[np.uint64]


class AnsweredNames:
    """(cgroup, address) to the name that was asked for. All times are CLOCK_MONOTONIC. For the ring's reader only.

    Of several names with one address the last that was answered is told. names: the numbers' names; overflow: addresses that were
    forgotten before their time for want of room; skipped: messages that were not read, for there were too many new ones at once.
    """

    def __init__(self, names: NameTable | None = None, capacity: int = ADDRESSES) -> None:
        self.names = names or NameTable()
        self.overflow = self.skipped = 0
        self._memo: dict[bytes, Addresses] = {}
        self._index = HashIndex(3)
        self._keys = np.zeros((capacity + 1, 3), np.uint64)
        self._numbers = np.zeros(capacity + 1, np.uint32)
        self._since, self._until = np.zeros(capacity + 1, np.uint64), np.zeros(capacity + 1, np.uint64)
        self._free = np.arange(capacity, 0, -1)

    def __len__(self) -> int:
        """Addresses that are known, also those whose time is over."""
        return len(self._index)

    def counts(self) -> dict[str, int]:
        """Since the start, by reason."""
        return {
            "dns_names_overflow": self.names.overflow,
            "dns_addresses_overflow": self.overflow,
            "dns_answers_not_learned": self.skipped,
        }

    def learn(
        self,
        cgroup_ids: NDArray[np.uint64],
        answers: NDArray[np.uint8],
        answer_bytes: NDArray[np.uint16],
        names: NDArray[np.uint8],
        time_ns: NDArray[np.uint64],
    ) -> None:
        """Answers to queries of this node's pods, in any order: cgroup_ids (n,), and as in the RequestStore `answer` (n, 256),
        `answer_bytes` (n,) and `text` (n, 160); time_ns: when each came (n,).

        Only addresses count, and only those that the answer leads to from the name that was asked for.
        """
        if not len(cgroup_ids):
            return
        chosen = _distinct(cgroup_ids, answers, names, time_ns)
        learned = self._learned(cgroup_ids[chosen], answers[chosen], answer_bytes[chosen], names[chosen], time_ns[chosen])
        if learned is not None:
            self._store(learned, int(time_ns.max()))

    def lookup(
        self, cgroup_id: NDArray[np.uint64], remote_addr: NDArray[np.uint8], time_ns: NDArray[np.uint64]
    ) -> NDArray[np.uint32]:
        """Number of the name (n,) that each cgroup had in mind when it spoke with the address (n, 16) at that time; 0: none."""
        halves = np.ascontiguousarray(remote_addr).reshape(-1).view(np.uint64).reshape(-1, 2)
        at = self._index.lookup(cgroup_id, halves[:, 0], halves[:, 1])
        valid = (self._since[at] <= time_ns) & (time_ns <= self._until[at])
        return np.where(valid, self._numbers[at], np.uint32(0))

    def in_use(self) -> NDArray[np.uint32]:
        """Numbers of names that lookup() may give, for NameTable.retain()."""
        return self._numbers.copy()

    def _learned(
        self,
        cgroup_ids: NDArray[np.uint64],
        answers: NDArray[np.uint8],
        answer_bytes: NDArray[np.uint16],
        names: NDArray[np.uint8],
        time_ns: NDArray[np.uint64],
    ) -> Learned | None:
        """One entry for each address of each answer; None if there is none."""
        rows: list[int] = []
        found: list[tuple[bytes, int]] = []
        numbers: list[int] = []
        parsed = 0
        texts = names.view(f"S{TEXT_BYTES}")[:, 0].tolist()
        for row, (text, size) in enumerate(zip(texts, answer_bytes.tolist(), strict=True)):
            message = answers[row, 2:size].tobytes()
            addresses = self._memo.get(message)
            if addresses is None:
                parsed += 1
                if parsed > PARSED:
                    self.skipped += 1
                    continue
                addresses = self._remember(message)
            # A name that fills the column may be cut, and then nobody knows what was asked for.
            if addresses and len(text) < TEXT_BYTES and (number := self.names.number(text.decode("ascii", "backslashreplace"))):
                rows += [row] * len(addresses)
                numbers += [number] * len(addresses)
                found += addresses
        return _entries(cgroup_ids[rows], time_ns[rows], numbers, found) if rows else None

    def _remember(self, message: bytes) -> Addresses:
        if len(self._memo) == MEMO:
            self._memo.clear()
        addresses = self._memo[message] = answered_addresses(parse(b"\0\0" + message))
        return addresses

    def _store(self, learned: Learned, now_ns: int) -> None:
        last = np.unique(learned.keys[::-1], axis=0, return_index=True)[1]
        keys, numbers = learned.keys[::-1][last], learned.numbers[::-1][last]
        since, until = learned.since_ns[::-1][last], learned.until_ns[::-1][last]
        at = self._index.lookup(*keys.T).astype(np.int64)
        known = at > 0
        same = known & (self._numbers[at] == numbers) & (self._until[at] >= since)
        since = np.where(same, np.minimum(self._since[at], since), since)
        new = (~known).nonzero()[0]
        if new.size > self._free.size:
            self._make_room(new.size, now_ns, at[known])
            new = new[: self._free.size]
        at[new], self._free = self._free[: new.size], self._free[new.size :]
        placed = at > 0
        at, keys = at[placed], keys[placed]
        self._keys[at], self._numbers[at] = keys, numbers[placed]
        self._since[at], self._until[at] = since[placed], until[placed]
        self._index.insert(keys, at.astype(np.uint32))

    def _make_room(self, wanted: int, now_ns: int, kept: NDArray[np.int64]) -> None:
        """Forget what is over; if that does not do, also what is over first."""
        used = self._numbers > 0
        used[kept] = False
        order = used.nonzero()[0]
        order = order[np.argsort(self._until[order], kind="stable")]
        over = int(np.searchsorted(self._until[order], np.uint64(now_ns)))
        going = order[: max(over, wanted - self._free.size)]
        self.overflow += max(0, going.size - over) + max(0, wanted - self._free.size - going.size)
        self._index.remove(self._keys[going])
        self._numbers[going] = 0
        self._free = np.concatenate((self._free, going))


def answered_addresses(message: Message) -> Addresses:
    """Addresses that the answer leads to from its question, each with the least TTL on the way; none of an error."""
    if message.bits & 15:
        return ()
    answers = [record for record in message.records if record.section == ANSWER]
    aliases = {record.name.lower(): record for record in answers if record.type == CNAME}
    name, ttl = message.name.lower(), MOST_TTL
    lives = {name: ttl}
    for _ in range(CHAIN):
        alias = aliases.get(name)
        if alias is None or alias.names[0].lower() in lives:
            break
        name, ttl = alias.names[0].lower(), min(ttl, alias.ttl)
        lives[name] = ttl
    return tuple(
        (_address(record), min(record.ttl, lives[record.name.lower()]))
        for record in answers
        if record.address and record.name.lower() in lives
    )


def _address(record: Record) -> bytes:
    return record.address if len(record.address) == 16 else _MAPPED + record.address


def _distinct(
    cgroup_ids: NDArray[np.uint64], answers: NDArray[np.uint8], names: NDArray[np.uint8], time_ns: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Of equal answers to equal names, but for their ids, to one cgroup the last one; in the order of time."""
    words = np.ascontiguousarray(answers).reshape(-1).view(np.uint64).reshape(len(answers), -1)
    texts = np.ascontiguousarray(names).reshape(-1).view(np.uint64).reshape(len(names), -1)
    mixed = cgroup_ids * _SEEDS[0]
    first = words[:, 0] >> np.uint64(16)  # little-endian: without the id
    for at, word in enumerate((first, *words.T[1:], *texts.T), 1):
        mixed = (mixed ^ mixed >> np.uint64(32)) + word * _SEEDS[at]
    order = np.argsort(time_ns, kind="stable")
    last = len(order) - 1 - np.unique(mixed[order][::-1], return_index=True)[1]
    distinct: NDArray[np.int64] = order[np.sort(last)]
    return distinct


def _entries(
    cgroup_ids: NDArray[np.uint64], time_ns: NDArray[np.uint64], numbers: list[int], found: Sequence[tuple[bytes, int]]
) -> Learned:
    halves = np.frombuffer(b"".join(address for address, _ in found), np.uint64).reshape(-1, 2)
    lives = np.array([ttl for _, ttl in found], np.uint64) * np.uint64(SECOND) + np.uint64(GRACE_NS)
    return Learned(np.column_stack((cgroup_ids, halves)), np.array(numbers, np.uint32), time_ns, time_ns + lives)
