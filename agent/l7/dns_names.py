"""Which name a pod had asked for before it spoke with an address: what its own DNS answers said, while they were valid."""

from __future__ import annotations

import secrets
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from flows.agent.enrich.hashindex import HashIndex
from flows.agent.l7.dns_name_table import NameTable
from flows.agent.l7.dns_questions import HEADER, NAME
from flows.agent.l7.dns_wire import AAAA, ANSWER, CNAME, A, parse
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
_RECORD: Final = Struct(">HHHIH")  # a pointer in place of the name, type, class, TTL, bytes of data
_OWN_NAME: Final = 0xC000 | HEADER  # the question's
_ADDRESSES: Final = ((A, 4), (AAAA, 16))  # type and bytes
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
        chosen = _distinct(cgroup_ids, answers[:, : _whole(answer_bytes.max())], names, time_ns)
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
        messages, width = answers.tobytes(), answers.shape[1]
        for row, (text, size) in enumerate(zip(texts, answer_bytes.tolist(), strict=True)):
            message = messages[row * width + 2 : row * width + size]
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
        addresses = simple_addresses(b"\0\0" + message)
        if addresses is None:
            addresses = answered_addresses(parse(b"\0\0" + message))
        self._memo[message] = addresses
        return addresses

    def _store(self, learned: Learned, now_ns: int) -> None:
        order = np.lexsort(learned.keys.T)
        equal = (learned.keys[order[1:]] == learned.keys[order[:-1]]).all(axis=1)
        last = order[np.append(~equal, True)]  # of equal ones
        keys, numbers, since, until = (column[last] for column in learned)
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


def simple_addresses(message: bytes) -> Addresses | None:
    """As answered_addresses() of the parsed message, in a tenth of the time; None if it has more than addresses of its name."""
    if len(message) < HEADER or message[3] & 15 or message[4:6] != b"\0\1":
        return None
    at = HEADER
    while at < len(message) and 0 < message[at] < 64:
        at += 1 + message[at]
    if at >= len(message) or message[at] or at + 1 - HEADER > NAME or at + 5 > len(message):
        return None
    found, at = [], at + 5
    for _ in range(int.from_bytes(message[6:8], "big")):
        if at + _RECORD.size > len(message):
            return None  # cut: what the parser makes of it
        pointer, rtype, _, ttl, size = _RECORD.unpack_from(message, at)
        if pointer != _OWN_NAME or (rtype, size) not in _ADDRESSES:
            return None
        at += _RECORD.size
        if at + size > len(message):
            return None
        address = message[at : at + size]
        found.append((address if size == 16 else _MAPPED + address, min(ttl, MOST_TTL)))
        at += size
    return tuple(found)


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
    words, texts = _words(answers), _words(names[:, : _whole(np.strings.str_len(names.view(f"S{TEXT_BYTES}")).max())])
    mixed = cgroup_ids * _SEEDS[0]
    first = words[0] >> np.uint64(16)  # little-endian: without the id
    for at, word in enumerate((first, *words[1:], *texts), 1):
        mixed = (mixed ^ mixed >> np.uint64(32)) + word * _SEEDS[at]
    order = np.argsort(time_ns, kind="stable")
    last = len(order) - 1 - np.unique(mixed[order][::-1], return_index=True)[1]
    distinct: NDArray[np.int64] = order[np.sort(last)]
    return distinct


def _whole(size: int) -> int:
    """Bytes of the words, at least one, that so many bytes need: of those behind nothing is known but zeros."""
    return max(8, -(-int(size) // 8) * 8)


def _words(texts: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Of texts (n, 8k): (k, n)."""
    return np.ascontiguousarray(np.ascontiguousarray(texts).reshape(-1).view(np.uint64).reshape(len(texts), -1).T)


def _entries(
    cgroup_ids: NDArray[np.uint64], time_ns: NDArray[np.uint64], numbers: list[int], found: Sequence[tuple[bytes, int]]
) -> Learned:
    halves = np.frombuffer(b"".join(address for address, _ in found), np.uint64).reshape(-1, 2)
    lives = np.array([ttl for _, ttl in found], np.uint64) * np.uint64(SECOND) + np.uint64(GRACE_NS)
    return Learned(np.column_stack((cgroup_ids, halves)), np.array(numbers, np.uint32), time_ns, time_ns + lives)
