"""HTTP/2 and gRPC: requests meet their answers, whatever came of the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from http2_samples import GRPC_ANSWER, GRPC_REQUEST, MS, T0, WALL, Seen, Talk, frame, record, shortened

from flows.agent.probe.payload import Origin
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import METHODS, Flag, Kind, State

if TYPE_CHECKING:
    from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, END_HEADERS = 1, 4


def talked(what: Callable[[Talk], Any]) -> Talk:
    talk = Talk()
    what(talk)
    return talk


def asked_and_answered(talk: Talk) -> None:
    talk.answer(
        talk.get("/users/1?token=secret", **{"user-agent": "curl", "cookie": "secret"}), (":status", "404"), ("server", "h2")
    )


@pytest.mark.parametrize("client_end", [True, False])
def test_a_request_and_its_answer(client_end: bool) -> None:
    (row,) = Seen().take(talked(asked_and_answered).records(client_end=client_end)).rows()
    assert (row["kind"], row["state"], row["version"], METHODS[row["method"]]) == (Kind.HTTP2, State.ANSWERED, 20, "GET")
    assert (row["text"], row["host"], row["status"], row["grpc"]) == ("/users/1", "web", 404, 0)
    assert (row["headers"], row["flags"]) == ("user-agent: curl\nserver: h2\n", Flag.REDACTED)
    assert (row["time"] - WALL - T0, row["answered"] - row["time"], row["response_bytes"]) == (4 * MS, MS, -1)
    assert (row["client"], row["conn_id"], row["comm"], row["pid"]) == (client_end, 7, b"curl", 12)


def test_events_are_the_request_and_the_answer_at_their_times() -> None:
    assert Seen().take(talked(asked_and_answered).records()).events == [(0, Event.REQUEST, 4 * MS), (0, Event.RESPONSE, 5 * MS)]


@pytest.mark.parametrize(("status", "column"), [("0", 1), ("5", 6), ("16", 17), ("", 0), ("x", 0), ("-1", 0), ("999", 0)])
def test_a_grpc_call_has_the_status_of_its_trailers(status: str, column: int) -> None:
    (row,) = Seen().take(talked(lambda talk: talk.call(status)).records()).rows()
    assert (row["kind"], row["text"], row["host"]) == (Kind.GRPC, "/pkg.Echo/Say", "echo:50051")
    assert (row["state"], row["status"], row["grpc"]) == (State.ANSWERED, 200, column)


def test_a_grpc_answer_is_told_with_its_trailers_and_timed_by_its_first_headers() -> None:
    seen = Seen().take(talked(Talk.call).records())
    assert seen.events == [(0, Event.REQUEST, 4 * MS), (0, Event.RESPONSE, 8 * MS)]
    assert seen.column("answered") == [T0 + WALL + 6 * MS]


def test_a_grpc_answer_of_trailers_only() -> None:
    headers = (*GRPC_ANSWER, ("grpc-status", "12"))
    seen = Seen().take(talked(lambda talk: talk.answer(talk.ask(*GRPC_REQUEST), *headers, end=True)).records())
    assert [event for _, event, _ in seen.events] == [Event.REQUEST, Event.RESPONSE]
    assert (seen.column("status"), seen.column("grpc")) == ([200], [13])


def test_a_proxy_that_answers_a_grpc_call_with_html_ends_it() -> None:
    answer = ((":status", "502"), ("content-type", "text/html"))
    seen = Seen().take(talked(lambda talk: talk.answer(talk.ask(*GRPC_REQUEST), *answer)).records())
    assert [event for _, event, _ in seen.events] == [Event.REQUEST, Event.RESPONSE]
    assert (seen.column("kind"), seen.column("status"), seen.column("grpc")) == ([Kind.GRPC], [502], [0])


def streams_in_any_order(talk: Talk) -> None:
    streams = [talk.get(f"/{number}") for number in range(9)]
    for stream in reversed(streams):
        talk.answer(stream, (":status", str(400 + stream)), end=True)


def early_hints(talk: Talk) -> None:
    stream = talk.get("/")
    talk.answer(stream, (":status", "103"))
    talk.answer(stream, (":status", "200"), end=True)


def large_headers(talk: Talk) -> None:
    talk.client.max_outbound_frame_size = 16_384
    talk.answer(talk.get("/large", **{f"x-{number}": "v" * 700 for number in range(30)}), (":status", "204"), end=True)


def trailers_of_http(talk: Talk) -> None:
    stream = talk.get("/")
    talk.answer(stream, (":status", "200"))
    talk.answer(stream, ("x-sum", "1"), end=True)


def with_priority(talk: Talk) -> None:
    stream = talk.client.get_next_available_stream_id()
    headers = [(":method", "GET"), (":path", "/p"), (":scheme", "http"), (":authority", "h")]
    talk.client.send_headers(stream, headers, end_stream=True, priority_weight=7, priority_depends_on=0, priority_exclusive=True)
    talk.flush()
    talk.answer(stream, (":status", "200"), end=True)


def pushed(talk: Talk) -> None:
    stream = talk.get("/page")
    talk.server.push_stream(
        stream, 2, [(":method", "GET"), (":path", "/style"), (":scheme", "http"), (":authority", "web"), ("x-new", "1")]
    )
    talk.flush()
    talk.answer(2, (":status", "201"), ("x-style", "2"), end=True)
    talk.answer(stream, (":status", "202"), ("x-new", "1"), end=True)


@pytest.mark.parametrize(
    ("what", "paths", "status"),
    [
        (streams_in_any_order, [f"/{number}" for number in range(9)], [401 + 2 * number for number in range(9)]),
        (early_hints, ["/"], [200]),
        (large_headers, ["/large"], [204]),
        (trailers_of_http, ["/"], [200]),
        (with_priority, ["/p"], [200]),
        (pushed, ["/page"], [202]),
    ],
)
@pytest.mark.parametrize("cut", [None, 30, 9])
def test_answers_go_to_the_requests_of_their_streams(
    what: Callable[[Talk], None], paths: list[str], status: list[int], cut: int
) -> None:
    seen = Seen().take(talked(what).records(cut=cut))
    assert (seen.column("text"), seen.column("status")) == (paths, status)
    assert [event for _, event, _ in seen.events].count(Event.RESPONSE) == len(paths)
    assert seen.handler.counts().keys() <= {"http2_push_promises", "http2_pushed_answers"}


@pytest.mark.parametrize("what", [streams_in_any_order, large_headers, Talk.call])
def test_two_rings_read_one_after_the_other_in_whatever_order(what: Callable[[Talk], None]) -> None:
    rings = shortened(talked(what).records())
    one = Seen().take(talked(what).records()).rows()
    for order in (rings, rings[::-1]):
        seen = Seen().take(*order)
        assert sorted(seen.rows(), key=lambda row: row["time"]) == one
        assert seen.handler.counts() == {}


def test_records_of_a_batch_come_in_any_order() -> None:
    records = talked(streams_in_any_order).records()
    shuffled = np.random.default_rng(1).permutation(records)
    assert Seen().take(shuffled).rows() == Seen().take(records).rows()


def test_a_batch_larger_than_the_store_keeps_the_newest() -> None:
    seen = Seen(capacity=4).take(talked(streams_in_any_order).records())
    assert (seen.store.written, seen.column("text"), seen.column("status")) == (9, ["/5", "/6", "/7", "/8"], [411, 413, 415, 417])


def test_connections_and_plaintext_of_openssl_are_kept_apart() -> None:
    talk = talked(asked_and_answered)
    plain, other = talk.records(), talk.records(conn_id=8)
    tls = talk.records()
    tls["origin"] = Origin.OPENSSL
    seen = Seen().take(np.concatenate([plain, other, tls]))
    assert (seen.column("status"), sorted(seen.column("origin"))) == ([404] * 3, [0, 0, 1])


def unanswered(talk: Talk) -> None:
    talk.get("/slow")


@pytest.mark.parametrize(
    ("after_s", "state", "events"),
    [(60, State.ASKED, [Event.REQUEST]), (61, State.UNANSWERED, [Event.REQUEST, Event.NO_RESPONSE])],
)
def test_what_is_not_answered_in_time(after_s: int, state: State, events: list[Event]) -> None:
    seen = Seen().take(talked(unanswered).records()).expire(after_s * 10**9)
    assert (seen.column("state"), [event for _, event, _ in seen.events]) == ([state], events)
    assert len(seen.expire((after_s + 5) * 10**9).events) >= len(events)


def test_a_late_answer_is_an_answer() -> None:
    talk = Talk()
    stream = talk.get("/slow")
    asked = talk.records()
    talk.answer(stream, (":status", "200"), end=True)
    seen = Seen(timeout_ns=10).take(asked).expire().take(talk.records()[len(asked) :])
    assert (seen.column("state"), seen.column("flags")) == ([State.ANSWERED], [Flag.LATE])
    assert [event for _, event, _ in seen.events] == [Event.REQUEST, Event.NO_RESPONSE, Event.RESPONSE]


def test_a_connection_that_ends() -> None:
    seen = Seen().take(talked(unanswered).records()).end()
    assert (seen.column("state"), seen.column("flags")) == ([State.UNANSWERED], [Flag.CONNECTION_END])
    assert seen.events[1] == (0, Event.NO_RESPONSE, 6 * 10**9)


def test_a_stream_of_answers_is_told_when_its_connection_ends() -> None:
    seen = Seen().take(talked(lambda talk: talk.answer(talk.ask(*GRPC_REQUEST), *GRPC_ANSWER)).records()).expire(99 * 10**9)
    assert (seen.column("state"), len(seen.events)) == ([State.ANSWERED], 1)
    seen.end()
    assert (seen.column("grpc"), seen.column("flags"), seen.events[1][1]) == ([0], [Flag.CONNECTION_END], Event.RESPONSE)


@pytest.mark.parametrize("by_client", [True, False])
def test_a_reset_stream_has_no_answer_and_no_invented_status(by_client: bool) -> None:
    def reset(talk: Talk) -> None:
        stream = talk.ask(*GRPC_REQUEST)
        (talk.client if by_client else talk.server).reset_stream(stream, 8)
        talk.flush()

    seen = Seen().take(talked(reset).records())
    assert (seen.column("state"), seen.column("grpc")) == ([State.UNANSWERED], [0])
    assert [event for _, event, _ in seen.events] == [Event.REQUEST, Event.NO_RESPONSE]


def test_goaway_refuses_the_streams_above_its_last() -> None:
    def leave(talk: Talk) -> None:
        talk.get("/kept"), talk.get("/refused")
        talk.server.close_connection(last_stream_id=1)
        talk.flush()

    assert Seen().take(talked(leave).records()).column("state") == [State.ASKED, State.UNANSWERED]


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


@pytest.mark.parametrize(("origin", "told"), [(Origin.OPENSSL, False), (Origin.PACKET, True)])
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
