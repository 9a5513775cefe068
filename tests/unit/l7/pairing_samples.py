"""HTTP/1 requests and answers that name each other, split into calls at will, and who is paired with whom then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from http1_samples import MS, T0, Station

from flows.agent.store.request_columns import Flag, State

if TYPE_CHECKING:
    from collections.abc import Iterable

Payload = np.ndarray[Any, Any]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n"
ALIKE = b"GET /x HTTP/1.1\r\n\r\n"
ANSWER_ALIKE = b"HTTP/1.1 599 No\r\n\r\n"
PIPELINED, ANSWERED, ASKED, ALONE = Flag.PIPELINED, State.ANSWERED, State.ASKED, State.ALONE
TWO_PAIRS = [("/1", ANSWERED, 401, False), ("/2", ANSWERED, 402, False)]


def get(name: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\n\r\n" % name


def post(name: int, size: int) -> bytes:
    return b"POST /%d HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (name, size)


def sized(name: int, size: int = 0) -> bytes:
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n" % (400 + name, size)


def chunked(name: int) -> bytes:
    return b"HTTP/1.1 %d OK\r\nTransfer-Encoding: chunked\r\n\r\n" % (400 + name)


def simple(station: Station) -> list[tuple[str, int, int, bool]]:
    """Path, state, status, whether pipelined; in order of requests, then answers alone."""
    rows = sorted(station.rows(), key=lambda row: (row["state"] == ALONE, row["time"], row["answered"]))
    return [(row["text"].decode(), row["state"], row["status"], bool(row["flags"] & PIPELINED)) for row in rows]


def taken(payloads: list[Payload], sizes: Iterable[int]) -> Station:
    """In calls of so many payloads; the rest in one."""
    station, begin = Station(), 0
    for size in sizes:
        if payloads[begin : begin + size]:
            station.take(*payloads[begin : begin + size])
        begin += size
    if payloads[begin:]:
        station.take(*payloads[begin:])
    for _ in range(4):
        station.settle()
    return station.expire(T0 + 1000 * MS)
