"""The door to all handlers with its store, and what it gave in a form that tests compare."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flows.agent.l7.redact import Redaction
from flows.agent.l7.requests import Read, Requests
from flows.agent.probe.payload import LONG_PAYLOAD, SHORT_PAYLOAD
from flows.agent.probe.record import RECORD, Event
from flows.agent.store.public_names import NameSource, number_of, source_of
from flows.agent.store.requests import RequestStore
from flows.proto import extension_pb2

S, MS = 1_000_000_000, 1_000_000
WALL = 1_700_000_000 * S
NOTHING = np.zeros(0, RECORD)
SPOKEN = {"http1": extension_pb2.SPOKEN_HTTP1, "dns": extension_pb2.SPOKEN_DNS, "tls": extension_pb2.SPOKEN_TLS}


class Row(NamedTuple):
    """A flow of a request."""

    event: Event
    conn_id: int
    time_ns: int
    request: int


class Door:
    """Requests with their store, and all they gave."""

    def __init__(self, capacity: int = 64, rules: Redaction | None = None) -> None:
        self.store = RequestStore(capacity)
        self.requests = Requests(self.store, rules or Redaction(), 5 * S, 60 * S)

    def read(self, *payloads: np.ndarray[Any, Any], records: np.ndarray[Any, Any] = NOTHING) -> Read:
        """One batch, long ones first, as the probe gives it."""
        by_size = [[one for one in payloads if one.dtype == dtype] for dtype in (LONG_PAYLOAD, SHORT_PAYLOAD)]
        return self.requests.read(records, [np.concatenate(some) for some in by_size if some], WALL)

    def rows(self, read: Read, records: int = 0) -> list[Row]:
        """Flows of requests, which follow those of connections."""
        columns = [read.records[name][records:].tolist() for name in ("event", "conn_id", "time_ns")]
        return [Row(Event(event), *rest) for event, *rest in zip(*columns, read.details[records:].tolist(), strict=True)]

    def told(self, read: Read) -> list[tuple[int, int, str, NameSource | int]]:
        """Connection, what is spoken, name, where it is from."""
        names = [self.requests.names.names.name(number) for number in number_of(read.told.names).tolist()]
        sources = source_of(read.told.names).tolist()
        return list(zip(read.told.connections.tolist(), read.told.spoken.tolist(), names, sources, strict=True))

    def details(self, read: Read) -> list[tuple[int, str, int]]:
        """Of connections' records what is spoken, the name, and where it is from."""
        names = [self.requests.names.names.name(number) for number in number_of(read.details).tolist()]
        return list(zip(read.records["icmp_code"].tolist(), names, source_of(read.details).tolist(), strict=True))
