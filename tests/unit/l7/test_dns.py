"""The DNS handler: queries meet their answers, repetitions are linked, and what nobody answers is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns.flags
import numpy as np
import pytest
from dns_samples import CLIENT, MS, OTHER_SERVER, SECOND, TCP, answer, batch, payload, query
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.agent.l7.dns import HOLD_NS, Dns
from flows.agent.l7.events import together
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import ANSWER_BYTES, Flag, Kind, State
from flows.agent.store.requests import RequestStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flows.agent.l7.events import Events

WALL = 1_700_000_000 * SECOND
NAME = "web.shop.svc.cluster.local."
ADDRESS = (NAME, 30, "A", "10.0.1.2")
T = 10 * SECOND


class Station:
    """A handler with its store, and the events so far."""

    def __init__(self, capacity: int = 64, rule: Callable[[bytes], bytes] | None = None) -> None:
        self.store = RequestStore(capacity)
        self.dns = Dns(self.store, rule)
        self.told: list[tuple[int, str, int]] = []

    def take(self, *payloads: NDArray[np.void]) -> Station:
        return self._tell(self.dns.take(batch(*payloads), WALL))

    def expire(self, now: int) -> Station:
        return self._tell(self.dns.expire(now, WALL))

    def end(self, conn_id: int, at: int) -> Station:
        return self._tell(self.dns.ended(np.array([conn_id], np.uint64), np.array([at], np.uint64), WALL))

    def _tell(self, events: Events) -> Station:
        order = np.argsort(events.time_ns, kind="stable")
        for number, event, time in zip(*(column[order].tolist() for column in together(events)), strict=True):
            self.told.append((number, Event(event).name, time))
        return self

    def row(self, number: int) -> dict[str, Any]:
        row = {name: column[0] for name, column in self.store.take(np.array([number])).items()}
        return row | {"text": row["text"].tobytes().rstrip(b"\0"), "answer": row["answer"].tobytes()[: row["answer_bytes"]]}

    def states(self) -> list[str]:
        return [State(self.row(number)["state"]).name for number in range(self.store.written)]

    def attempts(self) -> list[tuple[int, int]]:
        return [(int(row["first"]), int(row["attempt"])) for row in map(self.row, range(self.store.written))]

    def counted(self) -> dict[str, int]:
        return {name: count for name, count in self.dns.counts().items() if count}


def test_a_query_and_its_answer_are_one_request() -> None:
    question = query(NAME.upper(), number=77)
    message = answer(question, ADDRESS)
    station = Station().take(payload(question, at=T), payload(message, sent=False, at=T + 3 * MS))
    assert station.told == [(0, "REQUEST", T), (0, "RESPONSE", T + 3 * MS)]
    row = station.row(0)
    assert row["text"] == b"web.shop.svc.cluster.local"
    assert row["answer"] == message
    expected = {
        "time": WALL + T, "answered": WALL + T + 3 * MS, "conn_id": 11, "cgroup_id": 5, "pid": 99, "comm": b"curl", "client": 1,
        "kind": Kind.DNS, "state": State.ANSWERED, "flags": 0, "status": 0, "qtype": 1, "query_id": 77, "attempt": 1, "first": 0,
        "request_bytes": len(question), "response_bytes": len(message), "local_port": 40_000, "remote_port": 53, "protocol": 17,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert station.counted() == {}


def test_the_server_s_end_was_asked() -> None:
    question = query()
    station = Station().take(payload(question, sent=False, at=T), payload(answer(question), sent=True, at=T + MS))
    assert station.row(0)["client"] == 0
    assert station.states() == ["ANSWERED"]


def test_what_the_ring_held_before_is_not_kept() -> None:
    question = query()
    message = answer(question)
    station = Station().take(payload(question), payload(message, sent=False, at=SECOND + 1))
    kept = station.store.take(np.array([0]))["answer"][0]
    assert kept[len(message) :].tobytes() == bytes(ANSWER_BYTES - len(message))


@pytest.mark.parametrize(
    ("rcode", "flags", "status", "marks"),
    [(3, dns.flags.RA, 3, Flag(0)), (2, dns.flags.RA, 2, Flag(0)), (0, dns.flags.TC, 0, Flag.TRUNCATED)],
)
def test_rcode_and_truncation(rcode: int, flags: int, status: int, marks: Flag) -> None:
    question = query()
    message = answer(question, rcode=rcode, flags=flags)
    row = Station().take(payload(question), payload(message, sent=False, at=SECOND + 1)).row(0)
    assert (row["status"], Flag(int(row["flags"]))) == (status, marks)


def test_long_answers_are_kept_in_part_and_marked() -> None:
    question = query()
    message = answer(question, *[(NAME, 30, "A", f"10.0.1.{n}") for n in range(60)])
    row = Station().take(payload(question, long=True), payload(message, sent=False, at=SECOND + 1, long=True)).row(0)
    assert Flag(int(row["flags"])) is Flag.ANSWER_CUT
    assert row["answer"] == message[:ANSWER_BYTES]
    assert row["response_bytes"] == len(message) > ANSWER_BYTES


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
    "changes",
    [{"conn_id": 12}, {"sent": 1}, {"remote_addr": OTHER_SERVER}],
)
def test_answers_of_others_do_not_fit(changes: dict[str, Any]) -> None:
    question = query()
    other = payload(answer(question), at=T + MS, sent=False)
    for name, value in changes.items():
        other[name][0] = np.frombuffer(value, np.uint8) if name == "remote_addr" else value
    station = Station().take(payload(question, at=T), other).expire(T + SECOND)
    assert station.states() == ["ASKED", "ALONE"]


@pytest.mark.parametrize(
    ("other", "mark"),
    [(query(number=8), 0), (query(qtype="AAAA"), 1), (query("wab.shop.svc.cluster.local."), 1)],
)
def test_an_answer_to_another_question_is_not_paired(other: bytes, mark: int) -> None:
    station = Station().take(payload(query(), at=T), payload(answer(other), sent=False, at=T + MS)).expire(T + SECOND)
    assert station.states() == ["ASKED", "ALONE"]
    assert station.counted().get("dns_answers_other_question", 0) == mark


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


def test_without_an_answer_a_query_is_given_up_after_the_timeout() -> None:
    station = Station().take(payload(query(), at=T)).expire(T + 5 * SECOND - 1)
    assert station.told == [(0, "REQUEST", T)]
    station.expire(T + 5 * SECOND + 40 * MS).expire(T + 6 * SECOND)
    assert station.told[1:] == [(0, "NO_RESPONSE", T + 5 * SECOND)]
    assert station.states() == ["UNANSWERED"]


def test_a_late_answer_is_marked() -> None:
    question = query()
    station = Station().take(payload(question, at=T)).expire(T + 5 * SECOND)
    station.take(payload(answer(question, ADDRESS), sent=False, at=T + 6 * SECOND))
    assert station.told[2:] == [(0, "RESPONSE", T + 6 * SECOND)]
    assert station.states() == ["ANSWERED"]
    assert Flag(int(station.row(0)["flags"])) is Flag.LATE


def test_a_late_answer_is_late_even_if_nobody_looked_before() -> None:
    question = query()
    station = Station().take(payload(question, at=T), payload(answer(question), sent=False, at=T + 6 * SECOND))
    assert station.told == [(0, "REQUEST", T), (0, "NO_RESPONSE", T + 5 * SECOND), (0, "RESPONSE", T + 6 * SECOND)]
    assert Flag(int(station.row(0)["flags"])) is Flag.LATE


def test_a_minute_later_nobody_remembers_the_query() -> None:
    question = query()
    station = Station().take(payload(question, at=T)).expire(T + 5 * SECOND).expire(T + 65 * SECOND)
    station.take(payload(answer(question), sent=False, at=T + 65 * SECOND)).expire(T + 66 * SECOND)
    assert station.states() == ["UNANSWERED", "ALONE"]


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
    other = {"remote_addr": OTHER_SERVER, "conn_id": 12}
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


def test_an_error_without_the_question_answers_the_one_that_waits() -> None:
    question = query(number=300)
    bare = question[:2] + b"\x80\x01" + bytes(8)
    station = Station().take(payload(question, at=T), payload(bare, sent=False, at=T + MS))
    assert station.states() == ["ANSWERED"]
    assert station.row(0)["status"] == 1
    assert station.counted() == {}
    station.take(payload(bare, sent=False, at=T + 2 * MS))
    assert station.counted() == {"dns_question_count": 1}


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (b"\0", "dns_malformed_short"),
        (query()[:20], "dns_malformed_short"),
        (query()[:12] + b"\xc0\x0c\0\1\0\1", "dns_malformed_pointer"),
        (query()[:2] + b"\x28\0" + query()[4:], "dns_other_opcode"),
        (query()[:4] + b"\0\2" + query()[6:], "dns_question_count"),
    ],
)
def test_what_cannot_be_read_is_counted(message: bytes, count: str) -> None:
    station = Station().take(payload(message), payload(query(), at=T, conn_id=99))
    assert station.counted() == {count: 1}
    assert station.states() == ["ASKED"]


def test_edns_is_no_hindrance() -> None:
    question = query(edns=True)
    station = Station().take(payload(question), payload(answer(question, ADDRESS), sent=False, at=SECOND + 1))
    assert station.states() == ["ANSWERED"]


def test_requests_that_were_overwritten_have_no_events() -> None:
    station = Station(capacity=4).take(payload(query(number=1), at=T))
    station.take(*(payload(query(number=number), at=T + SECOND, conn_id=number) for number in range(2, 8)))
    assert {number for number, _, _ in station.told} == {0, 3, 4, 5, 6}
    station.expire(T + 7 * SECOND)
    assert station.counted()["dns_requests_gone"] == 5


def test_a_name_rule_hides_names_everywhere() -> None:
    def rule(name: bytes) -> bytes:
        return b"HIDDEN" if b"secret" in name else name

    question, plain = query("my-secret.example."), query("www.example.", number=8)
    alias = answer(plain, ("www.example.", 20, "CNAME", "secret.example."), ("secret.example.", 30, "A", "10.0.0.9"))
    station = Station(rule=rule).take(
        payload(question, at=T), payload(answer(question, ("my-secret.example.", 30, "A", "10.0.0.8")), sent=False, at=T + MS),
        payload(plain, at=T), payload(alias, sent=False, at=T + MS),
    )  # fmt: skip
    assert [station.row(number)["text"] for number in (0, 1)] == [b"HIDDEN", b"www.example"]
    for number, address in ((0, b"\x0a\0\0\x08"), (1, b"\x0a\0\0\x09")):
        row = station.row(number)
        assert b"secret" not in row["answer"]
        assert row["answer"].endswith(address)
        assert Flag.REDACTED in Flag(int(row["flags"]))


def test_a_name_rule_leaves_other_messages_alone() -> None:
    question = query()
    message = answer(question, ADDRESS)
    row = Station(rule=lambda name: name).take(payload(question), payload(message, sent=False, at=SECOND + 1)).row(0)
    assert (row["answer"], row["flags"]) == (message, 0)


def test_more_pending_queries_than_there_is_room_for_are_counted() -> None:
    station = Station(capacity=40_000)
    one = np.repeat(payload(query(), at=T), 40_000)
    one["conn_id"] = np.arange(40_000)
    one["cgroup_id"] = np.arange(40_000)
    station.take(one)
    assert station.counted() == {"dns_pending_overflow": 40_000 - 32_768, "dns_attempts_overflow": 40_000 - 16_384}


MESSAGES = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda tail: query()[:12] + tail, st.binary(max_size=280)),
    st.builds(lambda head: head + query()[12:], st.binary(min_size=12, max_size=12)),
    st.sampled_from([query(), answer(query(), ADDRESS), query(qtype="AAAA"), answer(query(), rcode=2)]),
)


@settings(max_examples=200)
@given(st.lists(st.tuples(MESSAGES, st.booleans(), st.integers(0, 7), st.sampled_from([17, TCP]), st.booleans()), max_size=12))
def test_every_payload_is_stored_held_or_counted(items: list[tuple[bytes, bool, int, int, bool]]) -> None:
    station = Station()
    taken = 0
    for turn, (message, sent, second, protocol, long) in enumerate(items):
        at = T + second * SECOND
        station.take(payload(message, sent=sent, at=at, protocol=protocol, long=long, sequence=turn * 7))
        taken += protocol != TCP
    station.expire(T + 8 * SECOND).expire(T + 9 * SECOND).end(11, T + 9 * SECOND)
    counts = station.dns.counts()
    answers = sum(1 for _, event, _ in station.told if event == "RESPONSE")
    queries = sum(1 for _, event, _ in station.told if event == "REQUEST")
    lost = sum(count for name, count in counts.items() if name.startswith(("dns_malformed", "dns_question", "dns_other_opcode")))
    over_tcp = len(items) - taken
    assert taken <= queries + answers + lost + counts["dns_answers_repeated"] <= taken + 30 * over_tcp
    rows = [station.row(number) for number in range(station.store.written)]
    assert not any(row["state"] == State.ASKED and row["time"] <= WALL + T + 4 * SECOND for row in rows)
    assert all(row["local_addr"].tobytes() == CLIENT and row["kind"] == Kind.DNS for row in rows)
