"""HTTP/1: requests that wait for an answer: when they are told unanswered, and when an answer may only not have been seen."""

from __future__ import annotations

import pytest
from http1_samples import MS, T0, Station, Stream

from flows.agent.probe.lanes import left_out
from flows.agent.probe.payload import Origin
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag, State


def test_an_unanswered_request_and_a_late_answer() -> None:
    stream, station = Stream(), Station(timeout_ns=10 * MS)
    station.take(stream.ask()).expire(T0 + 11 * MS)
    assert station.row()["state"] == State.ASKED
    station.expire(T0 + 12 * MS).expire(T0 + 13 * MS)
    assert station.row()["state"] == State.UNANSWERED
    station.take(stream.answer())
    assert station.row()["state"] == State.ANSWERED
    assert station.row()["flags"] & Flag.LATE
    assert [event for _, event, _ in station.events] == [Event.REQUEST, Event.NO_RESPONSE, Event.RESPONSE]
    assert station.events[1] == (0, Event.NO_RESPONSE, T0 + 12 * MS)


def test_an_answer_that_was_lost_is_not_called_missing() -> None:
    stream, station = Stream(), Station(timeout_ns=10 * MS)
    station.take(stream.ask())
    stream.answer()
    station.take(stream.ask(), stream.answer()).expire(T0 + 100 * MS)
    assert [row["state"] for row in station.rows()] == [State.ASKED, State.ANSWERED]
    assert station.http.counts() == {"http: answer not seen": 1}


def test_an_answer_is_not_waited_for_for_ever() -> None:
    stream, station = Stream(), Station(timeout_ns=10 * MS)
    station.take(stream.ask()).expire(T0 + 20 * MS).expire(T0 + 200 * MS)
    station.take(stream.answer()).settle()
    assert station.row()["state"] == State.UNANSWERED


def test_the_end_of_a_connection_ends_its_requests() -> None:
    one, other, station = Stream(1), Stream(2), Station()
    station.take(one.ask(), other.ask()).end(1, T0 + 5 * MS)
    assert [row["state"] for row in station.rows()] == [State.UNANSWERED, State.ASKED]
    assert station.row()["flags"] & Flag.CONNECTION_END
    assert station.events[-1] == (0, Event.NO_RESPONSE, T0 + 5 * MS)
    assert station.end(1, T0 + 6 * MS).end(3, T0).events[-1] == (0, Event.NO_RESPONSE, T0 + 5 * MS)


def test_what_waits_is_bounded() -> None:
    streams, station = [Stream(conn_id) for conn_id in range(1, 11)], Station(most_waiting=4)
    station.take(*(stream.ask(time_ns=T0 + stream.conn_id) for stream in streams))
    station.take(*(stream.answer() for stream in streams)).settle()
    assert [row["state"] for row in station.rows()] == [State.ASKED] * 6 + [State.ANSWERED] * 4
    assert station.http.counts() == {"http: too many waiting": 6, "http: answer without its request": 6}


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ([(T0 - MS, 0.0)], False),  # taken in the very moment
        ([(T0 + 2 * MS, 0.0)], False),  # taken before
        ([(T0 - MS, 0.0), (T0 + 2 * MS, 1.0)], False),  # the answer may have come before all were taken again
        ([(T0 - 2 * MS, 0.0), (T0 - MS, 1.0)], True),
        ([(T0 + MS, 1.0)], True),
    ],
)
def test_what_was_not_looked_for_is_not_told_unanswered(shares: list[tuple[int, float]], told: bool) -> None:
    ends, times_out = Station(), Station(timeout_ns=10 * MS)
    for station in (ends, times_out):
        station.take(Stream().ask(time_ns=T0))
        for time_ns, share in shares:
            station.http.sampling.begin(left_out(share), time_ns)
    for station, events in ((ends, ends.end(1, T0 + 5 * MS).events), (times_out, times_out.expire(T0 + 12 * MS).events)):
        assert [event for _, event, _ in events] == [Event.REQUEST] + [Event.NO_RESPONSE] * told
        assert station.http.counts() == ({} if told else {"http: answer not seen": 1})


@pytest.mark.parametrize(("share", "told"), [(1.0, True), (0.999_999, False)])
def test_of_plaintext_any_answer_may_have_been_left_out_while_there_was_a_sample(share: float, told: bool) -> None:
    station = Station().take(Stream(origin=Origin.TLS_LIBRARY).ask(time_ns=T0))
    station.http.sampling.begin(left_out(share), T0 + 1)
    assert [event for _, event, _ in station.end(1, T0 + MS).events] == [Event.REQUEST] + [Event.NO_RESPONSE] * told


def test_a_sample_is_of_those_whose_answers_leave() -> None:
    """Of many that wait, those of the share that is left are told."""
    streams, station = [Stream(number, start=1_000 * number) for number in range(1, 401)], Station()
    station.take(*(stream.ask(time_ns=T0) for stream in streams))
    station.http.sampling.begin(left_out(0.25), T0 + 1)
    for stream in streams:
        station.end(stream.conn_id, T0 + MS)
    told = sum(event == Event.NO_RESPONSE for _, event, _ in station.events)
    assert 60 <= told <= 140
    assert station.http.counts() == {"http: answer not seen": 400 - told}


def test_an_answer_is_never_of_a_request_from_before_a_pause() -> None:
    """What passed in between was not counted, so that the numbers go on as if nothing had."""
    stream = Stream(origin=Origin.TLS_LIBRARY)
    station = Station().take(stream.ask(slice=3))
    station.http.paused(Origin.TLS_LIBRARY)
    station.take(stream.answer(slice=4)).settle()
    assert [row["state"] for row in station.rows()] == [State.ASKED, State.ALONE]
    assert station.http.counts() == {"http: answer not seen": 1}


def test_slices_are_told_apart_without_a_word_of_the_pause() -> None:
    stream = Stream(origin=Origin.TLS_LIBRARY)
    station = Station().take(stream.ask(slice=63)).take(stream.answer(slice=0)).settle()
    assert [row["state"] for row in station.rows()] == [State.ASKED, State.ALONE]
    station.take(stream.ask(slice=0)).take(stream.answer(slice=0)).settle()
    assert station.row(2)["state"] == State.ANSWERED


@pytest.mark.parametrize(("origin", "told"), [(Origin.TLS_LIBRARY, False), (Origin.PACKET, True)])
def test_after_a_pause_of_plaintext_only_packets_are_known_to_have_had_no_answer(origin: Origin, told: bool) -> None:
    station = Station().take(Stream(origin=origin).ask())
    station.http.paused(Origin.TLS_LIBRARY)
    station.expire(T0 + 61 * 10**9).end(1, T0 + 62 * 10**9)
    assert (station.row()["state"] == State.UNANSWERED) is told
    assert (Event.NO_RESPONSE in [event for _, event, _ in station.events]) is told
