"""HTTP/2 from hostile peers and through lossy rings: nothing wrong is said, nothing grows without bound."""

from __future__ import annotations

import tracemalloc
from typing import Any

import hpack
import numpy as np
import pytest
from http2_samples import MS, T0, Seen, Talk, frame, record, shortened
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.agent.l7.http2_frames import MAX_BLOCK
from flows.agent.l7.http2_headers import MAX_LIST, MAX_TABLE, HeaderDecoder, Memory
from flows.agent.l7.redact import Redaction
from flows.agent.probe.payload import LONG_PAYLOAD, PayloadKind
from flows.agent.store.request_columns import Flag, State

END_HEADERS = 4
PREFACE = record(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
PATHS = ("/a", "/b/c", "/pkg.Echo/Say", "/pkg.Echo/Other")
STATUS = ("200", "204", "404", "503", "418")
few = settings(max_examples=25)


def split(data: bytes, *, size: int = 1_900, first: int = 1, sent: int = 1) -> Any:
    """One frame as records of at most `size` bytes."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    kinds = [PayloadKind.HTTP2] + [PayloadKind.HTTP2_MORE] * (len(parts) - 1)
    rows = [
        record(part, kind=kind, number=first + at, length=len(data), sent=sent, time_ns=T0 + at)
        for at, (part, kind) in enumerate(zip(parts, kinds, strict=True))
    ]
    return np.concatenate(rows)


requests = st.lists(
    st.tuples(st.sampled_from(PATHS), st.sampled_from(STATUS), st.booleans(), st.sampled_from(("", "x" * 9, "y" * 300))),
    min_size=1,
    max_size=12,
)


def talked(asked: list[tuple[str, str, bool, str]], table: int) -> tuple[Talk, dict[int, tuple[str, str]]]:
    """A connection, and the truth by time of the request."""
    talk, truth = Talk(HEADER_TABLE_SIZE=table), {}
    for path, status, grpc, more in asked:
        before = len(talk.writes)
        if grpc:
            talk.call("5", path)
        else:
            talk.answer(talk.get(path, **({"x-more": more} if more else {})), (":status", status), end=bool(more))
        truth[T0 + MS * before] = (path, "200" if grpc else status)
    return talk, truth


@few
@given(requests, st.sampled_from((0, 60, 4_096, 8_192)), st.sampled_from((None, 9, 50)), st.data())
def test_lost_records_never_give_a_wrong_path_or_status(
    asked: list[Any], table: int, cut: int | None, data: st.DataObject
) -> None:
    talk, truth = talked(asked, table)
    records = talk.records(cut=cut)
    kept = np.array(data.draw(st.lists(st.sampled_from((True, True, True, False)), min_size=len(records), max_size=len(records))))
    last = [np.flatnonzero(records["sent"] == sent)[-1] for sent in (0, 1)]
    seen = Seen().take(*shortened(records[kept]))
    if not kept[last].all():
        seen.handler.lost(T0 + 10**9)  # no later record shows it, but the ring's own count does
    assert_true(seen.expire(99 * 10**9), truth)


@few
@given(requests, st.sampled_from((0, 60, 4_096)), st.integers(0, 40))
def test_joining_anywhere_never_gives_a_wrong_path_or_status(asked: list[Any], table: int, start: int) -> None:
    talk, truth = talked(asked, table)
    assert_true(Seen().take(talk.records()[start:]).expire(99 * 10**9), truth)


def assert_true(seen: Seen, truth: dict[int, tuple[str, str]]) -> None:
    for row in seen.rows():
        wall = row["time"] - seen.wall
        path, status = truth.get(wall, ("", "")) if row["time"] else ("", "")
        assert row["text"] in ("", path)
        assert row["text"] or row["flags"] & Flag.MIDDLE or not row["time"]
        if row["time"]:
            assert row["status"] in (0, int(status))
            assert row["grpc"] in (0, 6)
            assert row["state"] != State.UNANSWERED
            assert row["state"] == State.ANSWERED or row["flags"] & Flag.MIDDLE


@few
@given(requests, st.sampled_from((0, 60, 4_096)), st.sampled_from((None, 9, 17, 200)), st.randoms(use_true_random=False))
def test_nothing_is_unknown_however_frames_are_split_and_batches_ordered(
    asked: list[Any], table: int, cut: int | None, chance: Any
) -> None:
    talk, truth = talked(asked, table)
    records = talk.records(cut=cut)
    order = list(range(len(records)))
    chance.shuffle(order)
    seen = Seen().take(*np.array_split(records[order], 3)).expire()
    told = {row["time"] - seen.wall: (row["text"], str(row["status"])) for row in seen.rows()}
    assert told == truth
    assert seen.handler.counts() == {}


@few
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=60),
            st.integers(0, 9),
            st.integers(0, 1),
            st.integers(0, 60),
            st.sampled_from((3, 6)),
            st.integers(0, 2),
        ),
        max_size=20,
    )
)
def test_arbitrary_records_do_no_harm(rows: list[Any]) -> None:
    made = [record(b"", LONG_PAYLOAD)[:0], PREFACE]
    for text, number, sent, length, kind, conn_id in rows:
        made.append(
            record(text, number=number, sent=sent, length=length, kind=kind, conn_id=conn_id, captured=len(text) + length % 3)
        )
    seen = Seen().take(np.concatenate(made)).expire().end(conn_id=1).end(conn_id=2)
    assert all(event[0] < seen.store.written for event in seen.events)


@few
@given(
    st.lists(
        st.tuples(
            st.sampled_from((1, 1, 1, 3, 4, 5, 7, 9)),
            st.integers(0, 5),
            st.binary(max_size=40),
            st.integers(0, 255),
            st.integers(0, 1),
        )
    )
)
def test_arbitrary_frames_do_no_harm(frames: list[Any]) -> None:
    rows, numbers = [PREFACE], [1, 0]
    for kind, stream, payload, flags, sent in frames:
        at = 0 if sent else 1
        rows.append(record(frame(kind, stream, payload, flags), number=numbers[at], sent=sent, time_ns=len(rows)))
        numbers[at] += 1
    seen = Seen().take(np.concatenate(rows)).expire().end()
    assert not any(row["state"] == State.ASKED and not row["flags"] & Flag.MIDDLE for row in seen.rows())


def bomb() -> bytes:
    """One entry of 4,000 bytes, referred to 16,000 times: 64 MB of headers."""
    entry = hpack.Encoder().encode([(b"x", b"v" * 4_000)], huffman=False)
    return entry + b"\xbe" * 16_000


@pytest.mark.parametrize(
    ("block", "count"),
    [
        (bomb(), "http2_header_lists_too_large"),
        (b"\x20" * 30_000, ""),  # nothing but table size updates
        (b"\x3f" + b"\xff" * 30_000, "http2_blocks_malformed"),
        (b"\x82" * 30_000, "http2_header_lists_too_large"),
        (b"\x00\x00\x00" * 10_000, "http2_header_lists_too_large"),
        (b"\x00" * (1 << 20), "http2_blocks_too_large"),
        (b"\x00" * ((16 << 20) - 1), "http2_blocks_too_large"),
    ],
    ids=["references", "updates", "integer", "indexed", "empty", "1 MiB", "16 MiB"],
)
def test_header_bombs_are_counted_and_poison_one_direction_only(block: bytes, count: str) -> None:
    rows = [PREFACE, split(frame(1, 1, block, END_HEADERS))]
    number = int(rows[-1]["number"][-1]) + 1
    rows += [record(frame(1, 3, b"\x82\x84\x86", END_HEADERS), number=number, time_ns=2 * T0)]
    rows += [record(frame(1, 3, b"\x8d", END_HEADERS | 1), sent=0, time_ns=2 * T0 + 1)]
    tracemalloc.start()
    seen = Seen(16)
    batch = np.concatenate(rows)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    seen.take(batch)
    grown = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert grown < 3 * batch.nbytes + (4 << 20)
    assert seen.handler.counts() == ({count: 1} if count else {})
    assert (seen.column("text"), seen.column("status")) == (["/"], [404])


def test_a_block_of_many_continuations_is_bounded() -> None:
    rows = [PREFACE, record(frame(1, 1, b"\x82"), number=1)]
    rows += [record(frame(9, 1, b"\x00" * 1_800), number=number, time_ns=number) for number in range(2, 60)]
    seen = Seen().take(np.concatenate(rows))
    assert seen.handler.counts().keys() == {"http2_blocks_too_large", "http2_frames_malformed"}
    assert seen.handler._bytes < 2 * MAX_BLOCK


@pytest.mark.parametrize("size", [0, 1, 4_096, MAX_TABLE, MAX_TABLE + 1, 2**32 - 1])
def test_a_table_is_never_larger_than_it_may(size: int) -> None:
    decoder = HeaderDecoder(Redaction(), Memory())
    decoder.begin()
    decoder.allow(size)
    encoder = hpack.Encoder()
    encoder.header_table_size = min(size, MAX_TABLE)
    for number in range(500):
        decoder.read(encoder.encode([(f"name-{number}".encode(), b"v" * 1_000)]))
    assert decoder.table._current_size <= max(4_096, min(size, MAX_TABLE)) <= MAX_LIST


def test_many_connections_streams_and_early_answers_are_bounded() -> None:
    limit = 1 << 20
    seen = Seen(64, max_bytes=limit)
    asked = np.concatenate(
        [record(frame(1, 1 + 2 * at, b"\x82\x84\x86", END_HEADERS | 1), number=at, time_ns=T0) for at in range(1_500)]
    )
    early = np.concatenate(
        [record(frame(1, 9_001 + 2 * at, b"\x88", END_HEADERS), sent=0, number=at, time_ns=T0) for at in range(300)]
    )
    for conn_id in range(1, 9):
        asked["conn_id"] = early["conn_id"] = conn_id
        seen.take(asked, early)
    assert seen.handler._bytes <= limit
    assert seen.handler.counts().keys() == {"http2_streams_over_limit", "http2_connections_over_limit"}


def test_a_stream_number_is_not_used_twice() -> None:
    ask, answer = frame(1, 1, b"\x82\x84\x86", END_HEADERS | 1), frame(1, 1, b"\x88", END_HEADERS | 1)
    rows = [PREFACE, record(ask, number=1), record(answer, sent=0), record(ask, number=2), record(answer, sent=0, number=1)]
    for at, row in enumerate(rows):
        row["time_ns"] = T0 + at
    seen = Seen().take(np.concatenate(rows)).expire()
    assert (seen.column("state"), seen.handler.counts()) == ([State.ANSWERED], {"http2_blocks_malformed": 1})


@pytest.mark.parametrize("value", [b"a\nb", b"a\r\nb", b"a\0b"])
def test_a_header_with_a_line_end_is_not_kept(value: bytes) -> None:
    block = b"\x82\x84\x86" + hpack.Encoder().encode([(b"user-agent", value)])
    seen = Seen().take(np.concatenate([PREFACE, record(frame(1, 1, block, END_HEADERS), number=1)]))
    assert seen.column("headers") == [""]


def test_user_info_of_the_host_is_taken_out() -> None:
    block = b"\x82\x84\x86" + hpack.Encoder().encode([(b":authority", b"me:secret@web:80")])
    seen = Seen().take(np.concatenate([PREFACE, record(frame(1, 1, block, END_HEADERS), number=1)]))
    assert (seen.column("host"), seen.column("flags")) == (["web:80"], [Flag.REDACTED])
