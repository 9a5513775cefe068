"""The DNS handler: what is stored of a query and its answer, and that whatever is not stored is counted."""

from __future__ import annotations

import dns.flags
import numpy as np
import pytest
from dns_samples import ADDRESS, CLIENT, MS, NAME, SECOND, TCP, WALL, Station, T, answer, payload, query
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.agent.store.request_columns import ANSWER_BYTES, Flag, Kind, State


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


def test_edns_is_no_hindrance() -> None:
    question = query(edns=True)
    station = Station().take(payload(question), payload(answer(question, ADDRESS), sent=False, at=SECOND + 1))
    assert station.states() == ["ANSWERED"]


def test_an_error_without_the_question_answers_the_one_that_waits() -> None:
    question = query(number=300)
    bare = question[:2] + b"\x80\x01" + bytes(8)
    station = Station().take(payload(question, at=T), payload(bare, sent=False, at=T + MS))
    assert station.states() == ["ANSWERED"]
    assert station.row(0)["status"] == 1
    assert station.counted() == {}
    station.take(payload(bare, sent=False, at=T + 2 * MS))
    assert station.counted() == {"dns_question_count": 1}


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


def test_requests_that_were_overwritten_have_no_events() -> None:
    station = Station(capacity=4).take(payload(query(number=1), at=T))
    station.take(*(payload(query(number=number), at=T + SECOND, conn_id=number) for number in range(2, 8)))
    assert {number for number, _, _ in station.told} == {0, 3, 4, 5, 6}
    station.expire(T + 7 * SECOND)
    assert station.counted()["dns_requests_gone"] == 5


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
