"""HTTP/2 and gRPC requests without a whole answer: late ones, ends of connections and streams that are refused."""

from __future__ import annotations

import pytest
from http2_samples import GRPC_ANSWER, GRPC_REQUEST, Seen, Talk, talked

from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag, State


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
