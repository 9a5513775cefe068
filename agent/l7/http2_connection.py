"""One HTTP/2 connection: requests and answers by stream (RFC 9113, section 8.1), gRPC by its trailers (gRPC over HTTP2).

A stream's number is used once, so pairing is exact whatever was lost. Where records were lost, a missing answer is not called
unanswered: it may have been among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.agent.l7.http2_direction import Direction
from flows.agent.l7.http2_frames import Frame, FrameType, MalformedError, Record, last_stream, table_sizes
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag, Kind, State

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from flows.agent.l7.http2_headers import Block, Memory
    from flows.agent.l7.http2_rows import Rows, Stream
    from flows.agent.l7.redact import Redaction

MAX_STREAMS = 1_024  # open ones of a connection; servers allow 100 to 250
MAX_EARLY = 4_096  # answers that were read before their requests: those of one batch


class Connection:
    """Both directions, by `sent`, and the streams that are open."""

    def __init__(self, rules: Redaction, memory: Memory, counts: Counter[str], rows: Rows) -> None:
        """rows: where requests and answers go; counts: shared by all connections."""
        self.weight = 0  # for the one who keeps connections: bytes counted of this one
        self._sides = (Direction(rules, memory, counts), Direction(rules, memory, counts))
        self._counts, self._rows = counts, rows
        self._client: int | None = None  # `sent` of what the client sends; None: not known yet
        self._highest = 0  # stream that a request was seen on
        self._streams: dict[int, Stream] = {}
        # When they were over, and, if there may be more to learn of them, what is known: of a connection joined in the middle.
        self._over: dict[int, tuple[int, Stream | None]] = {}
        self._early: dict[int, list[tuple[Frame, Block | None]]] = {}
        self._early_count = 0

    @property
    def bytes_kept(self) -> int:
        """About what this takes in memory."""
        streams = len(self._streams) + len(self._over)
        return 4_096 + 600 * streams + 1_000 * self._early_count + sum(side.bytes_kept for side in self._sides)

    @property
    def holds(self) -> bool:
        """Whether something waits for records that came out of order."""
        return bool(self._early) or any(side.holds for side in self._sides)

    @property
    def open_streams(self) -> int:
        """Requests without their whole answer."""
        return len(self._streams)

    def take(self, record: Record, sent: int) -> None:
        """One record; it may bring others to their turn."""
        self._read(self._sides[sent].take(record), sent)

    def release(self, until_ns: int | None = None) -> None:
        """What is missing will not come any more, for what waits since before until_ns (CLOCK_MONOTONIC) or for all."""
        for sent in (self._client or 0, 1 - (self._client or 0)):  # requests before answers
            self._read(self._sides[sent].give_up(until_ns), sent)
        for number, (early, *_) in list(self._early.items()):
            if until_ns is None or early[0].record.time_ns <= until_ns:
                self._without_request(number)

    def expire(self, asked_until_ns: int, now_ns: int) -> None:
        """Requests from before asked_until_ns have waited too long. Streams stay: late answers are still answers."""
        self._forget(asked_until_ns)
        for number, stream in list(self._streams.items()):
            if (stream.asked_ns or stream.answered_ns) > asked_until_ns:
                return  # they are in the order they came
            if stream.waits and not stream.given_up:
                self._give_up(stream, now_ns, 0)
            elif stream.answered_ns and stream.lost:
                self._told(stream, stream.answered_ns)  # its trailers may be among what was lost
                self._finish(number, now_ns, stream)

    def _forget(self, until_ns: int) -> None:
        while self._over and (first := next(iter(self._over.items())))[1][0] <= until_ns:
            del self._over[first[0]]

    def end(self, time_ns: int) -> None:
        """The connection was closed or broke at time_ns."""
        self.release()
        for number in list(self._streams):
            self._end_stream(number, time_ns, Flag.CONNECTION_END)

    def lost(self, time_ns: int) -> None:
        """Answers to what was asked until time_ns (CLOCK_MONOTONIC) may be lost."""
        for side in self._sides:
            side.missing(time_ns)
        self._mark_streams()

    def _mark_streams(self) -> None:
        for stream in self._streams.values():
            stream.lost = True

    def _read(self, frames: Iterable[Frame | Record], sent: int) -> None:
        side = self._sides[sent]
        losses = side.losses
        for frame in frames:
            if side.losses != losses:
                losses = self._mark_lost(side)
            if isinstance(frame, Record):
                self._preface(frame, sent)
            else:
                self._frame(frame, sent)
        if side.losses != losses:
            self._mark_lost(side)

    def _mark_lost(self, side: Direction) -> int:
        """Answers to what is open now may be among what was lost on their side."""
        if self._client != self._sides.index(side):
            self._mark_streams()
        return side.losses

    def _preface(self, record: Record, sent: int) -> None:
        if record.number or self._sides[sent].decoded:
            self._counts["http2_frames_malformed"] += 1
            return
        self._client = sent
        for side in self._sides:
            if not side.decoded:  # a server may send its SETTINGS first, but no headers
                side.begin()

    def _frame(self, frame: Frame, sent: int) -> None:
        match frame.type:
            case FrameType.HEADERS:
                self._headers(frame, sent)
            case FrameType.SETTINGS:
                for size in table_sizes(frame):
                    self._sides[1 - sent].allow(size)
            case FrameType.PUSH_PROMISE:
                self._sides[sent].read(frame)  # so that the table stays right
                self._counts["http2_push_promises"] += 1
            case FrameType.RST_STREAM if sent == self._client:
                self._end_stream(frame.stream, frame.record.time_ns, 0)
            case FrameType.RST_STREAM:
                self._answer(frame, None)
            case FrameType.GOAWAY if sent != self._client:
                self._goaway(frame)

    def _goaway(self, frame: Frame) -> None:
        try:
            last = last_stream(frame)
        except MalformedError as error:
            self._counts[str(error)] += 1
            return
        for number in [number for number in self._streams if number > last]:
            self._end_stream(number, frame.record.time_ns, 0)

    def _headers(self, frame: Frame, sent: int) -> None:
        block = self._sides[sent].read(frame)
        if block is None:
            return
        if self._client is None and block.asks != block.answers:
            self._client = sent if block.asks else 1 - sent
        if self._client is None:
            self._sides[sent].missing(frame.record.time_ns)  # it may have been an answer
            self._counts["http2_blocks_unknown"] += 1
        elif (block.answers if sent == self._client else block.asks) or not frame.stream:
            self._counts["http2_blocks_malformed"] += 1
        elif sent == self._client:
            self._request(frame, block)
        elif frame.stream % 2 == 0:
            self._counts["http2_pushed_answers"] += 1
        else:
            self._answer(frame, block)

    def _request(self, frame: Frame, block: Block) -> None:
        if not block.asks:  # trailers, or what cannot be told from them
            self._counts["http2_blocks_unknown"] += block.first_unknown
            return
        if frame.stream % 2 == 0 or frame.stream <= self._highest:  # RFC 9113, section 5.1.1
            self._counts["http2_blocks_malformed"] += 1
            return
        self._highest = frame.stream
        stream = self._rows.ask(frame, block)
        stream.lost = frame.record.time_ns <= self._server.lost_until_ns
        self._keep(frame.stream, stream)
        for early in self._taken_early(frame.stream):
            self._answer(*early)

    def _keep(self, number: int, stream: Stream) -> None:
        self._streams[number] = stream
        if len(self._streams) > MAX_STREAMS:
            del self._streams[next(iter(self._streams))]
            self._counts["http2_streams_over_limit"] += 1

    @property
    def _server(self) -> Direction:
        return self._sides[0 if self._client else 1]

    def _answer(self, frame: Frame, block: Block | None) -> None:
        """block None: the server resets the stream."""
        stream = self._stream(frame.stream)
        if stream is not None and block is None:
            self._end_stream(frame.stream, frame.record.time_ns, 0)
        elif stream is not None and block is not None:
            self._of_stream(stream, frame, block)
        elif frame.stream in self._over:
            self._counts["http2_answers_after_end"] += block is not None  # on their way when the client gave up
        elif frame.stream > self._highest or frame.stream in self._early:
            self._early.setdefault(frame.stream, []).append((frame, block))
            self._early_count += 1
            if self._early_count > MAX_EARLY:
                self._without_request(next(iter(self._early)))
        elif block is not None and not self._sides[self._client or 0].whole:
            self._alone(frame, block)

    def _stream(self, number: int) -> Stream | None:
        """One that is open, or of which there may be more to learn."""
        return self._streams.get(number) or self._over.get(number, (0, None))[1]

    def _taken_early(self, number: int) -> list[tuple[Frame, Block | None]]:
        early = self._early.pop(number, [])
        self._early_count -= len(early)
        return early

    def _without_request(self, number: int) -> None:
        for frame, block in self._taken_early(number):
            stream = self._stream(number)
            if block is None:
                self._end_stream(number, frame.record.time_ns, 0)
            elif stream is not None:
                self._of_stream(stream, frame, block)
            else:
                self._alone(frame, block)

    def _alone(self, frame: Frame, block: Block) -> None:
        if block.answers and (block.status >= 200 or frame.ends_stream):
            self._counts["http2_answers_alone"] += 1
            self._server.missing(frame.record.time_ns)  # should its request come after all, then without it
            stream = self._rows.alone(frame, block)
            self._keep(frame.stream, stream)
            self._of_stream(stream, frame, block)

    def _of_stream(self, stream: Stream, frame: Frame, block: Block) -> None:
        """Headers of an answer, or its trailers."""
        if 100 <= block.status < 200 and not frame.ends_stream:
            return
        first = not stream.answered_ns
        if first and not (block.answers or block.unknown or stream.lost):
            self._counts["http2_blocks_malformed"] += 1
            return
        if first:
            stream.begin_answer(frame.record.time_ns)
        stream.learn(block)
        grpc = stream.kind == Kind.GRPC and (not first or block.is_grpc or block.unknown)
        ends = frame.ends_stream or bool(block.grpc)  # grpc-status is the last that is said
        if (ends or not grpc) and not stream.told:
            self._told(stream, frame.record.time_ns)
        else:
            self._rows.set(stream)
        if ends or not grpc:  # trailers may say that it is, where what said so before was not seen
            self._finish(frame.stream, frame.record.time_ns, stream if stream.flags & Flag.MIDDLE and not ends else None)

    def _finish(self, number: int, time_ns: int, stream: Stream | None = None) -> None:
        """A stream was told of. stream: there may be more to learn of it."""
        self._streams.pop(number, None)
        self._over.pop(number, None)
        if stream is not None or not self._sides[self._client or 0].whole:
            self._over[number] = time_ns, stream
            if len(self._over) > MAX_STREAMS:
                del self._over[next(iter(self._over))]

    def _told(self, stream: Stream, time_ns: int) -> None:
        stream.told = True
        self._rows.set(stream)
        self._rows.tell(stream, Event.RESPONSE, time_ns)

    def _end_stream(self, number: int, time_ns: int, flag: int) -> None:
        """It ends before its answer did: reset, refused, or with its connection."""
        stream = self._streams.get(number)
        if stream is None:
            return
        self._finish(number, time_ns)
        if stream.waits and not stream.given_up:
            self._give_up(stream, time_ns, flag)
        elif stream.answered_ns:
            stream.flags |= flag
            self._told(stream, time_ns)

    def _give_up(self, stream: Stream, time_ns: int, flag: int) -> None:
        stream.given_up = True
        if stream.lost:
            self._counts["http2_answers_unknown"] += 1
            stream.flags |= Flag.MIDDLE
            self._rows.set(stream)
            return
        stream.state = State.UNANSWERED
        stream.flags |= flag
        self._rows.set(stream)
        self._rows.tell(stream, Event.NO_RESPONSE, time_ns)
