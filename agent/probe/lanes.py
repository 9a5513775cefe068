"""Lanes: one ring of slots for each CPU, in array maps that are mapped; read in bulk (struct lane of bpf/payload.h)."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import numpy as np

from flows.agent.probe import bpf
from flows.agent.probe.payload import joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANE = np.dtype([("written", "<u8"), ("read", "<u8"), ("left_out", "<u8"), ("busy", "<u8"), ("zero", "<u8", (12,))])
LANES, SECOND_SLOTS = 2, 64  # of each CPU, as in bpf/payload.h
SMALLEST = 256  # slots of one CPU: below that interrupts that come together would find no room


def cpus() -> int:
    """CPUs that there may be."""
    return os.sysconf("SC_NPROCESSORS_CONF")


def slots_of_cpu(total: int) -> int:
    """Slots for each CPU so that all have about `total`: a power of two."""
    return max(SMALLEST, 1 << (max(1, total // cpus()).bit_length() - 1))


def left_out(share: float) -> int:
    """The hash from which on requests leave, so that this share (0 to 1) of them does."""
    return int((1 - share) * (1 << 32))


def pairing_hash(pairing: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Of n requests what is compared with left_out(): as is_left_out() of bpf/http_words.h has it."""
    hashes: NDArray[np.uint32] = pairing * np.uint32(2_654_435_761)
    return hashes


class Lanes:
    """Consumer of all CPUs' slots."""

    def __init__(self, lanes: int, slots: int, payload: np.dtype[np.void]) -> None:
        """Descriptors of both maps. Raises OSError."""
        count, entries = bpf.map_sizes(lanes)[2], bpf.map_sizes(slots)[2]
        of_cpu = entries * LANES // count
        self._starts = [at // LANES * of_cpu + (of_cpu - SECOND_SLOTS) * (at % LANES) for at in range(count)]
        self._rooms = np.where(np.arange(count) % LANES, SECOND_SLOTS, of_cpu - SECOND_SLOTS)
        self._lane_memory = mmap.mmap(lanes, _pages(count * LANE.itemsize), mmap.MAP_SHARED)
        self._slot_memory = mmap.mmap(slots, _pages(entries * payload.itemsize), mmap.MAP_SHARED, mmap.PROT_READ)
        self._lanes = np.frombuffer(self._lane_memory, LANE, count)
        self._slots = np.frombuffer(self._slot_memory, payload, entries)
        self._peeked = self._lanes["read"].copy()

    @property
    def filled(self) -> float:
        """How much of the fullest lane waits, 0 to 1."""
        return float(((self._lanes["written"] - self._lanes["read"]) / self._rooms).max())

    @property
    def written(self) -> int:
        """Payloads since the maps were made."""
        return int(self._lanes["written"].sum())

    def peek(self) -> NDArray[np.void]:
        """Copies of all payloads that are whole (n,), of each CPU in the order in which they were written."""
        written, read = self._lanes["written"].copy(), self._lanes["read"].copy()
        self._peeked = written
        busy = np.flatnonzero(written != read).tolist()
        parts = [part for at in busy for part in self._of_lane(at, int(read[at]), int(written[at]))]
        return joined(parts) if parts else np.zeros(0, self._slots.dtype)

    def _of_lane(self, at: int, first: int, last: int) -> tuple[NDArray[np.void], NDArray[np.void]]:
        room = int(self._rooms[at])
        own = self._slots[self._starts[at] : self._starts[at] + room]
        start, end = first % room, first % room + last - first
        return own[start : min(end, room)], own[: max(0, end - room)]

    def release(self) -> None:
        """Give back the slots of what the last peek() gave."""
        self._lanes["read"] = self._peeked

    def sample(self, share: float) -> None:
        """Let only this share (0 to 1) of requests leave the kernel, each with its answer; what is left out is counted there."""
        self._lanes["left_out"] = left_out(share)

    def close(self) -> None:
        """Unmap."""
        del self._lanes, self._slots
        self._lane_memory.close()
        self._slot_memory.close()


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
