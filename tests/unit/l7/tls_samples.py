"""TLS hellos: made by Python's ssl against itself, and by hand."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.l7.tls import TlsHello
from flows.agent.probe.payload import LONG_PAYLOAD, PayloadKind
from flows.agent.store.requests import RequestStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.l7.events import Events

T0 = 10**12
WALL = 1_700_000_000 * 10**9
MS = 10**6


def hellos(
    certificate: tuple[str, str],
    *,
    name: str | None = "Web.Example.com",
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    alpn: tuple[str, ...] = (),
    curve: str = "",
) -> list[tuple[bool, bytes]]:
    """Who sent (True: the client), and all bytes sent at once, of one handshake."""
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = version
    server.load_cert_chain(*certificate)
    if alpn:
        client.set_alpn_protocols(alpn)
        server.set_alpn_protocols(alpn[::-1])
    if curve:
        server.set_ecdh_curve(curve)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_side=False, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    return _handshake(ends, (to_server, to_client))


def _handshake(ends: tuple[ssl.SSLObject, ssl.SSLObject], wires: tuple[ssl.MemoryBIO, ssl.MemoryBIO]) -> list[tuple[bool, bytes]]:
    sent = []
    for _ in range(4):
        for end, out, into in ((ends[0], wires[0], wires[0]), (ends[1], wires[1], wires[1])):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            data = out.read()
            if data:
                sent.append((end is ends[0], data))
                into.write(data)
    return sent


def payload(text: bytes, *, dtype: np.dtype[Any] = LONG_PAYLOAD, length: int = 0, **fields: Any) -> NDArray[np.void]:
    """One record, (1,), with as much of the text as it can have."""
    row = np.zeros(1, dtype)
    kept = text[: dtype["text"].shape[0]]
    ends = {"conn_id": 7, "protocol": 6, "local_port": 40_000, "remote_port": 443, "comm": b"curl", "pid": 12}
    said = {"kind": PayloadKind.TLS_HELLO, "length": length or len(text), "captured": len(kept), "sent": 1, "time_ns": T0}
    for name, value in (ends | said | fields).items():
        row[name] = value
    row["text"][0, : len(kept)] = np.frombuffer(kept, np.uint8)
    return row


def payloads(handshake: list[tuple[bool, bytes]], *, client_end: bool = True, **fields: Any) -> NDArray[np.void]:
    """Those of a handshake that begin with a hello; 1 ms from one to the next."""
    rows = [
        payload(data, sent=client == client_end, time_ns=T0 + MS * at, **fields)
        for at, (client, data) in enumerate(handshake)
        if data[:1] == b"\x16" and data[5:6] in (b"\x01", b"\x02")
    ]
    return np.concatenate(rows)


def vector(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(content, 2)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(bytes((kind,)) + vector(name, 2), 2))


def client_hello(*extensions: bytes, version: int = 0x0303, record: int = 16_384) -> bytes:
    """By hand; record: bytes of content in each TLS record."""
    body = version.to_bytes(2, "big") + bytes(32) + vector(bytes(32), 1) + vector(b"\x13\x01", 2) + vector(b"\0", 1)
    body += vector(b"".join(extensions), 2) if extensions else b""
    return records(b"\x01" + vector(body, 3), record)


def server_hello(*extensions: bytes, version: int = 0x0303, cipher: int = 0xC02F, random: bytes = bytes(32)) -> bytes:
    body = version.to_bytes(2, "big") + random + vector(b"", 1) + cipher.to_bytes(2, "big") + b"\0"
    body += vector(b"".join(extensions), 2) if extensions else b""
    return records(b"\x02" + vector(body, 3), 16_384)


def records(content: bytes, size: int) -> bytes:
    return b"".join(b"\x16\x03\x01" + vector(content[at : at + size], 2) for at in range(0, len(content), size))


class Seen:
    """A handler with its store, and all events."""

    def __init__(self, capacity: int = 64, **options: Any) -> None:
        self.store = RequestStore(capacity)
        self.handler = TlsHello(self.store, **options)
        self.events: list[tuple[int, int, int]] = []

    def note(self, events: Events) -> None:
        times = events.time_ns.astype(np.int64) - T0
        self.events += zip(events.request.tolist(), events.event.tolist(), times.tolist(), strict=True)

    def take(self, *batches: NDArray[np.void]) -> Seen:
        for batch in batches:
            self.note(self.handler.take(batch, WALL))
        return self

    def expire(self, after_ns: int) -> Seen:
        self.note(self.handler.expire(T0 + after_ns, WALL))
        return self

    def rows(self) -> list[dict[str, Any]]:
        columns = self.store.take(np.arange(self.store.oldest, self.store.written))
        count = self.store.written - self.store.oldest
        return [{name: _plain(values[at]) for name, values in columns.items()} for at in range(count)]

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows()]


def _plain(value: Any) -> Any:
    return value.tobytes().rstrip(b"\0").decode(errors="replace") if getattr(value, "ndim", 0) else value.item()
