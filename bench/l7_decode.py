"""Requests on their way out: what a flow of a stored request or answer costs as Layer7, Summary and flows.v1.Request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bench import l7_dns, l7_http
from bench.figures import Measured
from flows.agent.l7.dns import Dns
from flows.agent.l7.http1 import Http1
from flows.agent.l7.redact import Redaction
from flows.agent.observer import dns_fields
from flows.agent.observer.request_flows import requested
from flows.agent.probe.payload import SHORT_PAYLOAD
from flows.agent.store.requests import RequestStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from flows.agent.l7.events import Events

ROUNDS: Final = 30
READ: Final = 2_000  # flows at a time


def measure() -> Iterator[Measured]:
    """us per flow, CPU time: HTTP, each URL twice; DNS whose answers were read before, and such that were not."""
    store, columns = _http()
    yield Measured("l7_decode_http", _times(store, columns), f"{READ:,} flows at a time, half of them answers")
    store, columns = _dns()
    yield Measured("l7_decode_dns", _times(store, columns), "questions and answers that were read before")
    yield Measured("l7_decode_dns_new", _times(store, columns, forget=True), "questions and answers that were not")


def _times(store: RequestStore, columns: dict[str, NDArray[Any]], *, forget: bool = False) -> list[float]:
    times = []
    for _ in range(ROUNDS):
        if forget:
            dns_fields.forget()
        start = time.thread_time_ns()
        requested(store, columns)
        times.append((time.thread_time_ns() - start) / len(columns["event"]) / 1000)
    return times[1:]


def _http() -> tuple[RequestStore, dict[str, NDArray[Any]]]:
    store = RequestStore(l7_http.REQUESTS)
    payloads = l7_http.payloads_of(SHORT_PAYLOAD, l7_http.SHORT, 0)
    return store, _columns(Http1(store, Redaction()).take(np.concatenate(payloads), 1))


def _dns() -> tuple[RequestStore, dict[str, NDArray[Any]]]:
    store = RequestStore(l7_dns.REQUESTS)
    return store, _columns(Dns(store).take(l7_dns.batch(READ), 1))


def _columns(events: Events) -> dict[str, NDArray[Any]]:
    """Those columns of flows that are looked at, in the order of time."""
    order = np.argsort(events.time_ns, kind="stable")[:READ]
    request, event, time_ns = (column[order] for column in events)
    return {"detail": request.astype(np.uint32), "event": event, "time": time_ns.astype(np.int64) + 1}
