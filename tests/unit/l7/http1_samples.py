"""HTTP/1 payloads made without a kernel, and what a store has of them."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np

from flows.agent.l7.http1 import Http1
from flows.agent.l7.redact import Redaction
from flows.agent.probe.payload import LONG_PAYLOAD, SHORT_PAYLOAD, Origin, PayloadKind
from flows.agent.store.requests import RequestStore

MS = 1_000_000
T0 = 1_000_000_000  # CLOCK_MONOTONIC of the first payload
WALL = 1_700_000_000_000_000_000  # what is added to it
GET = b"GET /users/7?page=2 HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def packed(address: str) -> np.ndarray[Any, Any]:
    """16 bytes, IPv4 mapped."""
    return np.frombuffer(bytes(10) + b"\xff\xff" + ipaddress.IPv4Address(address).packed, "u1")


def payload(text: bytes, *, long: bool = False, **fields: Any) -> np.ndarray[Any, Any]:
    """One payload (1,); what follows its text is junk, as memory of a ring is. By default curl asks 10.0.0.2:80."""
    made = np.zeros(1, LONG_PAYLOAD if long else SHORT_PAYLOAD)
    made["text"] = ord("\n")
    width = made["text"].shape[1]
    kept = text[:width]
    values: dict[str, Any] = {
        "time_ns": T0, "conn_id": 1, "cgroup_id": 7, "local_addr": "10.0.0.1", "remote_addr": "10.0.0.2", "comm": b"curl",
        "pid": 42, "netns": 9, "length": len(text), "captured": len(kept), "local_port": 40_000, "remote_port": 80, "protocol": 6,
        **fields,
    }  # fmt: skip
    for name, value in values.items():
        made[name] = packed(value) if isinstance(value, str) else value
    made["text"][0, : len(kept)] = np.frombuffer(kept, np.uint8)
    return made


class Stream:
    """One connection as one of its ends sees it; sequence numbers go on as with TCP."""

    def __init__(self, conn_id: int = 1, *, client: bool = True, start: int = 0, origin: Origin = Origin.PACKET) -> None:
        self.conn_id, self.client, self.origin = conn_id, client, origin
        self.asked, self.answered, self.now = start, start + 7_000, T0

    def ask(self, text: bytes = GET, *, more: int = 0, **fields: Any) -> np.ndarray[Any, Any]:
        """A request in one packet, with `more` bytes in later ones."""
        made = self._made(text, PayloadKind.HTTP_REQUEST, self.asked, self.answered, self.client, fields)
        self.asked += len(text) + more
        return made

    def answer(self, text: bytes = OK, *, more: int = 0, **fields: Any) -> np.ndarray[Any, Any]:
        """An answer's first packet, with `more` bytes in later ones."""
        made = self._made(text, PayloadKind.HTTP_RESPONSE, self.answered, self.asked, not self.client, fields)
        self.answered += len(text) + more
        return made

    def _made(self, text: bytes, kind: int, sequence: int, acknowledged: int, sent: bool, fields: Any) -> np.ndarray[Any, Any]:
        self.now += MS
        values = {
            "kind": kind, "sequence": sequence % (1 << 32), "acknowledged": acknowledged % (1 << 32), "sent": sent,
            "conn_id": self.conn_id, "time_ns": self.now, "origin": self.origin, **fields,
        }  # fmt: skip
        return payload(text, **values)


class Station:
    """A handler with its store."""

    def __init__(self, rules: Redaction | None = None, capacity: int = 1024, **options: Any) -> None:
        self.store = RequestStore(capacity)
        self.http = Http1(self.store, rules or Redaction(), **options)
        self.events: list[tuple[int, int, int]] = []

    def take(self, *payloads: np.ndarray[Any, Any]) -> Station:
        """One call for short ones, one for long ones, as the reader does."""
        for dtype in (SHORT_PAYLOAD, LONG_PAYLOAD):
            some = [one for one in payloads if one.dtype == dtype]
            if some:
                self._saw(self.http.take(np.concatenate(some), WALL))
        return self

    def expire(self, now_ns: int) -> Station:
        """Time goes on."""
        self._saw(self.http.expire(now_ns, WALL))
        return self

    def settle(self) -> Station:
        """Two calls with nothing: what is held is resolved."""
        return self.expire(T0).expire(T0).expire(T0)

    def end(self, conn_id: int, time_ns: int) -> Station:
        """A connection ended."""
        self._saw(self.http.ended(np.array([conn_id], np.uint64), np.array([time_ns], np.uint64), WALL))
        return self

    def _saw(self, events: Any) -> None:
        self.events += list(zip(*(column.tolist() for column in events), strict=True))

    def row(self, number: int = 0) -> dict[str, Any]:
        """One request; texts as bytes."""
        taken = {name: values[0] for name, values in self.store.take(np.array([number])).items()}
        texts = {name: taken[name].tobytes().rstrip(b"\0") for name in ("text", "host", "headers")}
        return {name: value.item() if value.ndim == 0 else value for name, value in taken.items()} | texts

    def rows(self) -> list[dict[str, Any]]:
        """All requests that are stored."""
        return [self.row(number) for number in range(self.store.oldest, self.store.written)]

    def raw(self) -> bytes:
        """Every byte of the store."""
        names = self.store.take(np.zeros(0, np.int64))
        numbers = np.arange(self.store.oldest, self.store.written)
        return b"\xfe".join(self.store.take(numbers, (name,))[name].tobytes() for name in names)
