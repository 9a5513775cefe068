"""The DNS handler: which answer is a query's, and how long it is waited for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dns_samples import ADDRESS, MS, NAME, OTHER_SERVER, SECOND, WALL, Station, T, answer, payload, query

from flows.agent.l7.dns import HOLD_NS
from flows.agent.store.request_columns import Flag


@pytest.mark.parametrize("answer_first", [True, False])
def test_both_rings_in_any_order(*, answer_first: bool) -> None:
    question = query()
    asked, answered = payload(question, at=T), payload(answer(question, ADDRESS), sent=False, at=T + MS, long=True)
    station = Station()
    for part in (answered, asked) if answer_first else (asked, answered):
        station.take(part)
    station.expire(T + HOLD_NS * 2)
    assert station.states() == ["ANSWERED"]
    assert sorted(station.told, key=lambda told: told[2]) == [(0, "REQUEST", T), (0, "RESPONSE", T + MS)]
    assert station.counted() == {}


def test_an_answer_whose_query_was_not_seen_stands_alone() -> None:
    question = query(number=5)
    station = Station().take(payload(answer(question, ADDRESS), sent=False, at=T)).expire(T + HOLD_NS - 1)
    assert station.told == []
    station.expire(T + HOLD_NS)
    assert station.told == [(0, "RESPONSE", T)]
    row = station.row(0)
    assert (row["time"], row["answered"], row["client"], row["query_id"]) == (0, WALL + T, 1, 5)
    assert row["text"] == NAME.removesuffix(".").encode()
    assert station.states() == ["ALONE"]
    assert station.counted() == {"dns_answers_alone": 1}


@pytest.mark.parametrize(
    ("message", "columns", "other_questions"),
    [
        pytest.param(query(), {"conn_id": 12}, 0, id="another connection"),
        pytest.param(query(), {"sent": True}, 0, id="the same direction"),
        pytest.param(query(), {"remote_addr": OTHER_SERVER}, 0, id="another server"),
        pytest.param(query(number=8), {}, 0, id="another id"),
        pytest.param(query(qtype="AAAA"), {}, 1, id="another type"),
        pytest.param(query("wab.shop.svc.cluster.local."), {}, 1, id="another name"),
    ],
)
def test_answers_that_do_not_fit_are_not_paired(message: bytes, columns: dict[str, Any], other_questions: int) -> None:
    other = payload(answer(message), **{"sent": False, "at": T + MS, **columns})
    station = Station().take(payload(query(), at=T), other).expire(T + SECOND)
    assert station.states() == ["ASKED", "ALONE"]
    assert station.counted().get("dns_answers_other_question", 0) == other_questions


def test_an_answer_never_answers_a_later_query() -> None:
    question = query()
    station = Station().take(payload(answer(question), sent=False, at=T), payload(question, at=T + MS)).expire(T + SECOND)
    assert station.states() == ["ASKED", "ALONE"]


def test_one_id_used_again_and_again_in_one_batch() -> None:
    question = query()
    parts = []
    for turn in range(4):
        parts += [
            payload(question, at=T + turn * 4 * MS),
            payload(answer(question, rcode=turn), sent=False, at=T + turn * 4 * MS + MS),
        ]
    station = Station().take(*reversed(parts))
    assert [station.row(number)["answered"] - station.row(number)["time"] for number in range(4)] == [MS] * 4
    order = np.argsort([station.row(number)["time"] for number in range(4)])
    assert [station.row(number)["status"] for number in order.tolist()] == [0, 1, 2, 3]
    assert [attempt for _, attempt in station.attempts()] == [1] * 4


def test_a_second_answer_is_counted_and_answers_nothing() -> None:
    question = query()
    told = payload(answer(question, ADDRESS), sent=False, at=T + MS)
    again = payload(answer(question, rcode=3), sent=False, at=T + 2 * MS)
    together_, apart = Station().take(payload(question, at=T), told, again), Station().take(payload(question, at=T), told)
    apart.take(again)
    for station in (together_, apart):
        station.expire(T + SECOND)
        assert station.states() == ["ANSWERED"]
        assert station.row(0)["status"] == 0
        assert station.counted() == {"dns_answers_repeated": 1}


def test_without_an_answer_a_query_is_given_up_after_the_timeout() -> None:
    station = Station().take(payload(query(), at=T)).expire(T + 5 * SECOND - 1)
    assert station.told == [(0, "REQUEST", T)]
    station.expire(T + 5 * SECOND + 40 * MS).expire(T + 6 * SECOND)
    assert station.told[1:] == [(0, "NO_RESPONSE", T + 5 * SECOND)]
    assert station.states() == ["UNANSWERED"]


@pytest.mark.parametrize("looked", [True, False], ids=["given up before", "nobody looked before"])
def test_a_late_answer_is_marked(*, looked: bool) -> None:
    question = query()
    asked, answered = payload(question, at=T), payload(answer(question, ADDRESS), sent=False, at=T + 6 * SECOND)
    station = Station()
    if looked:
        station.take(asked).expire(T + 5 * SECOND).take(answered)
    else:
        station.take(asked, answered)
    assert station.told == [(0, "REQUEST", T), (0, "NO_RESPONSE", T + 5 * SECOND), (0, "RESPONSE", T + 6 * SECOND)]
    assert station.states() == ["ANSWERED"]
    assert Flag(int(station.row(0)["flags"])) is Flag.LATE


def test_a_minute_later_nobody_remembers_the_query() -> None:
    question = query()
    station = Station().take(payload(question, at=T)).expire(T + 5 * SECOND).expire(T + 65 * SECOND)
    station.take(payload(answer(question), sent=False, at=T + 65 * SECOND)).expire(T + 66 * SECOND)
    assert station.states() == ["UNANSWERED", "ALONE"]
