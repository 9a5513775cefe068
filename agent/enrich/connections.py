"""Connections: the sockets of this node by both of their ends, to name the other end of one that stays on the
node.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Both ends' records come within one reporting interval; 32,768 slots of 29 bytes hold 3 s of 10,000
# connections/s.
SLOTS_LOG2: Final = 15


@dataclass(frozen=True, slots=True)
class Ends:
    """Keyed 64-bit hashes of a record's two ends, (n,) uint64 each: address, port, protocol, network
    namespace.
    """

    local: NDArray[np.uint64]
    remote: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Joined:
    """numbers: (n,) uint32, who is at the other end, 0 if it was not seen. late: what earlier records lacked.

    late_connections: (m,) uint64 conn_id of records whose other end is only known now; late_numbers: (m,)
    uint32.
    """

    numbers: NDArray[np.uint32]
    late_connections: NDArray[np.uint64]
    late_numbers: NDArray[np.uint32]


class Connections:
    """A direct-mapped table of (local end, remote end) -> number of the local end; newer entries replace
    older ones.

    Entries are verified by both ends' hashes: 128 bits, keyed with random numbers.
    """

    def __init__(self) -> None:
        size = 1 << SLOTS_LOG2
        self._multipliers = [np.uint64(secrets.randbits(64) | 1) for _ in range(6)]
        self._local = np.zeros(size, np.uint64)
        self._remote = np.zeros(size, np.uint64)
        self._connection = np.zeros(size, np.uint64)
        self._number = np.zeros(size, np.uint32)
        self._lacking = np.zeros(size, bool)

    def ends(
        self,
        local: tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint16]],
        remote: tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint16]],
        scope: NDArray[np.uint64],
    ) -> Ends:
        """Hash both ends (high word, low word, port). scope: (n,) what else must be equal (protocol,
        netns).
        """
        salt = (scope << np.uint64(16)) * self._multipliers[2]
        return Ends(self._hash(*local, salt), self._hash(*remote, salt))

    def join(
        self,
        ends: Ends,
        numbers: NDArray[np.uint32],
        lacking: NDArray[np.bool_],
        connections: NDArray[np.uint64],
    ) -> Joined:
        """Note these sockets, then look for the other end of each.

        numbers: (n,) uint32 of the local ends, 0 if not known by their sockets. lacking: (n,) bool, remote
        not known by its address. connections: (n,) conn_id.
        """
        here = self._slots(ends.local, ends.remote)
        there = self._slots(ends.remote, ends.local)
        self._local[here], self._remote[here] = ends.local, ends.remote
        self._number[here], self._connection[here] = numbers, connections
        found = (self._local.take(there) == ends.remote) & (self._remote.take(there) == ends.local)
        others = np.where(found, self._number.take(there), 0).astype(np.uint32)
        self._lacking[here] = lacking & (others == 0)
        late = (found & self._lacking.take(there) & (numbers != 0)).nonzero()[0]
        slots, first = np.unique(there[late], return_index=True)
        self._lacking[slots] = False
        return Joined(others, self._connection[slots], numbers[late[first]])

    def forget(self, numbers: NDArray[np.uint32]) -> None:
        """Drop the sockets of endpoints whose numbers are about to be given to others."""
        self._number[np.isin(self._number, numbers)] = 0

    def _hash(
        self,
        high: NDArray[np.uint64],
        low: NDArray[np.uint64],
        port: NDArray[np.uint16],
        salt: NDArray[np.uint64],
    ) -> NDArray[np.uint64]:
        mixed = high * self._multipliers[0]
        mixed ^= mixed >> np.uint64(32)
        mixed += low
        mixed *= self._multipliers[1]
        mixed ^= mixed >> np.uint64(32)
        mixed += salt
        mixed += port
        mixed *= self._multipliers[3]
        mixed ^= mixed >> np.uint64(29)
        return mixed

    def _slots(self, one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
        slots = one * self._multipliers[4] + other * self._multipliers[5]
        slots >>= np.uint64(64 - SLOTS_LOG2)
        return slots.view(np.int64)
