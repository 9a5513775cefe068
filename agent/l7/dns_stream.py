"""One direction of DNS over TCP: messages behind their two bytes of length, from bytes in their order (RFC 1035, 4.2.2)."""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

from flows.agent.probe.payload import LONG_TEXT

PREFIX: Final = 2
HEADER: Final = 12
SHORTEST: Final = HEADER + 5  # with a question about the root


class Whole(NamedTuple):
    """A message. head: of the packet in which its length began; data: its first bytes, as far as known; length: all of it."""

    head: bytes
    data: bytes
    length: int


class MessageReader:
    """Takes bytes as they come. in_step: where the next message begins is known; if not, it is of no more use."""

    DECIDING: ClassVar[int] = PREFIX + HEADER + 1  # bytes that tell whether a message begins: with the first label's length

    def __init__(self) -> None:
        self.in_step = True
        self._prefix = b""
        self._head = b""
        self._length = 0  # of the message that is being read; 0: none is
        self._left = 0
        self._data = bytearray()
        self._joined = True  # nothing is missing between data and what comes next

    @property
    def begun(self) -> bool:
        """Whether a message is there in part."""
        return bool(self._length or self._prefix)

    def feed(self, head: bytes, data: bytes, unseen: int) -> list[Whole]:
        """Messages that end in the data or in the unseen bytes behind it, both of the packet with this head."""
        whole: list[Whole] = []
        while data and self.in_step:
            if self._length:
                part, data = data[: self._left], data[self._left :]
                whole += self._body(part, len(part))
            else:
                data = self._begin(head, data)
        if unseen and self.in_step:
            whole += self._unseen(unseen)
        return whole

    def broken_off(self) -> list[Whole]:
        """What there is of the message that will not be read to its end."""
        if not self._data:
            return []
        return [self._ended()]

    def _begin(self, head: bytes, data: bytes) -> bytes:
        if not self._prefix:
            self._head = head
        wanted = PREFIX - len(self._prefix)
        self._prefix, data = self._prefix + data[:wanted], data[wanted:]
        if len(self._prefix) == PREFIX:
            self._length = self._left = int.from_bytes(self._prefix, "big")
            self._prefix = b""
            self.in_step = self._length >= HEADER
        return data

    def _body(self, part: bytes, size: int) -> list[Whole]:
        if self._joined:
            self._data += part[: LONG_TEXT - len(self._data)]
        self._left -= size
        return [] if self._left else [self._ended()]

    def _unseen(self, size: int) -> list[Whole]:
        """Bytes that nobody captured: harmless inside of a message, but where the next one begins behind it they hide."""
        self.in_step = bool(self._length) and size <= self._left
        if not self._length:
            return []
        self._joined = False
        return self._body(b"", min(size, self._left))

    def _ended(self) -> Whole:
        whole = Whole(self._head, bytes(self._data), self._length)
        self._length, self._left, self._data, self._joined = 0, 0, bytearray(), True
        return whole


def plausible(data: bytes) -> bool | None:
    """Whether a message begins here, its length first; None: the bytes are too few to tell.

    A standard query with one question or its answer, no reserved bit set, and no records of answers in a query.
    """
    if len(data) < MessageReader.DECIDING:
        return None
    flags, more = data[4], data[5]
    query = not flags & 0x80
    return (
        int.from_bytes(data[:2], "big") >= SHORTEST
        and not flags & 0x78
        and not more & 0x40
        and data[6:8] == b"\0\1"
        and not (query and (more & 0x0F or data[8:10] != b"\0\0"))
        and data[14] < 64
    )
