"""The reader and requests: first bytes to flows, what they tell of connections, and sampling."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
sys.path.insert(0, str(Path(__file__).parents[1] / "l7"))

import http1_samples
from reader_fakes import stored
from samples import record

from flows.agent.l7.redact import Redaction
from flows.agent.l7.requests import Requests
from flows.agent.probe.payload import Origin
from flows.agent.probe.record import Counter, Event
from flows.agent.probe.settings import ProbeSettings
from flows.agent.reader import Reader
from flows.agent.store.requests import RequestStore
from flows.agent.store.store import FlowStore
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from reader_fakes import Enricher, Kernel


@pytest.fixture
def door() -> Requests:
    return Requests(RequestStore(32), Redaction(), 5 * 10**9, 60 * 10**9)


@pytest.fixture
def with_requests(kernel: Kernel, enricher: Enricher, door: Requests, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setattr(time, "monotonic_ns", lambda: 2 * 10**9)
    names: Any = enricher
    return Reader(kernel, names, FlowStore(64), ProbeSettings(payloads_per_second=1_000, sampled_per_second=400), requests=door)


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


def test_of_more_than_the_agent_may_look_at_a_share_is_taken_and_what_is_left_out_is_told(
    with_requests: Reader, kernel: Kernel, door: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(door, "sample", lambda left_out, now_ns: told.append((left_out, now_ns)))
    monkeypatch.setattr(with_requests._pace, "next", lambda lost, now_ns: 0.25)
    with_requests.sweep(full=False)
    kernel.counts[Counter.SAMPLED_OUT], kernel.counts[Counter.PASSED_OVER] = 30, 700
    with_requests.sweep(full=False)
    assert kernel.shares == [0.25, 0.25]
    assert told == [(3 << 30, 2 * 10**9)] * 2
    assert [(loss.reason, loss.count) for loss in with_requests._store.losses] == [("sampled", 30), ("sampled", 700)]


@pytest.mark.parametrize(("handed_over", "sampled"), [(200, False), (600, True)])
def test_far_more_than_the_agent_may_look_at_is_sampled_before_the_next_sweep(
    with_requests: Reader, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, handed_over: int, sampled: bool
) -> None:
    kernel.handed_over = handed_over  # of 1,000 a second
    monkeypatch.setattr(time, "monotonic_ns", lambda: int(2.1 * 10**9))
    with_requests._gather(0.0)
    assert [share < 0.1 for share in kernel.shares] == [True] * sampled


def test_what_is_thinned_of_a_flood_is_told_as_sampled(with_requests: Reader, kernel: Kernel) -> None:
    with_requests._pace.next(1_000_000, 3 * 10**9)
    streams = [http1_samples.Stream(number, start=1_000 * number) for number in range(1, 33)]
    kernel.payloads = [stream.ask() for stream in streams]
    with_requests.batch()
    (loss,) = with_requests._store.losses
    assert (loss.reason, loss.count) == ("sampled", 32 - len(column(with_requests, "event")))
    assert loss.count > 20


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


class PausingPlaintext:
    """Stands in for the thread that reads OpenSSL's plaintext."""

    def __init__(self) -> None:
        self.slice = 0
        self.waiting: tuple[Any, ...] = ()

    def peek(self) -> tuple[Any, ...]:
        return self.waiting

    def release(self) -> None:
        self.waiting = ()


def test_a_request_from_before_a_pause_of_plaintext_is_not_told_unanswered(
    with_requests: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batch of before is paired first: what it answers waits no more."""
    pausing: Any = PausingPlaintext()
    with_requests._plaintext = pausing
    answered, open_ = (http1_samples.Stream(conn_id=number, origin=Origin.TLS_LIBRARY) for number in (7, 8))
    pausing.waiting = (answered.ask(), open_.ask())
    with_requests.batch()
    pausing.waiting, pausing.slice = (answered.answer(),), 1
    with_requests.batch()
    assert column(with_requests, "event") == [Event.REQUEST, Event.REQUEST, Event.RESPONSE]
    monkeypatch.setattr(time, "monotonic_ns", lambda: 100 * 10**9)
    with_requests.batch()
    assert Event.NO_RESPONSE not in column(with_requests, "event")
