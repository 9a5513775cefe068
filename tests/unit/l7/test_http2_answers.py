"""HTTP/2 and gRPC: answers meet the requests of their streams, in whatever order and pieces their bytes come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from http2_samples import GRPC_ANSWER, GRPC_REQUEST, MS, T0, WALL, Seen, Talk, shortened, talked

from flows.agent.probe.payload import Origin
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import METHODS, Flag, Kind, State

if TYPE_CHECKING:
    from collections.abc import Callable


def asked_and_answered(talk: Talk) -> None:
    talk.answer(
        talk.get("/users/1?token=secret", **{"user-agent": "curl", "cookie": "secret"}), (":status", "404"), ("server", "h2")
    )


@pytest.mark.parametrize("client_end", [True, False])
def test_a_request_and_its_answer(client_end: bool) -> None:
    (row,) = Seen().take(talked(asked_and_answered).records(client_end=client_end)).rows()
    assert (row["kind"], row["state"], row["version"], METHODS[row["method"]]) == (Kind.HTTP2, State.ANSWERED, 20, "GET")
    assert (row["text"], row["host"], row["status"], row["grpc"]) == ("/users/1", "web", 404, 0)
    assert (row["headers"], row["flags"]) == ("user-agent: curl\n\nserver: h2\n", Flag.REDACTED)
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


@pytest.mark.parametrize(
    ("headers", "end", "status", "grpc"),
    [
        pytest.param((*GRPC_ANSWER, ("grpc-status", "12")), True, 200, 13, id="trailers only"),
        pytest.param(((":status", "502"), ("content-type", "text/html")), False, 502, 0, id="html of a proxy"),
    ],
)
def test_a_grpc_answer_that_ends_with_its_first_headers(
    headers: tuple[tuple[str, str], ...], end: bool, status: int, grpc: int
) -> None:
    seen = Seen().take(talked(lambda talk: talk.answer(talk.ask(*GRPC_REQUEST), *headers, end=end)).records())
    assert [event for _, event, _ in seen.events] == [Event.REQUEST, Event.RESPONSE]
    assert (seen.column("kind"), seen.column("status"), seen.column("grpc")) == ([Kind.GRPC], [status], [grpc])


@pytest.mark.parametrize("kind", ["application/grpc-web+proto", "application/grpc-web-text"])
def test_grpc_web_has_its_trailers_in_its_body_so_it_is_told_as_http(kind: str) -> None:
    def call(talk: Talk) -> None:
        content = ("content-type", kind)
        head = ((":method", "POST"), (":scheme", "http"), (":path", "/p.E/S"), (":authority", "w"), content)
        stream = talk.ask(*head, end=False)
        talk.body(stream, b"x", end=True, client=True)
        talk.answer(stream, (":status", "200"), content)
        talk.body(stream, b"y", end=True)

    seen = Seen().take(talked(call).records())
    assert [event for _, event, _ in seen.events] == [Event.REQUEST, Event.RESPONSE]
    assert (seen.column("kind"), seen.column("status")) == ([Kind.HTTP2], [200])


def test_a_grpc_status_in_the_first_headers_is_the_end_though_a_body_follows() -> None:
    def call(talk: Talk) -> None:
        stream = talk.ask(*GRPC_REQUEST)
        talk.answer(stream, *GRPC_ANSWER, ("grpc-status", "7"))
        talk.body(stream, b"", end=True)

    seen = Seen().take(talked(call).records())
    assert [event for _, event, _ in seen.events] == [Event.REQUEST, Event.RESPONSE]
    assert seen.column("grpc") == [8]
    assert sum(connection.open_streams for connection in seen.handler._connections.values()) == 0


def test_headers_that_do_not_fit_are_left_out_whole() -> None:
    def ask(talk: Talk) -> None:
        stream = talk.get("/x", **{"user-agent": "u" * 70})
        talk.answer(stream, (":status", "200"), ("server", "envoy-internal-gateway-01"), end=True)

    assert Seen().take(talked(ask).records()).column("headers") == ["user-agent: " + "u" * 70 + "\n"]


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
    tls["origin"] = Origin.TLS_LIBRARY
    seen = Seen().take(np.concatenate([plain, other, tls]))
    assert (seen.column("status"), sorted(seen.column("origin"))) == ([404] * 3, [0, 0, 1])
