"""DNS messages and the payload records that carry them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset
import numpy as np

from flows.agent.probe.payload import LONG_PAYLOAD, LONG_TEXT, SHORT_PAYLOAD, SHORT_TEXT, PayloadKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

MS = 1_000_000
SECOND = 1_000 * MS
UDP, TCP = 17, 6
CLIENT = bytes(10) + b"\xff\xff\x0a\x01\x00\x02"
SERVER = bytes(10) + b"\xff\xff\x0a\x60\x00\x0a"
OTHER_SERVER = bytes(10) + b"\xff\xff\x0a\x60\x00\x0b"


def query(name: str = "web.shop.svc.cluster.local.", qtype: str = "A", *, number: int = 7, edns: bool = False) -> bytes:
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
    values = {
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
