"""DNS messages, the payload records that carry them, and what a store has of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset
import numpy as np

from flows.agent.l7.dns import Dns
from flows.agent.l7.events import together
from flows.agent.probe.payload import LONG_PAYLOAD, LONG_TEXT, SHORT_PAYLOAD, SHORT_TEXT, PayloadKind
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import State
from flows.agent.store.requests import RequestStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flows.agent.l7.events import Events

MS = 1_000_000
SECOND = 1_000 * MS
T = 10 * SECOND  # CLOCK_MONOTONIC of the first payload
WALL = 1_700_000_000 * SECOND  # what is added to it
UDP, TCP = 17, 6
CLIENT = bytes(10) + b"\xff\xff\x0a\x01\x00\x02"
SERVER = bytes(10) + b"\xff\xff\x0a\x60\x00\x0a"
OTHER_SERVER = bytes(10) + b"\xff\xff\x0a\x60\x00\x0b"
NAME = "web.shop.svc.cluster.local."
ADDRESS = (NAME, 30, "A", "10.0.1.2")


def query(name: str = NAME, qtype: str = "A", *, number: int = 7, edns: bool = False) -> bytes:
    """A query as resolvers send it."""
    message = dns.message.make_query(name, qtype, use_edns=0 if edns else None, id=number)
    return message.to_wire()


def answer(
    question: bytes, *records: tuple[str, int, str, str], rcode: int = 0, flags: int = dns.flags.RA, size: int = 65_535
) -> bytes:
    """The answer to a query: records are (owner, ttl, type, data)."""
    message = dns.message.make_response(dns.message.from_wire(question))
    message.set_rcode(dns.rcode.Rcode(rcode))
    message.flags |= flags
    message.answer = [dns.rrset.from_text(owner, ttl, "IN", rtype, data) for owner, ttl, rtype, data in records]
    return message.to_wire(max_size=size)


def payload(message: bytes, *, sent: bool = True, at: int = SECOND, long: bool = False, **columns: Any) -> NDArray[np.void]:
    """One payload record that carries the message; columns replace what the others are by default."""
    size = LONG_TEXT if long else SHORT_TEXT
    record = np.zeros(1, LONG_PAYLOAD if long else SHORT_PAYLOAD)
    text = np.full(size, 0xAA, np.uint8)  # what was in the ring before: nobody may take it for the message's
    text[: len(message)] = np.frombuffer(message[:size], np.uint8)
    record["text"][0] = text
    record["local_addr"][0], record["remote_addr"][0] = np.frombuffer(CLIENT, np.uint8), np.frombuffer(SERVER, np.uint8)
    values: dict[str, Any] = {
        "time_ns": at, "conn_id": 11, "cgroup_id": 5, "pid": 99, "comm": b"curl", "length": len(message),
        "captured": min(len(message), size), "local_port": 40_000, "remote_port": 53, "kind": PayloadKind.DNS, "protocol": UDP,
        "sent": int(sent),
    }  # fmt: skip
    for name, value in (values | columns).items():
        record[name][0] = np.frombuffer(value, np.uint8) if name.endswith("_addr") else value
    return record


def batch(*payloads: NDArray[np.void]) -> NDArray[np.void]:
    """Several of one width."""
    return np.concatenate(payloads)


class Station:
    """A handler with its store, and the events so far."""

    def __init__(self, capacity: int = 64, rule: Callable[[bytes], bytes] | None = None) -> None:
        self.store = RequestStore(capacity)
        self.dns = Dns(self.store, rule)
        self.told: list[tuple[int, str, int]] = []

    def take(self, *payloads: NDArray[np.void]) -> Station:
        return self._tell(self.dns.take(batch(*payloads), WALL))

    def expire(self, now: int) -> Station:
        return self._tell(self.dns.expire(now, WALL))

    def end(self, conn_id: int, at: int) -> Station:
        return self._tell(self.dns.ended(np.array([conn_id], np.uint64), np.array([at], np.uint64), WALL))

    def _tell(self, events: Events) -> Station:
        order = np.argsort(events.time_ns, kind="stable")
        for number, event, time in zip(*(column[order].tolist() for column in together(events)), strict=True):
            self.told.append((number, Event(event).name, time))
        return self

    def row(self, number: int) -> dict[str, Any]:
        row = {name: column[0] for name, column in self.store.take(np.array([number])).items()}
        return row | {"text": row["text"].tobytes().rstrip(b"\0"), "answer": row["answer"].tobytes()[: row["answer_bytes"]]}

    def states(self) -> list[str]:
        return [State(self.row(number)["state"]).name for number in range(self.store.written)]

    def attempts(self) -> list[tuple[int, int]]:
        return [(int(row["first"]), int(row["attempt"])) for row in map(self.row, range(self.store.written))]

    def counted(self) -> dict[str, int]:
        return {name: count for name, count in self.dns.counts().items() if count}
