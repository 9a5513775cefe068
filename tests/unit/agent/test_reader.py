"""The reader: batches whole and once, losses told, a bad batch counted and the next one kept."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
sys.path.insert(0, str(Path(__file__).parents[1] / "l7"))

import http1_samples
from samples import Names, record

from flows.agent import reader as reader_module
from flows.agent.l7.redact import Redaction
from flows.agent.l7.requests import Requests
from flows.agent.probe.payload import LONG_PAYLOAD, SHORT_PAYLOAD
from flows.agent.probe.record import RECORD, Counter, Event
from flows.agent.probe.settings import ProbeSettings
from flows.agent.reader import Reader
from flows.agent.store.requests import RequestStore
from flows.agent.store.store import FlowStore
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray


class Kernel:
    """Stands in for a probe: records and counters that a test puts in."""

    def __init__(self) -> None:
        self.waiting: list[NDArray[Any]] = []
        self.payloads: list[NDArray[Any]] = []
        self.shares: list[float] = []
        self.counts = dict.fromkeys(Counter, 0)
        self.swept: list[str] = []
        self.complete = True
        self.filled = 0.0
        self.notes: list[tuple[int, int, int]] = []

    def wait(self, seconds: float) -> None:
        """Nothing to wait for."""

    def peek(self) -> NDArray[Any]:
        return np.concatenate(self.waiting) if self.waiting else np.zeros(0, RECORD)

    def note(self, instance: int, written: int, told: Mapping[Counter, int]) -> None:
        self.notes.append((instance, written, told[Counter.LOST_RING_FULL]))

    def peek_payloads(self) -> tuple[NDArray[Any], ...]:
        return np.zeros(0, LONG_PAYLOAD), np.concatenate([np.zeros(0, SHORT_PAYLOAD), *self.payloads])

    def sample(self, share: float) -> None:
        self.shares.append(share)

    def release(self) -> None:
        self.waiting, self.payloads = [], []

    def wake(self) -> None:
        """Nobody sleeps here."""

    def sweep(self) -> None:
        self.swept.append("all")

    def sweep_connections(self) -> None:
        self.swept.append("connections")

    def counters(self) -> dict[Counter, int]:
        return dict(self.counts)


class Enricher(Names):
    """Names everything 1 and 2; fails when told to."""

    fails = False

    def resolve(self, records: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.fails:
            raise ValueError("told to")
        return np.full(len(records), 1, np.uint32), np.full(len(records), 2, np.uint32)

    def apply_changes(self) -> None:
        """Nothing changes."""

    def late_names(self) -> list[Any]:
        return []

    def retain(self, numbers: NDArray[Any]) -> None:
        """Numbers are never given back here."""
        self.retained = numbers.tolist()


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def enricher() -> Enricher:
    return Enricher()


@pytest.fixture
def reader(kernel: Kernel, enricher: Enricher) -> Reader:
    names: Any = enricher
    return Reader(kernel, names, FlowStore(16), ProbeSettings())


def stored(reader: Reader) -> list[int]:
    return [int(number) for number in reader._store.column("conn_id", 0, reader._store.written)]


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
        (Counter.SAMPLED_OUT, "sampled"),
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

    monkeypatch.setattr(reader_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(reader._hurried, "wait", wait)
    reader._gather(until=100.0)
    assert clock[0] == pytest.approx(waited)


def test_a_sweep_that_is_due_ends_the_wait_for_more(reader: Reader) -> None:
    reader._gather(until=time.monotonic() - 1)
    assert not reader._hurried.is_set()


@pytest.fixture
def door() -> Requests:
    return Requests(RequestStore(32), Redaction(), 5 * 10**9, 60 * 10**9)


@pytest.fixture
def with_requests(kernel: Kernel, enricher: Enricher, door: Requests, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setattr(time, "monotonic_ns", lambda: 2 * 10**9)
    names: Any = enricher
    return Reader(kernel, names, FlowStore(64), ProbeSettings(payloads_per_second=1_000), requests=door)


def column(reader: Reader, name: str) -> list[Any]:
    values: list[Any] = reader._store.column(name, reader._store.oldest, reader._store.written).tolist()
    return values


def test_first_bytes_become_flows_with_their_requests_numbers(with_requests: Reader, kernel: Kernel) -> None:
    stream = http1_samples.Stream(conn_id=7)
    kernel.waiting = [record(conn_id=7, event=Event.ESTABLISHED)]
    kernel.payloads = [stream.ask(), stream.answer()]
    with_requests.batch()
    assert column(with_requests, "event") == [Event.ESTABLISHED, Event.REQUEST, Event.RESPONSE]
    assert column(with_requests, "detail")[1:] == [0, 0]
    assert (column(with_requests, "local"), column(with_requests, "remote")) == ([1] * 3, [2] * 3)
    assert (kernel.waiting, kernel.payloads) == ([], [])
    assert with_requests.counts.records == 3


def test_first_bytes_without_a_record_are_a_batch(with_requests: Reader, kernel: Kernel) -> None:
    kernel.payloads = [http1_samples.Stream().ask()]
    with_requests.batch()
    assert column(with_requests, "event") == [Event.REQUEST]
    assert (kernel.payloads, kernel.notes[-1][1]) == ([], 1)


def test_flows_of_before_are_told_what_their_connection_speaks_and_its_name(
    with_requests: Reader, kernel: Kernel, door: Requests
) -> None:
    kernel.waiting = [record(conn_id=7, event=Event.ESTABLISHED), record(conn_id=8, event=Event.ESTABLISHED)]
    with_requests.batch()
    assert column(with_requests, "icmp_code") == [0, 0]
    kernel.payloads = [http1_samples.Stream(conn_id=7).ask()]
    with_requests.batch()
    assert column(with_requests, "icmp_code") == [extension_pb2.SPOKEN_HTTP1, 0, 0]
    kept = [number & 0xFFFF for number in column(with_requests, "detail")]
    assert [door.names.names.name(number) for number in kept[:2]] == ["api.example.com", ""]


def test_who_does_not_look_at_first_bytes_leaves_them(reader: Reader, kernel: Kernel) -> None:
    kernel.payloads = [http1_samples.Stream().ask()]
    kernel.waiting = [record(conn_id=7)]
    reader.batch()
    reader.sweep(full=False)
    assert stored(reader) == [7]
    assert kernel.shares == []


def test_an_exception_loses_first_bytes_counted_and_the_next_batch_is_kept(
    with_requests: Reader, kernel: Kernel, enricher: Enricher
) -> None:
    stream = http1_samples.Stream()
    enricher.fails, kernel.waiting, kernel.payloads = True, [record()], [stream.ask(), stream.answer()]
    with pytest.raises(ValueError, match="told to"):
        with_requests.batch()
    enricher.fails = False
    kernel.payloads = [stream.ask(), stream.answer()]
    with_requests.batch()
    assert column(with_requests, "event") == [Event.REQUEST, Event.RESPONSE]
    assert [(loss.reason, loss.count) for loss in with_requests._store.losses] == [("agent error", 3)]


class Offered:
    """So many first bytes a second; half of them left out by the kernel."""

    def __init__(self, reader: Reader, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reader, self.kernel, self.now = reader, kernel, reader._counted_ns
        self.patch = monkeypatch

    def second(self, taken: int, left_out: int = 0) -> float:
        """The share from now on."""
        self.reader._taken += taken
        self.kernel.counts[Counter.SAMPLED_OUT] += left_out
        self.now += 10**9
        self.patch.setattr(reader_module.time, "time_ns", lambda: self.now)
        self.reader.sweep(full=False)
        return self.kernel.shares[-1]


def test_of_more_than_the_agent_may_look_at_a_share_is_taken_and_told(
    with_requests: Reader, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = Offered(with_requests, kernel, monkeypatch)
    shares = [offered.second(1_000), offered.second(4_000), offered.second(1_000, 3_000), offered.second(500, 1_500)]
    assert shares == pytest.approx([1.0, 0.25, 0.25, 0.5])
    assert offered.second(10, 5) == 1.0
    assert [(loss.reason, loss.count) for loss in with_requests._store.losses] == [
        ("sampled", 3_000), ("sampled", 1_500), ("sampled", 5)
    ]  # fmt: skip


def test_what_the_kernel_had_no_room_for_counts_as_offered(
    with_requests: Reader, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = Offered(with_requests, kernel, monkeypatch)
    kernel.counts[Counter.LOST_PAYLOAD] += 3_000
    assert offered.second(1_000) == 0.25


@pytest.mark.parametrize(("taken", "seconds", "overrun"), [(140, 0.01, False), (160, 0.01, True), (160, 0.2, False)])
def test_far_more_than_the_agent_may_look_at_is_sampled_before_the_next_sweep(
    with_requests: Reader, monkeypatch: pytest.MonkeyPatch, taken: int, seconds: float, overrun: bool
) -> None:
    with_requests._taken = taken  # of 1,000 a second
    now = with_requests._counted_ns + int(seconds * 10**9)
    monkeypatch.setattr(reader_module.time, "time_ns", lambda: now)
    assert with_requests._overrun() is overrun


def test_lost_first_bytes_are_told_to_who_follows_connections(
    with_requests: Reader, kernel: Kernel, door: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(door, "lost", told.append)
    with_requests.sweep(full=False)
    kernel.counts[Counter.LOST_PAYLOAD] = 3
    with_requests.sweep(full=False)
    with_requests.sweep(full=False)
    assert told == [2 * 10**9]
    assert [(loss.reason, loss.count) for loss in with_requests._store.losses] == [("request ring full", 3)]


def test_endpoints_and_names_of_stored_flows_are_kept(
    with_requests: Reader, kernel: Kernel, enricher: Enricher, door: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[list[int]] = []
    monkeypatch.setattr(door, "retain", lambda details: kept.append(details.tolist()))
    kernel.waiting, kernel.payloads = [record(conn_id=7, event=Event.ACTIVE)], [http1_samples.Stream(conn_id=7).ask()]
    with_requests.batch()
    kernel.payloads = [http1_samples.Stream(conn_id=9).ask()]
    with_requests.batch()
    with_requests._retain()
    assert enricher.retained == [1, 2]
    (details,) = kept
    of_connections = column(with_requests, "detail")[0]
    assert details == [of_connections]  # the requests' numbers 0 and 1 are no names
    assert of_connections
