"""The ring of flows: order, overwriting, numbers, late names, losses."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import T0, WALL, packed, record

from flows.agent.probe.record import Event
from flows.agent.store.columns import BYTES_PER_FLOW
from flows.agent.store.process_names import MAX_NAMES, ProcessNames
from flows.agent.store.store import MAX_LOSSES, FlowStore, Renaming, Told


def filled(capacity: int, batches: list[int]) -> FlowStore:
    """A store that got batches of so many flows; conn_id counts all flows from 0."""
    store, number = FlowStore(capacity), 0
    for size in batches:
        rows = np.concatenate([record(conn_id=number + i, time_ns=T0 + number + i) for i in range(size)] or [record()[:0]])
        ends = np.zeros(size, np.uint32)
        store.append(rows, ends, ends, WALL)
        number += size
    return store


@pytest.mark.parametrize(
    ("capacity", "batches", "stored"),
    [
        (4, [], []),
        (4, [3], [0, 1, 2]),
        (4, [4], [0, 1, 2, 3]),
        (4, [3, 3], [2, 3, 4, 5]),
        (4, [9], [5, 6, 7, 8]),
        (4, [0, 1], [0]),
        (1, [1, 1, 1], [2]),
        (5, [3, 4, 5], [7, 8, 9, 10, 11]),
    ],
)
def test_the_newest_flows_stay_in_order(capacity: int, batches: list[int], stored: list[int]) -> None:
    store = filled(capacity, batches)
    assert store.written == sum(batches)
    assert store.column("conn_id", store.oldest, store.written).tolist() == stored


@given(st.integers(1, 9), st.lists(st.integers(0, 12), max_size=8))
def test_columns_and_taken_rows_agree(capacity: int, batches: list[int]) -> None:
    store = filled(capacity, batches)
    numbers = np.arange(store.oldest, store.written)
    assert store.column("conn_id", store.oldest, store.written).tolist() == numbers.tolist()
    assert store.take(numbers)["time"].tolist() == (numbers + T0 + WALL).tolist()


def test_times_are_wall_clock_and_an_unknown_start_stays_unknown() -> None:
    store = FlowStore(4)
    ends = np.zeros(2, np.uint32)
    store.append(np.concatenate([record(start_ns=T0), record(start_ns=0)]), ends, ends, WALL)
    assert store.column("start", 0, 2).tolist() == [T0 + WALL, 0]


def test_a_flow_takes_at_most_128_bytes() -> None:
    assert BYTES_PER_FLOW <= 128


def test_losses_keep_their_place() -> None:
    store = filled(4, [2])
    store.lose("ring full", 7, 1, 2)
    assert [(loss.position, loss.reason, loss.count) for loss in store.losses] == [(2, "ring full", 7)]


def test_old_losses_are_added_up_by_reason() -> None:
    store = FlowStore(4)
    for at in range(MAX_LOSSES + 2):
        store.lose("ring full" if at % 2 else "table full", 1, at, at + 1)
    assert len(store.losses) == MAX_LOSSES
    assert sum(loss.count for loss in store.losses) == MAX_LOSSES + 2
    first, second, *_ = store.losses
    assert [(one.reason, one.count, one.first_ns, one.last_ns) for one in (first, second)] == [
        ("table full", 2, 0, 3), ("ring full", 2, 1, 4)
    ]  # fmt: skip


def test_late_names_reach_flows_since_then_that_had_a_weak_name() -> None:
    store = FlowStore(8)
    rows = np.concatenate(
        [record(time_ns=T0 + i, remote_addr=address) for i, address in enumerate(["10.0.0.2"] * 3 + ["10.0.0.3"])]
    )
    store.append(rows, np.zeros(4, np.uint32), np.array([4, 4, 2, 4], np.uint32), WALL)
    renaming = Renaming(np.array([9], np.uint32), np.array([0, 4], np.uint32))
    store.rename_addresses("remote", packed("10.0.0.2")[None], np.array([T0 + 1 + WALL]), renaming)
    assert store.column("remote", 0, 4).tolist() == [4, 9, 2, 4]


def test_late_names_by_connection() -> None:
    store = filled(8, [3])
    store.rename_connections(np.array([1], np.uint64), Renaming(np.array([9], np.uint32), np.array([0], np.uint32)))
    assert store.column("remote", 0, 3).tolist() == [0, 9, 0]


def told(*of: tuple[int, int, int]) -> Told:
    """Of (connection, what is spoken, name's detail) each."""
    columns = [np.array(column, dtype) for column, dtype in zip(zip(*of, strict=True), ("u8", "u1", "u4"), strict=True)]
    return Told(*columns)


@pytest.mark.parametrize(
    ("news", "spoken", "names"),
    [
        ([(1, 2, 0)], [0, 2, 0, 2], [0, 0, 0, 0]),
        ([(1, 0, 9)], [0, 0, 0, 0], [0, 9, 0, 9]),
        ([(1, 2, 0), (1, 0, 9)], [0, 2, 0, 2], [0, 9, 0, 9]),
        ([(1, 0, 9), (1, 2, 0), (2, 4, 8)], [0, 2, 4, 2], [0, 9, 8, 9]),
        ([(1, 2, 9), (1, 3, 0)], [0, 3, 0, 3], [0, 9, 0, 9]),
        ([(5, 2, 9)], [0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_flows_of_connections_are_told_what_first_bytes_tell(
    news: list[tuple[int, int, int]], spoken: list[int], names: list[int]
) -> None:
    store, ends = FlowStore(8), np.zeros(4, np.uint32)
    store.append(np.concatenate([record(conn_id=number) for number in (0, 1, 2, 1)]), ends, ends, WALL)
    store.tell_connections(told(*news), 100)
    assert store.column("icmp_code", 0, 4).tolist() == spoken
    assert store.column("detail", 0, 4).tolist() == names


def test_only_the_last_flows_of_connections_are_told_and_no_request() -> None:
    store, ends = FlowStore(4), np.zeros(6, np.uint32)
    events = [Event.ACTIVE, Event.ACTIVE, Event.ACTIVE, Event.REQUEST, Event.ACTIVE, Event.RESPONSE]
    store.append(np.concatenate([record(event=event) for event in events]), ends, ends, WALL, details=np.arange(6, dtype="u4"))
    store.tell_connections(told((1, 2, 9)), 3)
    assert store.column("icmp_code", 2, 6).tolist() == [0, 0, 2, 0]
    assert store.column("detail", 2, 6).tolist() == [2, 3, 9, 5]
    assert store.details_in_use().tolist() == [2, 9]


@pytest.mark.parametrize("capacity", [2, 3, 8])
def test_details_stay_with_their_flows(capacity: int) -> None:
    store, ends = FlowStore(capacity), np.zeros(5, np.uint32)
    rows = np.concatenate([record(conn_id=number) for number in range(5)])
    store.append(rows, ends, ends, WALL, details=np.arange(10, 15, dtype=np.uint32))
    first = store.oldest
    details, connections = store.column("detail", first, 5).tolist(), store.column("conn_id", first, 5).tolist()
    assert details == [10 + number for number in connections]
    assert len(details) == 5 - first


def test_rate_is_over_the_last_seconds() -> None:
    store = filled(8, [4])
    now = T0 + WALL + 2_000_000_000
    assert store.rate(now, 60) == pytest.approx(2.0, rel=0.01)
    assert store.rate(now + 300_000_000_000, 60) == 0
    assert FlowStore(4).rate(now, 60) == 0


def test_readers_see_whole_batches_while_a_writer_writes() -> None:
    store, wrong = FlowStore(64), []
    ends = np.zeros(8, np.uint32)

    def write() -> None:
        for batch in range(200):
            store.append(np.concatenate([record(conn_id=batch)] * 8), ends, ends, WALL)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        with store.lock:
            ids = store.column("conn_id", store.oldest, store.written)
            if len(ids) % 8 or not (ids.reshape(-1, 8) == ids[::8, None]).all():
                wrong.append(ids)
    writer.join()
    assert wrong == []


def names(*texts: bytes) -> np.ndarray:
    return np.array(texts, "S16")


def test_process_names_are_kept_once() -> None:
    processes = ProcessNames()
    numbers = processes.numbers(names(b"nginx", b"curl", b"nginx", b""))
    assert [processes[number] for number in numbers] == ["nginx", "curl", "nginx", ""]
    assert numbers[0] == numbers[2] == processes.numbers(names(b"nginx"))[0]
    assert numbers[3] == 0


def test_process_names_are_bounded() -> None:
    processes = ProcessNames()
    many = np.array([f"worker-{i}".encode() for i in range(MAX_NAMES + 10)], "S16")
    numbers = processes.numbers(many)
    assert numbers.max() == MAX_NAMES - 1
    assert (processes.numbers(many) == 0).sum() == 11


@given(st.lists(st.binary(max_size=16), min_size=1, max_size=20))
def test_any_bytes_are_a_name(raw: list[bytes]) -> None:
    processes = ProcessNames()
    for number, text in zip(processes.numbers(names(*raw)), names(*raw), strict=True):
        assert processes[number] == bytes(text).split(b"\0", 1)[0].decode(errors="replace")
