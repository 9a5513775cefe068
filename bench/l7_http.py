"""HTTP/1: what a payload record costs the agent in user space, from the ring to a stored request with its answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np

from bench import records
from bench.figures import Measured
from flows.agent.l7.http1 import Http1
from flows.agent.l7.redact import Redaction
from flows.agent.l7.requests import Requests
from flows.agent.options import DEFAULT_FLOWS
from flows.agent.probe.payload import LONG_PAYLOAD, SHORT_PAYLOAD, PayloadKind, joined, whole
from flows.agent.probe.record import RECORD
from flows.agent.probe.settings import SECOND, ProbeSettings
from flows.agent.reader import Reader
from flows.agent.store.request_columns import State
from flows.agent.store.requests import RequestStore
from flows.agent.store.store import FlowStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BATCH: Final = 4096  # half of them requests: what an agent takes at once that sees both ends of 1,000 requests/s
CONNECTIONS: Final = 256
SMALL: Final = 400
BATCHES: Final = 60
WARM_UP: Final = 16  # the store is filled once
REQUESTS: Final = 32_768  # kept, as by default
SHORT: Final = (
    b"GET /media/%s/seg-%05d.m4s?session=%x HTTP/1.1\r\nHost: cache-%d.media.svc.cluster.local:8080\r\n"
    b"Range: bytes=0-65535\r\nAccept: */*\r\n\r\n"
)
LONG: Final = (
    b"GET /media/%s/seg-%05d.m4s?session=%x HTTP/1.1\r\nHost: cache-%d.media.svc.cluster.local:8080\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nCookie: session=abcdef; theme=dark\r\n"
    b"Referer: http://media.example.com/watch?v=1\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n\r\n"
)
ANSWER: Final = (
    b"HTTP/1.1 206 Partial Content\r\nServer: nginx/1.24.0\r\nDate: Wed, 21 Oct 2026 07:28:00 GMT\r\n"
    b"Content-Type: video/mp4\r\nContent-Length: %d\r\nLast-Modified: Wed, 21 Oct 2026 07:00:00 GMT\r\n"
    b"Connection: keep-alive\r\n\r\n"
)


class UnpairedError(Exception):
    """Not all requests met their answers: what was timed is not the path that is meant."""


def measure() -> Iterator[Measured]:
    """Keep-alive connections with short requests, then with those of browsers; ns per record of each batch, CPU time."""
    yield _figure("l7_http", SHORT_PAYLOAD, SHORT, "half requests, half answers, 256 connections kept alive")
    yield _path()
    yield _figure("l7_http_small", SHORT_PAYLOAD, SHORT, f"the same in batches of {SMALL}", SMALL)
    yield _figure("l7_http_long", LONG_PAYLOAD, LONG, "requests of browsers, in records of 2,048 bytes")


def _figure(name: str, dtype: np.dtype[np.void], request: bytes, note: str, size: int = BATCH) -> Measured:
    store = RequestStore(REQUESTS)
    handler = Http1(store, Redaction())
    times = [_batch_ns(handler, *payloads_of(dtype, request, turn, size)) / size for turn in range(BATCHES)]
    states = store.take(np.arange(store.oldest, store.written), ("state",))["state"]
    if store.written != BATCHES * size // 2 or (states != State.ANSWERED).any():
        raise UnpairedError(f"{(states != State.ANSWERED).sum()} of {len(states)} requests without answer; {handler.counts()}")
    return Measured(name, times[WARM_UP:], note)


def _path() -> Measured:
    """All that the agent's reader does of a batch: copied, looked at, paired, stored, named and counted."""
    with records.cluster() as (enricher, cgroups):
        source = Slots([_of_pods(payloads_of(SHORT_PAYLOAD, SHORT, turn), cgroups) for turn in range(BATCHES)])
        requests = Requests(RequestStore(REQUESTS), Redaction(), SECOND, SECOND)
        reader = Reader(source, enricher, FlowStore(DEFAULT_FLOWS), ProbeSettings(), requests=requests)
        times = [_reader_ns(reader) / BATCH for _ in range(BATCHES)]
    if reader.counts.records != BATCHES * BATCH:
        raise UnpairedError(f"{reader.counts.records} flows of {BATCHES * BATCH} payloads; {requests.counts()}")
    return Measured("l7_http_path", times[WARM_UP:], f"the same payloads; {records.PODS:,} pods known, batches of {BATCH:,}")


class Slots(records.Replay):
    """A probe whose slots hold these batches, one after the other."""

    def __init__(self, batches: list[list[NDArray[np.void]]]) -> None:
        """batches: of each, what each CPU has."""
        super().__init__([np.zeros(0, RECORD)])
        self._batches = iter(batches)

    def peek_payloads(self) -> tuple[NDArray[np.void], ...]:
        """The next batch."""
        return whole(np.zeros(0, LONG_PAYLOAD)), whole(joined(next(self._batches)))


def _of_pods(payloads: tuple[NDArray[np.void], NDArray[np.void]], cgroups: NDArray[np.uint64]) -> list[NDArray[np.void]]:
    """Requests and answers as they happened, of connections between pods here and pods elsewhere, half of them on each CPU."""
    both = joined(list(payloads))
    connection = both["conn_id"].astype(np.int64)
    both["cgroup_id"] = cgroups[connection % records.LOCAL_PODS]
    pods = map(records.pod_address, range(CONNECTIONS + records.LOCAL_PODS))
    addresses = np.frombuffer(b"".join(pods), np.uint8).reshape(-1, 16)
    both["local_addr"] = addresses[connection % records.LOCAL_PODS]
    both["remote_addr"] = addresses[records.LOCAL_PODS + connection % CONNECTIONS]
    both["time_ns"] += np.uint64(time.monotonic_ns())
    both = both[np.argsort(both["time_ns"], kind="stable")]
    return [both[: len(both) // 2], both[len(both) // 2 :]]


def _reader_ns(reader: Reader) -> int:
    start = time.thread_time_ns()
    reader.batch()
    return time.thread_time_ns() - start


def payloads_of(
    dtype: np.dtype[np.void], request: bytes, turn: int, size: int = BATCH
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Requests and answers of a batch, half of it each; both ends of a connection see the same."""
    return _requests(dtype, request, turn, size), _answers(turn, size)


def _batch_ns(handler: Http1, requests: NDArray[np.void], answers: NDArray[np.void]) -> int:
    """Take a batch as the reader does: one call for each size of record."""
    calls = [np.concatenate((requests, answers))] if requests.dtype == answers.dtype else [requests, answers]
    start = time.thread_time_ns()
    for payloads in calls:
        handler.take(payloads, 0)
    return time.thread_time_ns() - start


def _requests(dtype: np.dtype[np.void], request: bytes, turn: int, size: int) -> NDArray[np.void]:
    made = _payloads(dtype, turn, PayloadKind.HTTP_REQUEST, size)
    seen = [turn * len(made) + i // 2 for i in range(len(made))]  # by both ends
    texts = [request % (b"film-%d" % (i % 97), i, i * 7919, i % 5) for i in seen]
    _write(made, texts)
    made["sent"] = 1
    return made


def _answers(turn: int, size: int) -> NDArray[np.void]:
    made = _payloads(SHORT_PAYLOAD, turn, PayloadKind.HTTP_RESPONSE, size)
    _write(made, [ANSWER % (30_000 + turn * len(made) + i // 2) for i in range(len(made))])
    made["sequence"], made["acknowledged"] = made["acknowledged"], made["sequence"] + np.uint32(1)
    made["time_ns"] += np.uint64(500_000)
    return made


def _payloads(dtype: np.dtype[np.void], turn: int, kind: PayloadKind, size: int) -> NDArray[np.void]:
    """Half a batch: each connection goes on where it was."""
    made = np.zeros(size // 2, dtype)
    place = np.arange(len(made))
    exchange = turn * -(-len(made) // CONNECTIONS) + place // CONNECTIONS
    made["conn_id"] = place % CONNECTIONS + 1
    made["sequence"], made["acknowledged"] = exchange * 600, exchange * 65_800
    made["time_ns"] = exchange * 1_000_000 + place
    made["kind"], made["protocol"], made["remote_port"] = kind, 6, 8080
    return made


def _write(payloads: NDArray[np.void], texts: list[bytes]) -> None:
    width = payloads["text"].shape[1]
    matrix = np.array(texts, f"S{width}").view(np.uint8).reshape(len(texts), width)
    payloads["text"] = matrix
    payloads["length"] = [len(text) for text in texts]
    payloads["captured"] = np.minimum(payloads["length"], width)
