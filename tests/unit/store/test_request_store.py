"""The ring of requests: numbers, overwriting, answers to what is gone, and what flows keep of a number."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.store.request_columns import BYTES_PER_REQUEST, COLUMNS, HOST_BYTES, METHODS, TEXT_BYTES, Flag, Kind, State
from flows.agent.store.requests import RequestStore
from flows.proto import extension_pb2


def filled(capacity: int, batches: list[int]) -> RequestStore:
    """A store that got batches of so many requests; conn_id counts them all from 0."""
    store, number = RequestStore(capacity), 0
    for size in batches:
        numbers = store.add({"conn_id": np.arange(number, number + size, dtype=np.uint64)})
        assert numbers.tolist() == list(range(number, number + size))
        number += size
    return store


@pytest.mark.parametrize(
    ("capacity", "batches", "stored"),
    [
        (4, [], []),
        (4, [0], []),
        (4, [3], [0, 1, 2]),
        (4, [4], [0, 1, 2, 3]),
        (4, [3, 3], [2, 3, 4, 5]),
        (4, [4, 4], [4, 5, 6, 7]),
        (1, [1, 1, 1], [2]),
    ],
)
def test_the_newest_requests_stay_in_order(capacity: int, batches: list[int], stored: list[int]) -> None:
    store = filled(capacity, batches)
    assert store.written == sum(batches)
    assert store.column("conn_id", store.oldest, store.written).tolist() == stored


@given(st.integers(1, 9), st.lists(st.integers(0, 9), max_size=8))
def test_columns_and_taken_rows_agree(capacity: int, sizes: list[int]) -> None:
    store = filled(capacity, [min(size, capacity) for size in sizes])
    numbers = np.arange(store.oldest, store.written)
    assert store.column("conn_id", store.oldest, store.written).tolist() == numbers.tolist()
    assert store.take(numbers, ("conn_id",))["conn_id"].tolist() == numbers.tolist()
    around = np.arange(store.oldest - 2, store.written + 2)
    assert around[store.stored(around)].tolist() == numbers.tolist()


def test_what_a_row_does_not_say_is_not_left_of_the_one_before() -> None:
    store = RequestStore(2)
    for _ in range(2):
        store.add({"conn_id": np.array([7], np.uint64), "status": np.array([404]), "text": np.full((1, TEXT_BYTES), 65)})
    store.add({"conn_id": np.array([8], np.uint64)})
    row = store.take(np.array([2]))
    assert (row["conn_id"].tolist(), row["status"].tolist(), bool(row["text"].any())) == ([8], [0], False)


def test_answers_of_requests_that_are_gone_are_left_out() -> None:
    store = filled(4, [3, 3])
    store.answer(np.array([0, 1, 2, 5]), {"status": np.array([200, 201, 202, 205]), "state": np.full(4, State.ANSWERED)})
    assert store.column("status", 2, 6).tolist() == [202, 0, 0, 205]
    assert store.column("state", 2, 6).tolist() == [State.ANSWERED, State.ASKED, State.ASKED, State.ANSWERED]
    assert store.column("conn_id", 2, 6).tolist() == [2, 3, 4, 5]


def test_texts_are_answered_as_well() -> None:
    store = filled(4, [2])
    host = np.zeros((1, HOST_BYTES), np.uint8)
    host[0, :3] = list(b"web")
    store.answer(np.array([1]), {"host": host})
    assert store.take(np.array([1]))["host"].tobytes().rstrip(b"\0") == b"web"


@pytest.mark.parametrize("last", [3, (1 << 32) - 1, 1 << 32, (1 << 32) + 2, 5 << 32, (1 << 62) + 7])
@pytest.mark.parametrize("back", [0, 1, 3])
def test_numbers_are_found_by_their_last_32_bits(last: int, back: int) -> None:
    store = RequestStore(8)
    store.written = last + 1
    number = np.array([last - back])
    assert store.numbers_of(number.astype(np.uint32)).tolist() == number.tolist()


def test_a_number_that_is_gone_is_not_taken_for_another() -> None:
    store = RequestStore(8)
    store.written = (1 << 32) + 20
    old = np.array([(1 << 32) + 11, (1 << 32) + 12, (1 << 32) - 5])
    assert store.stored(store.numbers_of(old.astype(np.uint32))).tolist() == [False, True, False]


def test_readers_see_whole_answers_while_the_reader_writes() -> None:
    store, wrong = RequestStore(64), []

    def write() -> None:
        for batch in range(300):
            numbers = store.add({"conn_id": np.full(8, batch, np.uint64), "answered": np.full(8, batch)})
            store.answer(numbers, {"conn_id": np.full(8, batch + 1, np.uint64), "answered": np.full(8, batch + 1)})

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        with store.lock:
            rows = store.take(np.arange(store.oldest, store.written), ("conn_id", "answered"))
        if (rows["conn_id"].astype(np.int64) != rows["answered"]).any():
            wrong.append(rows)
    writer.join()
    assert wrong == []


def test_a_request_takes_less_than_a_kilobyte() -> None:
    assert sum(np.dtype((dtype, shape)).itemsize for dtype, shape in COLUMNS.values()) == BYTES_PER_REQUEST < 1_024


def numbers(enum: object, prefix: str = "") -> dict[str, int]:
    return {name.removeprefix(prefix): number for name, number in enum.items()}  # type: ignore[attr-defined]


def test_kinds_states_and_marks_are_those_of_the_api() -> None:
    assert numbers(extension_pb2.RequestKind) == {"REQUEST_KIND_UNKNOWN": 0, **{each.name: int(each) for each in Kind}}
    renamed = {"UNANSWERED": "GIVEN_UP"}
    assert numbers(extension_pb2.RequestState) == {renamed.get(each.name, each.name): int(each) for each in State}
    renamed = {"LATE": "LATE_ANSWER"}
    marks = {renamed.get(each.name or "", each.name): int(each).bit_length() - 1 for each in Flag}
    assert numbers(extension_pb2.RequestMark) == marks


def test_a_method_has_one_number() -> None:
    assert len(set(METHODS)) == len(METHODS) < 256
    assert METHODS[0] == ""
