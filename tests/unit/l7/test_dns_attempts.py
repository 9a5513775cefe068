"""The DNS handler: a question asked again is linked to the first attempt, and one answer settles all attempts."""

from __future__ import annotations

from typing import Any

import pytest
from dns_samples import MS, NAME, OTHER_SERVER, SECOND, Station, T, answer, payload, query

from flows.agent.store.request_columns import Flag


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"at": 2 * SECOND}, (0, 2)),  # the same socket and id, as glibc does
        ({"at": 20 * MS}, (0, 2)),
        ({"at": 2 * SECOND, "conn_id": 12, "remote_addr": OTHER_SERVER}, (0, 2)),  # a new socket, the next server
        ({"at": 2 * SECOND, "conn_id": 12, "number": 8}, (0, 2)),  # a new socket and id
        ({"at": 34 * SECOND, "conn_id": 12, "number": 8}, (0, 2)),  # given up 29 s before
        ({"at": 35 * SECOND, "conn_id": 12, "number": 8}, (1, 1)),  # given up 30 s before
        ({"at": 36 * SECOND}, (1, 1)),
        ({"at": MS, "conn_id": 12, "remote_addr": OTHER_SERVER}, (0, 1)),  # musl: all servers at once
        ({"at": 20 * MS, "conn_id": 12, "remote_addr": OTHER_SERVER}, (0, 2)),
        ({"at": 20 * MS, "conn_id": 12, "number": 8}, (1, 1)),  # another thread wants to know the same
        ({"at": 2 * SECOND, "conn_id": 12, "cgroup_id": 6}, (1, 1)),  # another pod
        ({"at": 2 * SECOND, "qtype": "AAAA"}, (1, 1)),
        ({"at": 2 * SECOND, "name": "other.", "number": 8}, (1, 1)),
    ],
)
@pytest.mark.parametrize("apart", [True, False])
def test_what_repeats_a_question(second: dict[str, Any], expected: tuple[int, int], *, apart: bool) -> None:
    columns = second | {"at": T + second["at"]}
    question = query(columns.pop("name", NAME), columns.pop("qtype", "A"), number=columns.pop("number", 7))
    first, then = payload(query(NAME), at=T), payload(question, **columns)
    station = Station()
    if apart:
        station.take(first).expire(columns["at"])
        station.take(then)
    else:
        station.take(first, then)
    assert station.attempts() == [(0, 1), expected]


def test_a_chain_of_attempts_leads_to_the_first() -> None:
    question = query()
    times = [T + turn * SECOND for turn in range(6)]
    station = Station().take(*(payload(question, at=at) for at in times[:3])).take(payload(question, at=times[3]))
    station.take(*(payload(question, at=at, conn_id=40) for at in times[4:]))
    assert station.attempts() == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6)]


@pytest.mark.parametrize("apart", [True, False])
def test_after_an_answer_a_question_is_asked_anew(*, apart: bool) -> None:
    question, again = query(), query(number=9)
    parts = [
        payload(question, at=T), payload(answer(question, rcode=2), sent=False, at=T + MS),
        payload(again, at=T + 2 * SECOND, conn_id=12),
    ]  # fmt: skip
    station = Station()
    for part in [parts] if not apart else [[part] for part in parts]:
        station.take(*part)
    assert station.attempts() == [(0, 1), (1, 1)]


def test_attempts_are_counted_to_255() -> None:
    question = query()
    station = Station(1024).take(*(payload(question, at=T + turn * 10 * MS) for turn in range(300)))
    assert station.attempts()[253:256] == [(0, 254), (0, 255), (0, 255)]
    assert station.attempts()[299] == (0, 255)


def test_the_server_tells_clients_apart_by_address() -> None:
    question = query()
    other: dict[str, Any] = {"remote_addr": OTHER_SERVER, "conn_id": 12}
    station = Station().take(
        payload(question, sent=False, at=T), payload(question, sent=False, at=T + SECOND, **other),
        payload(question, sent=False, at=T + 2 * SECOND, conn_id=13),
    )  # fmt: skip
    assert station.attempts() == [(0, 1), (1, 1), (0, 2)]


@pytest.mark.parametrize("apart", [True, False])
def test_one_answer_for_two_copies_answers_both_and_is_one_response(*, apart: bool) -> None:
    question = query()
    parts = [
        payload(question, at=T),
        payload(question, at=T + 2 * SECOND),
        payload(answer(question), sent=False, at=T + 3 * SECOND),
    ]
    station = Station()
    for part in [parts] if not apart else [[part] for part in parts]:
        station.take(*part)
    assert station.states() == ["ANSWERED", "ANSWERED"]
    assert [Flag(int(station.row(number)["flags"])) for number in (0, 1)] == [Flag.PIPELINED] * 2
    assert [told for told in station.told if told[1] == "RESPONSE"] == [(0, "RESPONSE", T + 3 * SECOND)]


def test_a_given_up_query_stays_so_when_its_repetition_is_answered() -> None:
    question = query()
    station = Station().take(payload(question, at=T)).expire(T + 5 * SECOND).take(payload(question, at=T + 5 * SECOND))
    station.take(payload(answer(question), sent=False, at=T + 5 * SECOND + MS))
    assert station.states() == ["UNANSWERED", "ANSWERED"]
    assert [Flag(int(station.row(number)["flags"])) for number in (0, 1)] == [Flag.PIPELINED] * 2
    station.take(payload(answer(question), sent=False, at=T + 5 * SECOND + 2 * MS))
    assert station.states() == ["ANSWERED", "ANSWERED"]
    assert Flag(int(station.row(0)["flags"])) == Flag.PIPELINED | Flag.LATE


def test_what_was_settled_by_the_answer_to_a_repetition_is_asked_anew() -> None:
    question = query()
    station = Station().take(payload(question, at=T)).expire(T + 5 * SECOND).take(payload(question, at=T + 5 * SECOND))
    station.take(payload(answer(question), sent=False, at=T + 5 * SECOND + MS)).take(payload(question, at=T + 9 * SECOND))
    assert station.attempts() == [(0, 1), (0, 2), (2, 1)]
