"""One direction of an HTTP/2 connection: its records in their order, frames, and the header table; and what was lost of it."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from flows.agent.l7.http2_frames import Frame, Frames, MalformedError, Record, is_preface
from flows.agent.l7.http2_headers import Block, HeaderDecoder

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from flows.agent.l7.http2_headers import Memory
    from flows.agent.l7.redact import Redaction

MAX_HELD = 4_096  # records that came before one that is missing: those of one batch, of which the other ring has the missing one


class Direction:
    """Records go in as they come, frames come out in the order in which they were sent."""

    def __init__(self, rules: Redaction, memory: Memory, counts: Counter[str]) -> None:
        """counts: by reason, shared by all."""
        self.losses = 0  # times that something is missing here
        self.lost_until_ns = 0  # when the last of it was over
        self.decoded = False  # a header block was seen
        self._decoder = HeaderDecoder(rules, memory)
        self._frames = Frames()
        self._counts = counts
        self._next = 0
        self._seen = False
        self._held: dict[int, Record] = {}

    @property
    def bytes_kept(self) -> int:
        """About what this takes in memory."""
        return (
            self._decoder.bytes_kept + self._frames.waiting_bytes + sum(len(record.text) + 400 for record in self._held.values())
        )

    @property
    def holds(self) -> bool:
        """Whether records wait for one that is missing."""
        return bool(self._held)

    @property
    def whole(self) -> bool:
        """Whether everything was seen from the beginning on."""
        return self._decoder.table.whole and not self.losses

    def begin(self) -> None:
        """The connection begins, so that the header table is empty."""
        self._decoder.begin()

    def allow(self, size: int) -> None:
        """The receiver's SETTINGS_HEADER_TABLE_SIZE."""
        self._decoder.allow(size)

    def take(self, record: Record) -> Iterable[Frame | Record]:
        """Frames that can be read now that this record is there; a preface comes as its record."""
        if record.number == self._next:
            read = self._in_order(record)
            return chain(read, self._followers()) if self._held else read
        if record.number < self._next:
            self._counts["http2_records_late"] += 1  # it was counted as lost when it was given up
            return ()
        self._held[record.number] = record
        return self.give_up() if len(self._held) > MAX_HELD else ()

    def give_up(self, until_ns: int | None = None) -> Iterator[Frame | Record]:
        """What is missing will not come any more, for records of before until_ns (CLOCK_MONOTONIC) or for all."""
        while self._held:
            first = min(self._held)
            if until_ns is not None and self._held[first].time_ns > until_ns:
                return
            if self._seen:
                self._counts["http2_records_lost"] += first - self._next
            else:
                self._counts["http2_beginnings_unseen"] += 1
            self._lost(self._held[first].time_ns)
            self._next = first
            yield from self._followers()

    def read(self, frame: Frame) -> Block | None:
        """What the header block of a frame says; None if it is malformed, which is counted."""
        self.decoded = True
        try:
            return self._decoder.read(frame.payload)
        except MalformedError as error:
            self._counts[str(error)] += 1
            self._lost(frame.record.time_ns)
            return None

    def missing(self, until_ns: int) -> None:
        """Something from before until_ns (CLOCK_MONOTONIC) was not seen, or not understood."""
        self.lost_until_ns = max(self.lost_until_ns, until_ns)

    def _lost(self, time_ns: int) -> None:
        """Something from before time_ns is missing: the header table is not known from here on."""
        self.losses += 1
        self.missing(time_ns)
        self._decoder.forget()
        self._frames.forget()

    def _followers(self) -> Iterator[Frame | Record]:
        while (record := self._held.pop(self._next, None)) is not None:
            yield from self._in_order(record)

    def _in_order(self, record: Record) -> tuple[Frame | Record, ...]:
        self._next, self._seen = record.number + 1, True
        if is_preface(record):
            return (record,)
        if self._frames.cuts(record):
            self._counts["http2_frames_cut"] += 1
            self._lost(record.time_ns)
        try:
            frame = self._frames.take(record)
        except MalformedError as error:
            self._counts[str(error)] += 1
            self._lost(record.time_ns)
            return ()
        return () if frame is None else (frame,)
