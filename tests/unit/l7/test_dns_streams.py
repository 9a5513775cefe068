"""DNS over TCP: the same messages come out however a stream is cut into packets, and what is lost is counted."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dns_samples import MS, SECOND, TCP, T, answer, batch, payload, query
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.agent.l7 import dns_streams
from flows.agent.l7.dns import Dns
from flows.agent.l7.dns_streams import GAP_NS, SETTLE_NS, Streams
from flows.agent.probe.payload import LONG_TEXT
from flows.agent.store.request_columns import Flag, State
from flows.agent.store.requests import RequestStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NAME = "web.shop."
QUERY = query(NAME, number=21)
START = (1 << 32) - 20  # sequence numbers wrap around early


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def packets(stream: bytes, cuts: Sequence[int] = (), *, captured: int = LONG_TEXT, **columns: Any) -> list[NDArray[np.void]]:
    """The stream as packets that end at the cuts."""
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
    made = []
    for turn, (start, end) in enumerate(pairwise(bounds)):
        part = stream[start:end]
        rest = {"at": T + turn * 1_000, "protocol": TCP, "sequence": (START + start) % (1 << 32), "sent": True} | columns
        made.append(payload(part, long=True, **rest))
        made[-1]["captured"][0] = min(len(part), captured)
    return made


def through(parts: list[NDArray[np.void]], streams: Streams | None = None) -> tuple[list[tuple[bytes, int]], dict[str, int]]:
    """Text and length of the messages that came out, and what was counted."""
    streams = streams or Streams()
    whole = [streams.take(batch(*parts)), streams.expire(T + SETTLE_NS + 2_000_000), streams.expire(T + 2 * GAP_NS)]
    records = np.concatenate([*whole, streams.end(np.array([11], np.uint64))])
    messages = [(record["text"][: record["captured"]].tobytes(), int(record["length"])) for record in records]
    return messages, {name.removeprefix("dns_tcp_"): count for name, count in streams.counts().items() if count}


MANY = [query(f"a{turn}.{'x' * turn}.", number=turn) for turn in range(1, 7)]
HUGE = (MANY[0] + bytes(65_535))[:65_535]


@settings(max_examples=100)
@given(st.lists(st.integers(1, len(framed(*MANY))), max_size=40), st.randoms())
def test_any_split_in_any_order_gives_the_same_messages(cuts: list[int], random: Any) -> None:
    parts = packets(framed(*MANY), cuts)
    random.shuffle(parts)
    assert through(parts) == ([(message, len(message)) for message in MANY], {})


@given(st.lists(st.integers(100, 66_000), min_size=40, max_size=60))
@settings(max_examples=25)
def test_the_longest_messages_are_skipped_over(cuts: list[int]) -> None:
    parts = packets(framed(HUGE, MANY[1]), [*range(1_800, 66_000, 1_800), *cuts])
    streams = Streams()
    streams.take(parts[0])
    whole = [streams.expire(T + SECOND), *(streams.take(part) for part in parts[1:])]
    records = np.concatenate([*whole, streams.end(np.array([11], np.uint64))])
    assert [int(record["length"]) for record in records] == [65_535, len(MANY[1])]
    assert records[0]["text"].tobytes() == HUGE[:LONG_TEXT]
    assert not any(streams.counts().values())


def test_a_message_that_was_captured_in_part_is_known_in_part() -> None:
    parts = packets(framed(HUGE, MANY[1]), [65_537])
    assert through(parts) == ([(HUGE[: LONG_TEXT - 2], 65_535), (MANY[1], len(MANY[1]))], {})


def test_where_the_next_message_begins_in_what_was_not_captured_is_not_known() -> None:
    stream = framed(HUGE, *MANY[:2])
    messages, counts = through(packets(stream))
    assert messages[0] == (HUGE[: LONG_TEXT - 2], 65_535)
    assert len(messages) == 1
    assert counts == {"unseen_bytes": len(stream) - LONG_TEXT}


def test_overlaps_and_retransmissions_are_ignored() -> None:
    stream = framed(*MANY)
    once = packets(stream, [10, 40, 90])
    again = packets(stream, [25, 70])
    messages, counts = through([once[0], again[0], once[1], once[1], again[1], *once[2:], again[2]])
    assert messages == [(message, len(message)) for message in MANY]
    assert set(counts) == {"repeated"}


def test_joined_in_the_middle_the_next_beginning_is_found() -> None:
    stream = framed(*MANY)
    third = len(framed(*MANY[:2]))
    messages, counts = through(packets(stream, [5, third])[1:])
    assert messages == [(message, len(message)) for message in MANY[2:]]
    assert counts == {"out_of_step": 1}


def test_a_lost_packet_costs_the_message_that_it_was_of() -> None:
    stream = framed(*MANY)
    fourth = len(framed(*MANY[:3]))
    parts = packets(stream, [len(framed(*MANY[:2])) + 8, fourth - 6, fourth])
    messages, counts = through([parts[0], *parts[2:]])
    assert [message for message, _ in messages] == [*MANY[:2], MANY[2][:6], *MANY[3:]]
    assert counts == {"gap": 1, "out_of_step": 1}


def test_a_message_that_never_ends_is_counted() -> None:
    assert through(packets(framed(MANY[0])[:-1])) == ([], {"incomplete": 1})


@pytest.mark.parametrize("garbage", [b"\0" * 40, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0\5abcdefghijklmnopqrst", b"\xff" * 40])
def test_garbage_is_counted(garbage: bytes) -> None:
    assert through(packets(garbage)) == ([], {"out_of_step": 1})


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams()
    for conn_id in range(dns_streams.DIRECTIONS + 10):
        streams.take(batch(*packets(b"\0", conn_id=conn_id)))
    assert streams.counts()["dns_tcp_overflow"] == 10
    monkeypatch.setattr(dns_streams, "BYTES", 1_000)
    streams = Streams()
    for conn_id in range(20):
        streams.take(batch(*packets(bytes(100), conn_id=conn_id)))
    assert streams.counts()["dns_tcp_overflow"] == 10
    streams = Streams()
    streams.take(batch(*packets(bytes(dns_streams.PACKETS + 5), range(100))))
    assert streams.counts()["dns_tcp_overflow"] == 5


def test_quiet_directions_are_forgotten() -> None:
    streams = Streams()
    streams.take(batch(*packets(framed(QUERY)[:9])))
    streams.expire(T + SECOND)
    streams.expire(T + 200 * SECOND)
    assert streams.counts()["dns_tcp_out_of_step"] == 1
    assert streams.end(np.array([11], np.uint64)).size == 0


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.integers(0, 200), st.booleans()), max_size=12))
def test_arbitrary_packets_never_raise(items: list[tuple[bytes, int, bool]]) -> None:
    parts = [payload(data, protocol=TCP, sequence=at, sent=sent, at=T, long=True) for data, at, sent in items]
    streams = Streams()
    for part in parts:
        streams.take(part)
    streams.expire(T + SECOND)
    streams.end(np.array([11], np.uint64))
    assert streams.expire(T + 999 * SECOND).size == 0


def test_query_and_answer_over_tcp_are_one_request_with_the_packet_s_times() -> None:
    store = RequestStore(8)
    station = Dns(store)
    message = answer(QUERY, *[(NAME, 30, "A", f"10.1.{turn}.1") for turn in range(200)])
    asked, answered = packets(framed(QUERY), [2], at=T), packets(framed(message), [1, 700, 2_000], sent=False, at=T + 4 * MS)
    station.take(batch(*answered, *asked), 0)
    events = station.expire(T + SECOND, 0)
    assert events.time_ns.tolist() == [T, T + 4 * MS]
    row = {name: column[0] for name, column in store.take(np.array([0])).items()}
    assert (row["time"], row["answered"], row["protocol"], row["response_bytes"]) == (T, T + 4 * MS, TCP, len(message))
    assert (row["state"], row["flags"]) == (State.ANSWERED, Flag.ANSWER_CUT)


def test_when_the_connection_ends_a_query_is_not_answered() -> None:
    store = RequestStore(8)
    station = Dns(store)
    station.take(batch(*packets(framed(QUERY), at=T)), 0)
    events = station.ended(np.array([3, 11], np.uint64), np.array([T, T + 9 * MS], np.uint64), 0)
    assert events.time_ns.tolist() == [T, T + 9 * MS]
    row = {name: column[0] for name, column in store.take(np.array([0])).items()}
    assert (row["state"], row["flags"]) == (State.UNANSWERED, Flag.CONNECTION_END)
