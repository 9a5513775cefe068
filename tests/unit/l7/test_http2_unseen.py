"""HTTP/2 that was seen only in part or makes no sense: it is counted, and what cannot be known is not invented."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from http2_samples import T0, Seen, Sent, Talk, frame, record, talked

from flows.agent.l7.http2_connection import MAX_STREAMS
from flows.agent.probe.payload import Origin
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import METHODS, Flag, Kind, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_HEADERS = 4


def test_joined_in_the_middle_it_says_what_it_cannot_know() -> None:
    talk = Talk()
    talk.call(), talk.call()
    records = talk.records()
    before = len(talked(Talk.call).records())
    seen = Seen().take(records[before:]).expire()
    (row,) = seen.rows()
    assert (row["text"], row["host"], METHODS[row["method"]], row["status"]) == ("", "", "POST", 200)
    assert row["flags"] == Flag.MIDDLE | Flag.HOST_UNKNOWN
    assert seen.handler.counts() == {"http2_beginnings_unseen": 2}


def test_joined_in_the_middle_what_is_said_anew_is_known() -> None:
    talk = Talk()
    talk.call()
    before = len(talk.records())
    for _ in range(2):
        talk.call("3", "/pkg.Echo/New")
    seen = Seen().take(talk.records()[before:]).expire()
    assert seen.column("text") == ["/pkg.Echo/New"] * 2  # added to the table by the first, used by the second
    assert seen.column("grpc") == [0, 0]  # the name of this header is in the part of the table that is not known


def test_joined_in_the_middle_streams_do_not_pile_up() -> None:
    talk = Talk()
    talk.answer(talk.get("/"), (":status", "200"), ("x-a", "1"))
    before = len(talk.records())
    for _ in range(5):
        talk.answer(talk.get("/"), (":status", "200"), ("x-a", "1"))
    seen = Seen().take(talk.records()[before:]).expire()
    assert (seen.column("kind"), seen.column("status")) == ([Kind.HTTP2] * 5, [200] * 5)
    assert sum(connection.open_streams for connection in seen.expire(99 * 10**9).handler._connections.values()) == 0


def test_an_answer_whose_request_was_not_seen_stands_alone() -> None:
    talk = Talk()
    stream = talk.get("/before")
    before = len(talk.records())
    talk.answer(stream, (":status", "404"))
    seen = Seen().take(talk.records(client_end=False)[before:])
    assert seen.rows() == []
    (row,) = seen.expire().rows()
    assert (row["state"], row["time"], row["status"], row["client"]) == (State.ALONE, 0, 404, 0)
    assert [event for _, event, _ in seen.events] == [Event.RESPONSE]


def joined_after(talk: Talk, writes: int) -> NDArray[np.void]:
    """Records of a connection whose first writes were not seen."""
    talk.writes = talk.writes[writes:]
    records = talk.records()
    records["number"] += 1
    return records


def test_joined_in_the_middle_those_that_were_answered_do_not_push_out_those_that_wait() -> None:
    talk, known = Talk(), {"x-a": "b"}
    talk.answer(talk.get("/0", **known), (":status", "200"), ("server", "n"), end=True)
    before = len(talk.writes)
    slow = talk.get("/slow", **known)
    for _ in range(MAX_STREAMS + 9):
        stream = talk.get("/f", **known)
        talk.answer(stream, (":status", "200"), ("server", "n"))
        talk.body(stream, b"x", end=True)
    talk.answer(slow, (":status", "204"), ("server", "n"), end=True)
    records = joined_after(talk, before)
    seen = Seen().take(records[:3]).expire(2 * 10**9).take(records[3:])
    assert [row["status"] for row in seen.rows() if row["text"] == "/slow"] == [204]
    assert seen.handler.counts().keys() <= {"http2_beginnings_unseen"}


def test_joined_in_the_middle_an_answer_to_what_the_client_gave_up_is_not_another_request() -> None:
    talk = Talk()
    talk.answer(talk.get("/0"), (":status", "200"), end=True)
    before = len(talk.writes)
    stream = talk.get("/slow")
    talk.client.reset_stream(stream, error_code=8)
    talk.writes.append(Sent(True, T0 + 10**8, talk.client.data_to_send()))
    talk.server.send_headers(stream, ((":status", "200"),))
    talk.writes.append(Sent(False, T0 + 2 * 10**8, talk.server.data_to_send()))
    seen = Seen()
    for row in joined_after(talk, before):
        seen.take(row.reshape(1)).expire(2 * 10**9)
    assert [event for _, event, _ in seen.events] == [Event.REQUEST, Event.NO_RESPONSE]
    assert seen.column("state") == [State.UNANSWERED]
    assert seen.handler.counts()["http2_answers_after_end"] == 1


def test_after_an_upgrade_from_http1_the_first_answer_stands_alone() -> None:
    answer = b"\x88"  # :status 200
    records = [record(PREFACE), record(frame(1, 1, answer, END_HEADERS), sent=0, time_ns=T0)]
    seen = Seen().take(np.concatenate(records)).expire()
    assert (seen.column("state"), seen.column("status")) == ([State.ALONE], [200])


def test_lost_records_are_counted_and_what_they_hid_is_unknown() -> None:
    talk = Talk()
    talk.call(), talk.call(), talk.call()
    records = talk.records()
    lost = int(np.flatnonzero((records["sent"] == 1) & (records["text"][:, 3] == 1))[0])
    seen = Seen().take(np.delete(records, lost)).expire()
    assert seen.handler.counts() == {"http2_records_lost": 1, "http2_answers_alone": 1}
    assert sorted(seen.column("text")) == ["", "", ""]
    assert sorted(seen.column("state")) == [State.ANSWERED, State.ANSWERED, State.ALONE]


def test_no_answer_is_not_called_unanswered_when_records_were_lost() -> None:
    talk = Talk()
    stream = talk.get("/x")
    talk.answer(stream, (":status", "200"), end=True)
    asked = len(talk.records())
    talk.answer(talk.get("/y"), (":status", "200"), end=True)
    records = np.delete(talk.records(), asked - 1)
    seen = Seen().take(records).expire(99 * 10**9)
    assert (seen.column("state"), seen.column("flags")) == ([State.ASKED, State.ANSWERED], [Flag.MIDDLE, 0])
    assert Event.NO_RESPONSE not in [event for _, event, _ in seen.events]
    assert seen.handler.counts() == {"http2_records_lost": 1, "http2_answers_unknown": 1}


@pytest.mark.parametrize(("origin", "told"), [(Origin.TLS_LIBRARY, False), (Origin.PACKET, True)])
def test_after_a_pause_of_plaintext_only_packets_are_known_to_have_had_no_answer(origin: Origin, told: bool) -> None:
    records = talked(lambda talk: talk.get("/x")).records()
    records["origin"] = origin
    seen = Seen().take(records)
    seen.handler.lost(T0 + 10**9, plaintext_only=True)
    seen.expire(99 * 10**9)
    assert (Event.NO_RESPONSE in [event for _, event, _ in seen.events]) is told


def test_a_frame_without_its_rest_makes_only_its_direction_unknown() -> None:
    talk = Talk()
    first = talk.get("/first", **{"x-first": "a" * 50})
    second = talk.get("/second", **{"x-first": "a" * 50})
    talk.answer(first, (":status", "200"), ("x-a", "1"), end=True)
    talk.answer(second, (":status", "500"), ("x-a", "1"), end=True)
    records = talk.records()
    cut = int(np.flatnonzero((records["sent"] == 1) & (records["text"][:, 3] == 1))[0])
    records["captured"][cut] = 30
    seen = Seen().take(records).expire()
    assert seen.column("status") == [500, 200]
    assert seen.handler.counts() == {"http2_frames_cut": 1, "http2_answers_alone": 1}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (frame(1, 1, b"\xff" * 8, END_HEADERS), "http2_blocks_malformed"),  # an index of more than 32 bits
        (frame(1, 1, b"\x80", END_HEADERS), "http2_blocks_malformed"),  # index 0
        (frame(1, 1, b"\xbe", END_HEADERS), "http2_blocks_malformed"),  # an entry that a whole table does not have
        (frame(1, 1, b"\x40\x7f", END_HEADERS), "http2_blocks_malformed"),
        (frame(1, 1, b"\x82\x84\x00\x82\xff\xff\x00", END_HEADERS), "http2_blocks_malformed"),  # Huffman padding
        (frame(1, 1, b"\x09", END_HEADERS | 8), "http2_frames_malformed"),  # more padding than payload
        (frame(1, 1, b"", END_HEADERS | 32), "http2_frames_malformed"),
        (frame(1, 2, b"\x82\x84", END_HEADERS), "http2_blocks_malformed"),  # a client's streams are odd
        (frame(1, 0, b"\x82\x84", END_HEADERS), "http2_blocks_malformed"),
        (frame(1, 1, b"\x88", END_HEADERS), "http2_blocks_malformed"),  # a client does not answer
        (frame(9, 1, b"\x82", END_HEADERS), "http2_frames_malformed"),
        (frame(1, 1, b"\x82", 0) + b"x", "http2_frames_malformed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2_frames_malformed"),
        (b"short", "http2_frames_malformed"),
    ],
)
def test_malformed_bytes_are_counted_and_make_no_request(text: bytes, count: str) -> None:
    seen = Seen().take(np.concatenate([record(PREFACE), record(text, number=1)]))
    assert (seen.rows(), seen.handler.counts()) == ([], {count: 1})


def test_records_without_a_connection_are_counted() -> None:
    assert Seen().take(record(PREFACE, conn_id=0)).handler.counts() == {"http2_records_without_connection": 1}
