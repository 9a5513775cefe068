"""Stored requests, and the flows that refer to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns.message
import dns.rcode
import dns.rrset
import numpy as np
from samples import CLIENT_NUMBER, SERVER_NUMBER, T0, WALL, packed, record

from flows.agent.l7.dns_name_table import NameTable
from flows.agent.observer.coverage import Watch
from flows.agent.observer.observer import Observer
from flows.agent.observer.query import parse_request
from flows.agent.probe.record import Event, Initiator
from flows.agent.store.request_columns import ANSWER_BYTES, COLUMNS, METHODS, Kind, State
from flows.agent.store.requests import RequestStore
from flows.agent.store.store import FlowStore
from flows.flow.batch import compose
from flows.proto import extension_pb2, flow_pb2, observer_pb2

if TYPE_CHECKING:
    from samples import Names

MS = 1_000_000
BOTH = (Event.REQUEST, Event.RESPONSE)
ASKED = T0 + WALL  # when every request was asked


def request(**columns: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of one request: by default curl's GET http://web/users, answered 200 after 1.9 ms."""
    values: dict[str, Any] = {
        "time": ASKED, "answered": ASKED + 1_900_000, "conn_id": 1, "cgroup_id": 7, "local_addr": "10.0.0.1",
        "remote_addr": "10.0.0.2", "comm": b"curl", "pid": 42, "netns": 9, "local_port": 40_000, "remote_port": 80, "protocol": 6,
        "client": 1, "kind": Kind.HTTP1, "state": State.ANSWERED, "method": METHODS.index("GET"), "version": 11, "status": 200,
        "request_bytes": 78, "response_bytes": 2_000, "text": b"/users", "host": b"web", **columns,
    }  # fmt: skip
    rows = {}
    for name, value in values.items():
        dtype, shape = COLUMNS[name]
        rows[name] = np.zeros((1, *shape), dtype)
        if isinstance(value, bytes) and shape:
            rows[name][0, : len(value)] = np.frombuffer(value, np.uint8)
        else:
            rows[name][0] = packed(value) if isinstance(value, str) else value
    return rows


def dns_request(answer: bytes = b"", **columns: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of a DNS query for web.shop, answered after 1.9 ms by a message, of which the beginning is kept."""
    values = {
        "kind": Kind.DNS, "protocol": 17, "remote_port": 53, "text": b"web.shop.svc.cluster.local", "host": b"", "qtype": 1,
        "query_id": 7, "attempt": 1, "method": 0, "version": 0, "status": answer[3] & 15 if answer else 0,
        "answer": answer[:ANSWER_BYTES], "answer_bytes": min(len(answer), ANSWER_BYTES), "response_bytes": len(answer), **columns,
    }  # fmt: skip
    return request(**values)


def dns_answer(*records: tuple[str, int, str, str], rcode: int = 0, name: str = "web.shop.svc.cluster.local.") -> bytes:
    """A message: records are (owner, ttl, type, data)."""
    message = dns.message.make_response(dns.message.make_query(name, "A", id=7))
    message.set_rcode(dns.rcode.Rcode(rcode))
    message.answer = [dns.rrset.from_text(owner, ttl, "IN", rtype, data) for owner, ttl, rtype, data in records]
    return message.to_wire()


class Requested:
    """Both stores, filled by hand, and an observer over them."""

    def __init__(self, names: Names, capacity: int = 8) -> None:
        self.flows, self.requests, self.names = FlowStore(32), RequestStore(capacity), NameTable()
        self.observer = Observer(
            self.flows, names, "demo/node-1", "0.1.0", Watch(0), 77, self.requests, self.names,  # type: ignore[arg-type]
        )  # fmt: skip

    def store(self, columns: dict[str, np.ndarray[Any, Any]], *events: Event, at_ns: int = 0, **fields: Any) -> int:
        """A request, and a flow of each of these events; fields of the flows. Returns its number."""
        numbers = self.requests.add(columns)
        self.tell(int(numbers[0]), columns, *events, at_ns=at_ns, **fields)
        return int(numbers[0])

    def tell(self, number: int, columns: dict[str, np.ndarray[Any, Any]], *events: Event, at_ns: int = 0, **fields: Any) -> None:
        """Flows of a request; the answer's at its own time, others at_ns after it was asked."""
        client = bool(columns["client"][0])
        ends = (CLIENT_NUMBER, SERVER_NUMBER) if client else (SERVER_NUMBER, CLIENT_NUMBER)
        for event in events:
            answered = int(columns["answered"][0]) - WALL
            values = {name: columns[name] for name in ("conn_id", "local_port", "remote_port", "protocol")} | fields
            row = record(
                time_ns=answered if event == Event.RESPONSE else T0 + at_ns, event=event, flags_sent=0, flags_received=0,
                sent_bytes=0, received_bytes=0, sent_packets=0, received_packets=0, rtt_us=0, handshake_us=0,
                initiator=Initiator.LOCAL if client else Initiator.REMOTE, **values,
            )  # fmt: skip
            for side in ("local_addr", "remote_addr"):
                row[side] = columns[side]
            local, remote = (np.array([end], np.uint32) for end in ends)
            self.flows.append(row, local, remote, WALL, details=np.array([number], np.int64).astype(np.uint32))

    def shown(self, **asked: Any) -> list[flow_pb2.Flow]:
        """What a request gets."""
        selected = self.observer.past(parse_request(observer_pb2.GetFlowsRequest(**asked)))
        batch = self.observer.batch(selected, self.observer.ends)
        return [flow_pb2.Flow.FromString(raw) for raw in compose(batch, self.observer.ends.table)]


def connection(flow: flow_pb2.Flow) -> extension_pb2.Connection:
    """What a flow says beyond Hubble's fields."""
    message = extension_pb2.FlowExtension()
    assert flow.extensions.Unpack(message)
    return message.connection
