"""BPF ring buffer of equal-sized records, read in bulk: the unread region is one NumPy array.

Layout (kernel/bpf/ringbuf.c): one page with the consumer's position, one with the producer's, then the data, which the kernel
offers twice in a row. It is mapped once: resident pages would count twice, and joining a region that wraps costs little. Each
record has an 8-byte header: u32 length with two flag bits, u32 page offset.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
from typing import TYPE_CHECKING

import numpy as np

from flows.agent.probe import bpf

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUSY = 1 << 31  # reserved, not yet submitted
DISCARDED = 1 << 30
HEADER_BYTES = 8
# Python has no atomic load; on x86-64 and arm64 an aligned 8-byte load is one access. The header's busy bit, which the kernel
# clears with release order after the record's bytes, is looked at after the position.


def slots(record: np.dtype[np.void]) -> np.dtype[np.void]:
    """Dtype of one ring slot: header and record, padded to 8 bytes."""
    size = HEADER_BYTES + (record.itemsize + 7) // 8 * 8
    return np.dtype({"names": ["header", "record"], "formats": ["<u4", record], "offsets": [0, 8], "itemsize": size})


def wrapped(data: NDArray[np.uint8], first: int, length: int) -> NDArray[np.uint8]:
    """Bytes of a ring (n,) from `first` on, around its end if need be; a view unless they wrap."""
    end = first + length
    return data[first:end] if end <= len(data) else np.concatenate((data[first:], data[: end - len(data)]))


def take(region: NDArray[np.void]) -> tuple[NDArray[np.void], int]:
    """The finished records at the front of a region of slots.

    Returns (records, slots consumed): stops at the first busy slot, leaves discarded ones out. A view, unless there were some.
    """
    headers = region["header"]
    busy = headers & BUSY != 0
    count = int(busy.argmax()) if busy.any() else len(region)
    records = region["record"][:count]
    discarded = headers[:count] & DISCARDED != 0
    return (records[~discarded] if discarded.any() else records), count


def count_unread(descriptor: int) -> int:
    """Finished records that wait in a ring map, whatever their size."""
    data_bytes = bpf.map_sizes(descriptor)[2]
    page = mmap.PAGESIZE
    with mmap.mmap(descriptor, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=0) as consumer:
        at = int.from_bytes(consumer[:8], "little")
    count = 0
    with mmap.mmap(descriptor, page + data_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page) as producer:
        end = int.from_bytes(producer[:8], "little")
        while at < end:
            start = page + at % data_bytes
            header = int.from_bytes(producer[start : start + 4], "little")
            count += not header & (BUSY | DISCARDED)
            at += HEADER_BYTES + ((header & ~(BUSY | DISCARDED)) + 7) // 8 * 8
    return count


class Ring:
    """Consumer of one ring buffer map."""

    def __init__(self, descriptor: int, data_bytes: int, record: np.dtype[np.void]) -> None:
        """Map the ring of data_bytes (a power of two) whose records are all of the given dtype."""
        self._slot = slots(record)
        self._mask = data_bytes - 1
        self._page = mmap.PAGESIZE
        self._consumer = mmap.mmap(descriptor, self._page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer = mmap.mmap(descriptor, self._page + data_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=self._page)
        self._read = ctypes.c_uint64.from_buffer(self._consumer)
        self._written = np.frombuffer(self._producer, "<u8", 1)
        self._data = np.frombuffer(self._producer, "u1", data_bytes, self._page)
        self._peeked = int(self._read.value)
        self.complete = True  # whether the last peek() gave all: it ends before a record that is still being written
        self._poll = select.epoll()
        self._poll.register(descriptor, select.EPOLLIN)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)

    def wait(self, seconds: float) -> None:
        """Sleep until the kernel says that records came, at most so long: it does once per drained ring, not per record."""
        if any(descriptor == self._wake for descriptor, _ in self._poll.poll(seconds)):
            os.eventfd_read(self._wake)

    def wake(self) -> None:
        """End a wait(), this one or the next; from any thread."""
        os.eventfd_write(self._wake, 1)

    @property
    def filled(self) -> float:
        """How much of the ring waits, 0 to 1."""
        return (int(self._written[0]) - int(self._read.value)) / (self._mask + 1)

    def peek(self) -> NDArray[np.void]:
        """All finished records, shape (n,), as they lie in the ring: to be used before release(), and kept only as copies."""
        start = int(self._read.value)
        count = (int(self._written[0]) - start) // self._slot.itemsize
        region = wrapped(self._data, start & self._mask, count * self._slot.itemsize).view(self._slot)
        records, consumed = take(region)
        self.complete = consumed == count
        self._peeked = start + consumed * self._slot.itemsize
        return records

    def release(self) -> None:
        """Free the room of what the last peek() gave."""
        self._read.value = self._peeked

    def close(self) -> None:
        """Unmap."""
        self._poll.close()
        os.close(self._wake)
        del self._read, self._written, self._data
        self._consumer.close()
        self._producer.close()
