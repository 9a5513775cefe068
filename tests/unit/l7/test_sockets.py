"""Sockets: what connections' records and first bytes tell of each other, and that nothing is told of another connection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flows.agent.l7.sockets import SLOTS_LOG2, Sockets
from flows.agent.probe.record import RECORD, Event, Initiator
from flows.agent.store.public_names import NameSource, detail
from flows.proto import extension_pb2

HTTP1, TLS = extension_pb2.SPOKEN_HTTP1, extension_pb2.SPOKEN_TLS
SNI, HOST, DNS = NameSource.TLS_SNI, NameSource.HTTP_HOST, NameSource.DNS_ANSWER


def record(conn_id: int, **fields: Any) -> np.ndarray[Any, Any]:
    made = np.zeros(1, RECORD)
    values = {
        "conn_id": conn_id, "start_ns": 1_000 + conn_id % 1_000, "netns": 9, "pid": conn_id % 1_000,
        "comm": f"p{conn_id}".encode(), "initiator": Initiator.LOCAL, "event": Event.ESTABLISHED, **fields,
    }  # fmt: skip
    for name, value in values.items():
        made[name] = value
    return made


def ids(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers, np.uint64)


def details(source: NameSource, *numbers: int) -> np.ndarray[Any, Any]:
    return detail(np.array(numbers, np.uint32), source)


def completed(sockets: Sockets, *requests: int, **fields: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of requests of these connections, completed."""
    unknown = {"start_ns": 0, "netns": 0, "pid": 0, "comm": b"", "initiator": Initiator.REMOTE, **fields}
    rows = np.concatenate([record(number, **unknown) for number in requests])
    columns = {name: rows[name].copy() for name in RECORD.names or ()}
    sockets.complete(columns)
    return columns


def colliding() -> tuple[int, int]:
    """Two connections with one slot."""
    sockets = Sockets()
    at: dict[int, int] = {}
    for number in range(1, 1 << (SLOTS_LOG2 + 2)):
        slot = int(sockets._at(ids(number))[0])
        if slot in at:
            return at[slot], number
        at[slot] = number
    raise AssertionError("no collision")


OLD, NEW = colliding()


def test_a_request_gets_what_its_connection_is_known_for() -> None:
    sockets = Sockets()
    assert sockets.learn(np.concatenate([record(1), record(2), record(1 << 63 | 5)])).tolist() == [True, True, True]
    rows = completed(sockets, 2, 1 << 63 | 5, 3)
    assert rows["comm"].tolist() == [b"p2", f"p{1 << 63 | 5}".encode()[:16], b""]
    assert rows["start_ns"].tolist() == [1_002, 1_000 + (1 << 63 | 5) % 1_000, 0]
    assert rows["netns"].tolist() == [9, 9, 0]


def test_what_a_request_knows_itself_stays() -> None:
    sockets = Sockets()
    sockets.learn(record(1))
    columns = completed(sockets, 1, pid=77, comm=b"curl")
    assert (columns["pid"].tolist(), columns["comm"].tolist()) == ([77], [b"curl"])


def test_only_the_first_records_of_a_connection_are_new() -> None:
    sockets = Sockets()
    assert sockets.learn(record(1)).tolist() == [True]
    assert sockets.learn(np.concatenate([record(1, event=Event.CLOSED), record(2)])).tolist() == [False, True]


def test_a_connection_that_spoke_before_its_record_came_is_new_with_its_record() -> None:
    """First bytes are looked for after the records, so they may come a batch earlier."""
    sockets = Sockets()
    sockets.speak(ids(1), np.array([HTTP1], np.uint8))
    sockets.name(ids(1), details(HOST, 5))
    assert sockets.learn(record(1)).tolist() == [True]
    assert sockets.learn(record(1)).tolist() == [False]
    assert completed(sockets, 1)["comm"].tolist() == [b"p1"]
    spoken, names = sockets.spoken_and_names(ids(1))
    assert (spoken.tolist(), names.tolist()) == ([HTTP1], details(HOST, 5).tolist())


@pytest.mark.parametrize("batches", [[[OLD], [NEW]], [[OLD, NEW]], [[OLD], [OLD, NEW]], [[NEW], [OLD, NEW]]])
def test_of_two_connections_with_one_slot_the_last_has_it(batches: list[list[int]]) -> None:
    sockets = Sockets()
    for batch in batches:
        sockets.learn(np.concatenate([record(number) for number in batch]))
    rows = completed(sockets, OLD, NEW)
    assert rows["comm"].tolist() == [b"", f"p{NEW}".encode()]
    assert rows["pid"].tolist() == [0, NEW % 1_000]


def test_an_older_connection_that_comes_after_a_new_one_is_not_taken_for_it() -> None:
    sockets = Sockets()
    sockets.learn(record(OLD))
    sockets.name(ids(OLD), details(SNI, 5))
    sockets.learn(np.concatenate([record(NEW), record(OLD)]))
    for comm, number in zip(completed(sockets, OLD, NEW)["comm"].tolist(), (OLD, NEW), strict=True):
        assert comm in (b"", f"p{number}".encode())
    assert sockets.spoken_and_names(ids(NEW))[1].tolist() == [0]


@pytest.mark.parametrize(("known", "came"), [(OLD, NEW), (NEW, OLD)])
def test_what_is_spoken_is_not_told_of_another_connection(known: int, came: int) -> None:
    sockets = Sockets()
    sockets.speak(ids(known), np.array([TLS], np.uint8))
    both = ids(*sorted((known, came)))
    said = np.where(both == known, TLS, HTTP1).astype(np.uint8)
    sockets.speak(both, said)
    told = sockets.spoken_and_names(both)[0]
    assert all(value in (0, own) for value, own in zip(told.tolist(), said.tolist(), strict=True))
    assert told.any()


def test_only_news_of_what_is_spoken_are_told() -> None:
    sockets = Sockets()
    said = np.array([HTTP1, TLS], np.uint8)
    assert sockets.speak(ids(1, 2), said).tolist() == [True, True]
    assert sockets.speak(ids(1, 2), said).tolist() == [False, False]
    assert sockets.speak(ids(1, 2), said[::-1]).tolist() == [True, True]
    assert sockets.spoken_and_names(ids(1, 2, 3))[0].tolist() == [TLS, HTTP1, 0]


@pytest.mark.parametrize(
    ("sources", "kept"),
    [
        ([DNS], 0), ([DNS, HOST], 1), ([DNS, SNI], 1), ([HOST, DNS], 0), ([HOST, SNI], 1), ([SNI, HOST], 0), ([SNI, DNS], 0),
        ([HOST, HOST], 0), ([DNS, HOST, SNI], 2), ([SNI, HOST, DNS], 0),
    ],
)  # fmt: skip
def test_the_best_source_of_a_name_wins_and_of_equal_ones_the_first(sources: list[NameSource], kept: int) -> None:
    sockets = Sockets()
    sockets.learn(record(1))
    for number, source in enumerate(sources):
        lacking = sockets.lack(ids(1), source)
        news = sockets.name(ids(1), details(source, number + 1))
        assert news.tolist() == [number == 0 or source < min(sources[:number])]
        assert lacking.tolist() == news.tolist()
    assert sockets.spoken_and_names(ids(1))[1].tolist() == details(sources[kept], kept + 1).tolist()


def test_a_connection_that_is_not_here_gets_no_name_and_an_empty_name_is_none() -> None:
    sockets = Sockets()
    sockets.learn(record(OLD))
    assert sockets.name(ids(NEW), details(SNI, 5)).tolist() == [False]
    assert sockets.name(ids(OLD), details(SNI, 0)).tolist() == [False]
    assert sockets.names_in_use().any() == np.False_


def test_names_in_use_are_those_that_may_still_be_told() -> None:
    sockets = Sockets()
    sockets.learn(np.concatenate([record(1), record(2)]))
    sockets.name(ids(1, 2), details(HOST, 5, 6))
    sockets.name(ids(1), details(SNI, 7))
    in_use = sockets.names_in_use()
    assert sorted(in_use[in_use != 0].tolist()) == sorted([*details(SNI, 7).tolist(), *details(HOST, 6).tolist()])
