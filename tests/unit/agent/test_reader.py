"""The reader: batches whole and once, losses told, a bad batch counted and the next one kept."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
sys.path.insert(0, str(Path(__file__).parents[1] / "l7"))

from reader_fakes import stored
from samples import record

from flows.agent.probe.record import Counter
from flows.agent.probe.settings import ProbeSettings
from flows.agent.reader import Reader
from flows.agent.store.store import FlowStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from reader_fakes import Enricher, Kernel


def test_a_batch_is_stored_as_it_came(reader: Reader, kernel: Kernel) -> None:
    kernel.waiting = [record(conn_id=number, time_ns=10**9 + number) for number in (3, 1, 2)]
    reader.batch()
    assert stored(reader) == [3, 1, 2]
    assert kernel.waiting == []
    assert (reader.counts.records, reader.counts.batches) == (3, 1)


def test_the_next_agent_is_told_how_far_this_one_came(kernel: Kernel, enricher: Enricher) -> None:
    names: Any = enricher
    told = {Counter.LOST_RING_FULL: 5}
    reader = Reader(kernel, names, FlowStore(16), ProbeSettings(), 77, told)
    kernel.waiting = [record(), record()]
    reader.batch()
    kernel.counts[Counter.LOST_RING_FULL] = 7
    reader.sweep(full=False)
    reader.batch()
    assert [loss.count for loss in reader._store.losses] == [2]
    assert kernel.notes == [(77, 2, 5), (77, 2, 7)]


def test_flows_are_seen_only_when_the_ring_has_let_go_of_them(
    reader: Reader, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an agent that is killed just then has told of them, and the next one tells of them again."""
    released: list[tuple[int, bool]] = []
    monkeypatch.setattr(kernel, "release", lambda: released.append((kernel.notes[-1][1], reader._store.lock.locked())))
    kernel.waiting = [record(), record()]
    reader.batch()
    assert released == [(2, True)]
    assert not reader._store.lock.locked()


def test_who_waits_for_fresh_flows_waits_for_those_behind_a_record_being_written(reader: Reader, kernel: Kernel) -> None:
    told: list[bool] = []
    reader.freshen(lambda: told.append(kernel.complete))
    kernel.complete = False
    reader._round()
    assert told == []
    assert reader._hurried.is_set()
    kernel.complete = True
    reader._round()
    assert told == [True]


def test_no_records_are_no_batch(reader: Reader) -> None:
    reader.batch()
    assert (reader.counts.records, reader.counts.batches) == (0, 0)


def test_a_bad_batch_is_counted_as_lost_and_the_next_one_kept(reader: Reader, kernel: Kernel, enricher: Enricher) -> None:
    enricher.fails, kernel.waiting = True, [record(), record()]
    with pytest.raises(ValueError, match="told to"):
        reader.batch()
    enricher.fails, kernel.waiting = False, [record(conn_id=7)]
    reader.batch()
    assert stored(reader) == [7]
    assert [(loss.reason, loss.count) for loss in reader._store.losses] == [("agent error", 2)]


@pytest.mark.parametrize(
    ("counter", "reason"),
    [
        (Counter.LOST_RING_FULL, "ring full"),
        (Counter.LOST_CONNECTION, "connection table full"),
        (Counter.LOST_EXCHANGE, "exchange table full"),
        (Counter.LOST_PAYLOAD, "request ring full"),
        (Counter.LOST_END, "end of connection missed"),
        (Counter.NOT_RUN, "program not run"),
        (Counter.SAMPLED_OUT, "sampled"),
        (Counter.PASSED_OVER, "sampled"),
    ],
)
def test_kernel_losses_are_told_once_each(reader: Reader, kernel: Kernel, counter: Counter, reason: str) -> None:
    for total in (5, 5, 12):
        kernel.counts[counter] = total
        reader.sweep(full=False)
    assert [(loss.reason, loss.count) for loss in reader._store.losses] == [(reason, 5), (reason, 7)]


@pytest.mark.parametrize(
    ("full", "pending", "swept"),
    [(False, 0, []), (False, 2, ["connections"]), (True, 0, ["all"]), (True, 2, ["all"])],
)
def test_sweeps_only_look_where_something_can_be(
    reader: Reader, kernel: Kernel, full: bool, pending: int, swept: list[str]
) -> None:
    kernel.counts[Counter.SYNS_PENDING] = pending
    reader.sweep(full=full)
    assert kernel.swept == swept


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_thread_goes_on_after_a_fault_and_until_it_is_stopped(reader: Reader, kernel: Kernel, enricher: Enricher) -> None:
    enricher.fails, kernel.waiting = True, [record()]
    reader.start()
    until(lambda: reader.counts.faults > 0)
    enricher.fails = False
    kernel.waiting = [record(conn_id=7)]
    until(lambda: reader.counts.records > 0)
    reader.stop()
    assert stored(reader) == [7]


def test_who_asks_for_fresh_flows_is_told_when_they_are_stored(reader: Reader, kernel: Kernel) -> None:
    fresh = threading.Event()
    kernel.waiting = [record(conn_id=7)]
    reader.freshen(fresh.set)
    reader.start()
    assert fresh.wait(10)
    assert stored(reader) == [7]
    reader.stop()


@pytest.mark.parametrize(("filled", "hurried", "waited"), [(0.0, False, 1.0), (0.3, False, 0.2), (0.0, True, 0.1)])
def test_more_is_let_in_until_a_ring_fills_or_somebody_hurries(
    reader: Reader, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, filled: float, hurried: bool, waited: float
) -> None:
    clock = [0.0]

    def wait(seconds: float) -> bool:
        clock[0] += seconds
        kernel.filled = filled if clock[0] >= 0.2 else 0.0
        return hurried

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(reader._hurried, "wait", wait)
    reader._gather(until=100.0)
    assert clock[0] == pytest.approx(waited)


def test_a_sweep_that_is_due_ends_the_wait_for_more(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: 50.0 + sum(waits))
    monkeypatch.setattr(reader._hurried, "wait", waits.append)
    reader._gather(until=50.25)
    assert waits == pytest.approx([0.1, 0.1, 0.05])
    reader._gather(until=50.0)
    assert len(waits) == 3
