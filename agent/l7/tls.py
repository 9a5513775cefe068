"""TLS: whom a client says it wants to speak with, and what the server chose, from both hellos; nothing is decrypted.

A ClientHello becomes a row (text: SNI, host: ALPN protocols it offers) and a HELLO event, its ServerHello the row's answer
(version, cipher suite as `status`, and, where it is not encrypted, the ALPN protocol chosen: `alpn: h2` in `headers`).
Flag.CUT: the hello's end was not captured and no name was seen, so there may be one; Flag.HOST_CUT: the same of ALPN protocols.
With encrypted_client_hello the name is the outer one, of who serves the site; such hellos are counted, since most browsers
send the extension to everybody, with and without something in it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.agent.l7.copied import copied
from flows.agent.l7.events import Events, nothing
from flows.agent.l7.tls_hello import Hello, MalformedError, parse
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import HEADER_BYTES, HOST_BYTES, TEXT_BYTES, Flag, Kind, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from flows.agent.store.requests import RequestStore

WAIT_NS = 10 * 10**9  # for a ServerHello: Go's default for a whole handshake (net/http: TLSHandshakeTimeout)
MAX_WAITING = 16_384  # connections, about 4 MiB


class _Waiting(NamedTuple):
    """A connection whose first hello was seen: its row, or an answer that came before its request."""

    number: int  # in the RequestStore; -1: the ClientHello was not seen yet
    sent: int
    time_ns: int
    answer: Hello | None


class TlsHello:
    """Handler of TLS_HELLO."""

    def __init__(self, store: RequestStore, wait_ns: int = WAIT_NS, max_waiting: int = MAX_WAITING) -> None:
        """store: where hellos go; wait_ns: how long a ServerHello is expected; max_waiting: connections at a time."""
        self._store, self._wait_ns, self._max_waiting = store, wait_ns, max_waiting
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._asked: list[tuple[int, Hello]] = []  # of this batch: row of payloads
        self._answers: list[tuple[int, int, Hello]] = []  # number, CLOCK_MONOTONIC
        self._counts: Counter[str] = Counter()

    def take(self, payloads: NDArray[np.void], to_wall_ns: int) -> Events:
        """See Handler."""
        payloads = payloads[np.argsort(payloads["time_ns"], kind="stable")]
        events = [self._take(part, to_wall_ns) for part in _parts(payloads, self._store.capacity)]
        if not events:
            return nothing()
        request, event, time_ns = (np.concatenate(columns) for columns in zip(*events, strict=True))
        return Events(request, event, time_ns)

    def expire(self, now_ns: int, to_wall_ns: int) -> Events:
        """No event: who stops waiting for a ServerHello knows no more than that it was not seen."""
        del to_wall_ns
        while self._waiting and next(iter(self._waiting.values())).time_ns <= now_ns - self._wait_ns:
            self._stop_waiting(next(iter(self._waiting)))
        return nothing()

    def ended(self, connections: NDArray[np.uint64], time_ns: NDArray[np.uint64], to_wall_ns: int) -> Events:
        """No event."""
        del time_ns, to_wall_ns
        for conn_id in connections.tolist():
            if conn_id in self._waiting:
                self._stop_waiting(conn_id)
        return nothing()

    def counts(self) -> dict[str, int]:
        """See Handler."""
        return dict(+self._counts)

    def _take(self, payloads: NDArray[np.void], to_wall_ns: int) -> Events:
        self._asked, self._answers = [], []
        columns = (payloads[name].tolist() for name in ("conn_id", "sent", "time_ns", "captured"))
        for row, (conn_id, sent, time_ns, captured) in enumerate(zip(*columns, strict=True)):
            hello = self._parsed(payloads["text"][row, :captured].tobytes())
            if not conn_id:
                self._counts["tls_hellos_without_connection"] += 1
            elif hello is not None:
                self._hello(row, hello, conn_id, sent, time_ns)
        return self._stored(payloads, to_wall_ns)

    def _parsed(self, text: bytes) -> Hello | None:
        try:
            hello = parse(text)
        except MalformedError:
            self._counts["tls_hellos_malformed"] += 1
            return None
        self._counts["tls_hellos_cut"] += hello.cut
        self._counts["tls_encrypted_client_hellos"] += hello.encrypted
        if hello.name is None or _is_name(hello.name):
            return hello
        self._counts["tls_names_malformed"] += 1
        return hello._replace(name=b"")

    def _hello(self, row: int, hello: Hello, conn_id: int, sent: int, time_ns: int) -> None:
        first = self._waiting.get(conn_id)
        if hello.retry:
            self._counts["tls_hello_retries"] += 1
        elif first is None:
            number = self._ask(row, hello) if hello.client else -1
            self._wait(conn_id, _Waiting(number, sent, time_ns, None if hello.client else hello))
        elif hello.client == (first.number >= 0) or first.sent == sent:
            self._counts["tls_hellos_repeated"] += 1  # after a retry, or sent again by TCP
        elif hello.client:
            self._waiting[conn_id] = first._replace(number=self._ask(row, hello), sent=sent)
            self._answer(self._waiting[conn_id].number, first.time_ns, first.answer)
        elif first.answer is None:
            self._waiting[conn_id] = first._replace(answer=hello)
            self._answer(first.number, time_ns, hello)

    def _ask(self, row: int, hello: Hello) -> int:
        self._asked.append((row, hello))
        return self._store.written + len(self._asked) - 1

    def _answer(self, number: int, time_ns: int, hello: Hello | None) -> None:
        if hello is not None:
            self._answers.append((number, time_ns, hello))

    def _wait(self, conn_id: int, waiting: _Waiting) -> None:
        self._waiting[conn_id] = waiting
        if len(self._waiting) > self._max_waiting:
            self._counts["tls_connections_over_limit"] += 1
            self._stop_waiting(next(iter(self._waiting)))

    def _stop_waiting(self, conn_id: int) -> None:
        self._counts["tls_server_hellos_alone"] += self._waiting.pop(conn_id).number < 0

    def _stored(self, payloads: NDArray[np.void], to_wall_ns: int) -> Events:
        asked = payloads[[row for row, _ in self._asked]]
        numbers = np.zeros(0, np.int64)
        if self._asked:
            numbers = self._store.add(_rows(asked, [hello for _, hello in self._asked], to_wall_ns))
        if self._answers:
            answered = np.array([number for number, _, _ in self._answers], np.int64)
            self._store.answer(answered, _answer_rows(self._answers, to_wall_ns))
        return Events(numbers, np.full(len(numbers), Event.HELLO, np.uint8), asked["time_ns"].astype(np.uint64))


def _parts(payloads: NDArray[np.void], size: int) -> list[NDArray[np.void]]:
    return [payloads[first : first + size] for first in range(0, len(payloads), size)]


def _is_name(name: bytes) -> bool:
    """RFC 6066, section 3: ASCII; and nothing that is no part of a host name anywhere."""
    return all(0x21 <= byte <= 0x7E for byte in name)


def _rows(payloads: NDArray[np.void], hellos: Sequence[Hello], to_wall_ns: int) -> dict[str, NDArray[Any]]:
    offered = [b",".join(hello.alpn) for hello in hellos]
    return copied(payloads) | {
        "time": payloads["time_ns"].astype(np.int64) + to_wall_ns,
        "kind": np.full(len(hellos), Kind.TLS, np.uint8),
        "state": np.full(len(hellos), State.ASKED, np.uint8),
        "flags": np.array([_flags(hello, alpn) for hello, alpn in zip(hellos, offered, strict=True)], np.uint16),
        "version": np.array([hello.version for hello in hellos], np.uint16),
        "request_bytes": payloads["length"].astype(np.uint32),
        "response_bytes": np.full(len(hellos), -1, np.int64),
        "text": _texts([hello.name or b"" for hello in hellos], TEXT_BYTES),
        "host": _texts(offered, HOST_BYTES),
    }


def _flags(hello: Hello, alpn: bytes) -> int:
    cut = (hello.cut and hello.name is None) or len(hello.name or b"") > TEXT_BYTES
    host_cut = (hello.cut and not alpn) or len(alpn) > HOST_BYTES
    return Flag.CUT * cut | Flag.HOST_CUT * host_cut


def _answer_rows(answers: Sequence[tuple[int, int, Hello]], to_wall_ns: int) -> dict[str, NDArray[Any]]:
    hellos = [hello for _, _, hello in answers]
    chosen = [b"alpn: " + _printable(hello.alpn[0]) + b"\n" if hello.alpn else b"" for hello in hellos]
    return {
        "answered": np.array([time_ns + to_wall_ns for _, time_ns, _ in answers], np.int64),
        "state": np.full(len(answers), State.ANSWERED, np.uint8),
        "status": np.array([hello.cipher for hello in hellos], np.uint16),
        "version": np.array([hello.version for hello in hellos], np.uint16),
        "headers": _texts(chosen, HEADER_BYTES),
    }


def _printable(protocol: bytes) -> bytes:
    return bytes(byte if 0x21 <= byte <= 0x7E else ord("?") for byte in protocol)


def _texts(values: Iterable[bytes], width: int) -> NDArray[np.uint8]:
    """Each cut or filled with zeros to `width` bytes; (n, width)."""
    return np.frombuffer(b"".join([value[:width].ljust(width, b"\0") for value in values]), np.uint8).reshape(-1, width)
