"""HTTP/2 and gRPC: payload records of header frames to requests with their answers (RFC 9113, RFC 7541, gRPC over HTTP2).

DATA frames are not handed over: where a body ends is not seen, and only headers are counted. Flag.MIDDLE says that headers are
unknown, since the connection was joined in the middle or records were lost: then the answer's time may be that of its trailers.
A gRPC call's answer is told when its trailers come, since they have its status; `answered` is the time of its first headers.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from flows.agent.l7.http2_connection import Connection
from flows.agent.l7.http2_frames import Record
from flows.agent.l7.http2_headers import Memory
from flows.agent.l7.http2_rows import HEAD, Rows
from flows.agent.probe.payload import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from flows.agent.l7.events import Events
    from flows.agent.l7.redact import Redaction
    from flows.agent.store.requests import RequestStore

TIMEOUT_NS = 60 * 10**9  # nginx's proxy_read_timeout, and what most proxies take for one
HOLD_NS = 10**9  # how long records wait for earlier ones: rings are read one after the other, by batches far shorter than this
SWEEP_NS = 10**9  # time between two looks at all requests for those that waited too long
MAX_BYTES = 32 << 20  # for all connections: some 7,000 quiet ones, or 50,000 open requests


class Http2:
    """Handler of HTTP2 and HTTP2_MORE."""

    def __init__(self, store: RequestStore, rules: Redaction, timeout_ns: int = TIMEOUT_NS, max_bytes: int = MAX_BYTES) -> None:
        """store: where requests go; rules: what may be kept of them; timeout_ns: how long an answer may take."""
        self._rules, self._timeout_ns, self._max_bytes = rules, timeout_ns, max_bytes
        self._memory, self._rows = Memory(), Rows(store)
        self._connections: OrderedDict[int, Connection] = OrderedDict()
        self._holding: set[int] = set()
        self._bytes = 0
        self._swept_ns = 0
        self._counts: Counter[str] = Counter()

    def take(self, payloads: NDArray[np.void], to_wall_ns: int) -> Events:
        """See Handler."""
        self._rows.begin(to_wall_ns)
        known = payloads["conn_id"] != 0
        self._counts["http2_records_without_connection"] += int(np.count_nonzero(~known))
        if known.any():
            self._take_all(payloads[known])
        return self._rows.end()

    def expire(self, now_ns: int, to_wall_ns: int) -> Events:
        """See Handler."""
        self._rows.begin(to_wall_ns)
        self._release(now_ns - HOLD_NS)
        if now_ns >= self._swept_ns + SWEEP_NS:
            self._swept_ns = now_ns
            for connection in self._connections.values():
                connection.expire(now_ns - self._timeout_ns, now_ns)
        return self._rows.end()

    def ended(self, connections: NDArray[np.uint64], time_ns: NDArray[np.uint64], to_wall_ns: int) -> Events:
        """See Handler."""
        self._rows.begin(to_wall_ns)
        plain = _keys(connections, np.zeros(len(connections), bool)).tolist() if self._connections else []
        for key, ended_ns in zip(plain, time_ns.tolist(), strict=False):
            self._end(key, ended_ns)
            self._end(key | 1, ended_ns)
        return self._rows.end()

    def lost(self, time_ns: int, *, plaintext_only: bool = False) -> None:
        """Records from before time_ns (CLOCK_MONOTONIC) were lost, and nobody knows whose; or of plaintext, all were.

        For losses that no later record of the same direction shows: answers to all that is open may be among them.
        """
        for key, connection in self._connections.items():
            if key & 1 or not plaintext_only:
                connection.lost(time_ns)

    def counts(self) -> dict[str, int]:
        """See Handler."""
        return dict(+self._counts)

    def _take_all(self, payloads: NDArray[np.void]) -> None:
        keys = _keys(payloads["conn_id"], payloads["origin"] == Origin.TLS_LIBRARY)
        order = np.lexsort((payloads["number"], payloads["time_ns"], keys))
        payloads, keys = payloads[order], keys[order]
        starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1])).tolist()
        records, sent = _records(payloads), (payloads["sent"] != 0).tolist()
        for first, last in zip(starts, [*starts[1:], len(keys)], strict=True):
            self._take(int(keys[first]), zip(records[first:last], sent[first:last], strict=True))
        self._release(int(payloads["time_ns"].max()) - HOLD_NS)

    def _take(self, key: int, records: Iterator[tuple[Record, bool]]) -> None:
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = Connection(self._rules, self._memory, self._counts, self._rows)
        self._connections.move_to_end(key)
        for record, sent in records:
            connection.take(record, sent)
        self._weigh(key, connection)
        while self._bytes > self._max_bytes and len(self._connections) > 1:
            self._forget_oldest()

    def _end(self, key: int, time_ns: int) -> None:
        connection = self._connections.pop(key, None)
        if connection is not None:
            self._bytes -= connection.weight
            self._holding.discard(key)
            connection.end(time_ns)

    def _weigh(self, key: int, connection: Connection) -> None:
        weight = connection.bytes_kept
        self._bytes += weight - connection.weight
        connection.weight = weight
        if connection.holds:
            self._holding.add(key)
        else:
            self._holding.discard(key)

    def _forget_oldest(self) -> None:
        key, connection = self._connections.popitem(last=False)
        self._bytes -= connection.weight
        self._holding.discard(key)
        self._counts["http2_connections_over_limit"] += 1
        self._counts["http2_streams_over_limit"] += connection.open_streams

    def _release(self, until_ns: int) -> None:
        for key in list(self._holding):
            connection = self._connections[key]
            connection.release(until_ns)
            self._weigh(key, connection)


def _keys(connections: NDArray[np.uint64], plaintext: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """What the kernel sees of a connection and what OpenSSL gets are numbered each by itself."""
    return (connections << np.uint64(1)) | plaintext.astype(np.uint64)


def _records(payloads: NDArray[np.void]) -> list[Record]:
    raw, size, head = payloads.tobytes(), payloads.dtype.itemsize, HEAD.itemsize
    width = payloads["text"].shape[1]
    captured = np.minimum(payloads["captured"], width).tolist()
    columns = (payloads[name].tolist() for name in ("time_ns", "kind", "length", "number"))
    return [
        Record(time_ns, kind, length, number, raw[at + head : at + head + kept], raw[at : at + head])
        for at, time_ns, kind, length, number, kept in zip(range(0, len(raw), size), *columns, captured, strict=True)
    ]
