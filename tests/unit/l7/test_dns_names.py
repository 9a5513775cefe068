"""Names of addresses from a pod's own answers: within their TTL, for that pod alone, and bounded."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import numpy as np
import pytest
from dns_samples import SECOND, answer, query
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.l7 import dns_names
from flows.agent.l7.dns_name_table import NameTable
from flows.agent.l7.dns_names import GRACE_NS, AnsweredNames
from flows.agent.store.request_columns import ANSWER_BYTES, TEXT_BYTES

NAME = "web.shop.svc.cluster.local."
T = 100 * SECOND
ADDRESS = "10.96.1.2"


def learn(known: AnsweredNames, *records: tuple[str, int, str, str], name: str = NAME, at: int = T, **columns: Any) -> None:
    message = columns.get("message") or answer(query(name), *records, rcode=columns.get("rcode", 0))
    known.learn(
        np.array([columns.get("cgroup", 5)], np.uint64),
        np.frombuffer(message[:ANSWER_BYTES].ljust(ANSWER_BYTES, b"\0"), np.uint8)[None, :],
        np.array([min(len(message), ANSWER_BYTES)], np.uint16),
        np.frombuffer(name.removesuffix(".").encode()[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0"), np.uint8)[None, :],
        np.array([at], np.uint64),
    )


def named(known: AnsweredNames, address: str = ADDRESS, at: int = T, cgroup: int = 5) -> str:
    packed = ip_address(address).packed
    raw = np.frombuffer(packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed, np.uint8)[None, :]
    (number,) = known.lookup(np.array([cgroup], np.uint64), raw, np.array([at], np.uint64)).tolist()
    return known.names.name(number)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({}, NAME[:-1]),
        ({"at": T - 1}, ""),
        ({"at": T + 30 * SECOND + GRACE_NS}, NAME[:-1]),
        ({"at": T + 30 * SECOND + GRACE_NS + 1}, ""),
        ({"cgroup": 6}, ""),
        ({"address": "10.96.1.3"}, ""),
        ({"address": "::a60:102"}, ""),
    ],
)
def test_a_name_holds_for_its_pod_address_and_time(question: dict[str, Any], expected: str) -> None:
    known = AnsweredNames()
    learn(known, (NAME, 30, "A", ADDRESS))
    assert named(known, **question) == expected


def test_ttl_zero_holds_for_the_grace() -> None:
    known = AnsweredNames()
    learn(known, (NAME, 0, "AAAA", "2001:db8::1"))
    assert [named(known, "2001:db8::1", T + at) for at in (0, GRACE_NS, GRACE_NS + 1)] == [NAME[:-1], NAME[:-1], ""]


def test_aliases_lead_to_the_name_that_was_asked_for() -> None:
    known = AnsweredNames()
    chain = [("B.example.", 9, "A", ADDRESS), (NAME, 60, "CNAME", "a.example."), ("a.example.", 5, "CNAME", "b.example.")]
    learn(known, *chain)
    assert named(known) == NAME[:-1]
    assert named(known, at=T + 5 * SECOND + GRACE_NS + 1) == ""


@pytest.mark.parametrize(
    "records",
    [
        [("other.example.", 30, "A", ADDRESS)],
        [(NAME, 30, "CNAME", "a.example."), ("b.example.", 30, "A", ADDRESS)],
        [(NAME, 30, "CNAME", "a.example."), ("a.example.", 30, "CNAME", NAME), ("c.example.", 30, "A", ADDRESS)],
        [(NAME, 30, "TXT", '"x"')],
    ],
)
def test_what_does_not_lead_from_the_question_is_not_learned(records: list[tuple[str, int, str, str]]) -> None:
    known = AnsweredNames()
    learn(known, *records)
    assert (named(known), len(known)) == ("", 0)


def test_errors_and_cut_names_teach_nothing() -> None:
    known = AnsweredNames()
    learn(known, (NAME, 30, "A", ADDRESS), rcode=2)
    long = ".".join(["x" * 40] * 5) + "."
    learn(known, (long, 30, "A", ADDRESS), name=long)
    assert len(known) == 0


def test_the_last_name_with_the_address_is_told() -> None:
    known = AnsweredNames()
    learn(known, (NAME, 30, "A", ADDRESS))
    learn(known, ("alias.", 30, "A", ADDRESS), name="alias.", at=T + SECOND)
    assert named(known, at=T + 2 * SECOND) == "alias"


def test_asking_again_prolongs() -> None:
    known = AnsweredNames()
    learn(known, (NAME, 30, "A", ADDRESS))
    learn(known, (NAME, 30, "A", ADDRESS), at=T + 50 * SECOND)
    assert [named(known, at=T + at * SECOND) for at in (0, 100, 111)] == [NAME[:-1], NAME[:-1], ""]


def test_a_batch_of_equal_and_other_answers() -> None:
    known = AnsweredNames()
    names = [f"s{turn % 3}.shop." for turn in range(12)]
    messages = [answer(query(name, number=turn), (name, 30, "A", f"10.0.0.{turn % 3}")) for turn, name in enumerate(names)]
    known.learn(
        np.array([turn % 2 for turn in range(12)], np.uint64),
        np.array([np.frombuffer(message.ljust(256, b"\0"), np.uint8) for message in messages]),
        np.array([len(message) for message in messages], np.uint16),
        np.array([np.frombuffer(name[:-1].encode().ljust(TEXT_BYTES, b"\0"), np.uint8) for name in names]),
        np.full(12, T, np.uint64),
    )
    assert len(known) == 6
    assert [[named(known, f"10.0.0.{turn}", cgroup=cgroup) for turn in range(3)] for cgroup in (0, 1)] == [
        ["s0.shop", "s1.shop", "s2.shop"]
    ] * 2


def test_when_there_is_no_room_what_is_over_goes_first() -> None:
    known = AnsweredNames(capacity=3)
    learn(known, (NAME, 1, "A", "10.0.0.1"))
    learn(known, (NAME, 300, "A", "10.0.0.2"), (NAME, 200, "A", "10.0.0.3"))
    learn(known, (NAME, 30, "A", "10.0.0.4"), at=T + 60 * SECOND)
    assert (len(known), known.overflow, named(known, "10.0.0.1")) == (3, 0, "")
    learn(known, (NAME, 400, "A", "10.0.0.5"), at=T + 61 * SECOND)
    assert (len(known), known.overflow) == (3, 1)
    assert named(known, "10.0.0.4", T + 61 * SECOND) == ""
    learn(known, *[(NAME, 500, "A", f"10.0.1.{turn}") for turn in range(5)], at=T + 62 * SECOND)
    assert (len(known), known.overflow) == (3, 1 + 3 + 2)


def test_too_many_new_messages_at_once_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_names, "PARSED", 0)
    known = AnsweredNames()
    learn(known, (NAME, 30, "A", ADDRESS))
    assert known.counts() == {"dns_names_overflow": 0, "dns_addresses_overflow": 0, "dns_answers_not_learned": 1}


@given(st.binary(max_size=ANSWER_BYTES), st.binary(max_size=TEXT_BYTES))
def test_arbitrary_answers_never_raise(message: bytes, text: bytes) -> None:
    known = AnsweredNames()
    known.learn(
        np.array([5], np.uint64), np.frombuffer(message.ljust(256, b"\0"), np.uint8)[None], np.array([len(message)], np.uint16),
        np.frombuffer(text.ljust(TEXT_BYTES, b"\0"), np.uint8)[None], np.array([T], np.uint64),
    )  # fmt: skip
    assert len(known) <= ANSWER_BYTES // 15


def test_names_have_numbers_and_are_bounded() -> None:
    table = NameTable(capacity=3)
    assert [table.number(name) for name in ("a", "b", "a", "c", "")] == [1, 2, 1, 0, 0]
    assert [table.name(number) for number in (0, 1, 2, 3, -1)] == ["", "a", "b", "", ""]
    assert table.overflow == 1


def test_names_that_nobody_uses_are_freed_at_the_second_look() -> None:
    table = NameTable(capacity=3)
    for name in ("a", "b"):
        table.number(name)
    used = [np.array([2, 9], np.uint32)]
    assert [table.retain(used), table.retain(used)] == [0, 1]
    assert (table.name(1), table.number("c"), table.name(1)) == ("", 1, "c")
    table.retain([])
    table.number("b")
    assert table.retain([]) == 1
    assert table.name(2) == "b"
