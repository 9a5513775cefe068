"""`flows dns names`: answers of which a part was not kept (ANSWER_CUT), and those that the server truncated (TRUNCATED)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from answer_feeds import coverage, fed, rows
from answer_resolver import SEARCH, Resolver
from answer_samples import A, Pod, connection

from flows.flow.answers.names import NamesAnswer
from flows.proto.extension_pb2 import ANSWER_CUT, TRUNCATED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.proto.flow_pb2 import Flow

NAME = "www.example.com"
CUT: dict[str, Any] = {"marks": (ANSWER_CUT,), "ips": ()}
FULL: dict[str, Any] = {"marks": (TRUNCATED,), "ips": ()}
TWO = ("192.0.2.1", "192.0.2.2")


def answered(resolver: Resolver, look: Sequence[Flow] = ()) -> NamesAnswer:
    answer: NamesAnswer = fed(NamesAnswer(), resolver.flows(), coverage(), look=look)
    return answer


def searched() -> Resolver:
    resolver = Resolver()
    for suffix in SEARCH:
        resolver.pair(f"{NAME}.{suffix}", 3)
    return resolver


def test_an_answer_of_which_only_the_beginning_is_kept_is_no_answer_without_addresses() -> None:
    answer = answered(Resolver().ask(NAME, **CUT).ask(NAME, "AAAA", **CUT), [connection(A, Pod("", "192.0.2.1"), at=1)])
    (row,) = rows(answer)
    assert {key: row[key] for key in ("name", "outcome", "count", "found", "addresses")} == {
        "name": NAME, "outcome": "resolved", "count": 1, "found": NAME, "addresses": None,
    }  # fmt: skip
    assert (row["connection"], row["connected"], row["not_connected"]) == ("unknown", 0, 0)


def test_a_whole_answer_without_addresses_is_one_whatever_the_other_types_was() -> None:
    (row,) = rows(answered(Resolver().ask(NAME, ips=()).ask(NAME, "AAAA", **CUT)))
    assert row["outcome"] == "resolved"
    (row,) = rows(answered(Resolver().ask(NAME, ips=()).ask(NAME, "AAAA", ips=())))
    assert (row["outcome"], row["connection"]) == ("NODATA", None)


def test_a_search_ends_with_an_answer_that_was_cut() -> None:
    resolver = searched().ask(NAME, wait=0.0001, **CUT).ask(NAME, "AAAA", **CUT)
    answer = answered(resolver.ask(f"{NAME}.{SEARCH[0]}", rcode=3))
    assert [(row["name"], row["outcome"]) for row in rows(answer)] == [
        (f"{NAME}.{SEARCH[0]}", "NXDOMAIN"), (NAME, "resolved"),
    ]  # fmt: skip
    (cost,) = rows(answer, 1)
    assert cost["names"] == [f"{NAME}."]


def test_a_connection_may_be_to_an_address_that_was_not_kept() -> None:
    resolver = Resolver().ask(NAME, ips=TWO, marks=(ANSWER_CUT,))
    (row,) = rows(answered(resolver, [connection(A, Pod("", "192.0.2.3"), at=0.01)]))
    assert (row["connection"], row["not_connected"], row["addresses"]) == ("unknown", 0, list(TWO))
    (row,) = rows(answered(resolver, [connection(A, Pod("", TWO[1]), at=0.01)]))
    assert (row["connection"], row["connected"]) == ("192.0.2.2 TCP 443", 1)


@pytest.mark.parametrize(
    ("resolver", "expected"),
    [
        (Resolver().ask(NAME, **FULL).ask(NAME, over_tcp=True), [("resolved", 1, 2)]),
        (Resolver().ask(NAME, **FULL).ask(NAME), [("resolved", 1, 2)]),
        (Resolver().ask(NAME, **FULL).ask(NAME, over_tcp=True, ips=()), [("NODATA", 1, 2)]),
        (Resolver().ask(NAME, **FULL).ask(NAME, over_tcp=True, took=None, gave_up=5.0), [("unanswered", 1, 2)]),
        (Resolver().ask(NAME, **FULL), [("TRUNCATED", 1, 1)]),
        (Resolver().ask(NAME, marks=(TRUNCATED,)).ask(NAME, over_tcp=True), [("resolved", 1, 2)]),
        (Resolver().ask(NAME, marks=(TRUNCATED,)).ask(NAME), [("resolved", 2, 2)]),
        (Resolver().ask(NAME, marks=(TRUNCATED,), rcode=3), [("NXDOMAIN", 1, 1)]),
    ],
    ids=[
        "again over TCP", "again with room for more", "that has no addresses", "that is not answered", "not again",
        "some addresses, and all over TCP", "some addresses were enough", "there is no such name",
    ],
)  # fmt: skip
def test_a_truncated_answer_is_asked_for_again(resolver: Resolver, expected: list[tuple[str, int, int]]) -> None:
    assert [(row["outcome"], row["count"], row["tries"]) for row in rows(answered(resolver))] == expected


def test_what_ended_the_repetitions_of_a_question_is_its_outcome() -> None:
    failed = Resolver().ask(NAME, rcode=2, wait=0.01).ask(NAME, rcode=3, attempt=2)
    (row,) = rows(answered(failed))
    assert (row["outcome"], row["tries"], row["lost_ns"]) == ("NXDOMAIN", 2, 10_000_000)
