"""View: what one end saw of one request, put together from the flows that speak of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from flows.flow.answers.party import LONGEST, NOBODY, Party
from flows.flow.answers.told import told
from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from flows.flow.answers.told import Told
    from flows.proto.extension_pb2 import Backend, Request
    from flows.proto.flow_pb2 import DNS, HTTP, Flow

# IANA DNS RCODEs (RFC 6895 and its registry).
RCODES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 7: "YXRRSET",
    8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 11: "DSOTYPENI", 16: "BADVERS", 17: "BADKEY", 18: "BADTIME",
}  # fmt: skip
# An answer that took longer than this is slow: people notice half a second, and resolvers ask again after one at the earliest.
SLOW_NS = 500_000_000
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
# Addresses of one answer that are looked at; more would only be told.
MOST_ADDRESSES = 64
# A URL comes with each flow of a request, four times if both ends are seen, and mostly again. None is longer than some KB.
REMEMBERED_URLS = 2_048
NO_MARKS: frozenset[int] = frozenset()


class State(IntEnum):
    """What became of a request, as far as flows told."""

    ASKED = 0
    ANSWERED = 1
    GIVEN_UP = 2


@dataclass(slots=True)
class DnsPart:
    """What is asked and answered. name: lower case, without the last dot. addresses: A and AAAA of the answer."""

    name: str
    qtype: str = ""
    query_id: int = 0
    rcode: int | None = None
    addresses: tuple[str, ...] = ()
    ttl: int = 0  # seconds; the shortest of the addresses'
    attempt: int = 0  # 0: not told
    fate: int = extension_pb2.FATE_UNKNOWN
    evidence: str = ""


@dataclass(slots=True)
class HttpPart:
    """A request and its answer. status: 0 without one. grpc_status: None without one."""

    method: str = ""
    host: str = ""
    path: str = ""
    protocol: str = ""
    status: int = 0
    service: str = ""
    call: str = ""
    grpc_status: str | None = None
    request_bytes: int = 0
    response_bytes: int = 0


@dataclass(slots=True)
class View:
    """Times are ns since 1970. at_client: whose socket was looked at; None: the flow does not tell (Hubble's proxy).

    number: Request.id, which may be 0; -1 without. asked: None as long as no flow tells. changed: the time of the latest flow.
    """

    node: str
    number: int
    connection: int
    at_client: bool | None
    transport: str
    client: Party
    server: Party
    asked: int | None
    answered: int | None
    changed: int
    state: State
    latency: int | None = None
    late: bool = False
    marks: frozenset[int] = NO_MARKS
    dns: DnsPart | None = None
    http: HttpPart | None = None
    backend: Party = NOBODY
    verdict: int = 0

    @property
    def time(self) -> int:
        """When it was asked, as well as that is known."""
        return self.asked if self.asked is not None else self.changed

    def merge(self, other: View) -> None:
        """Takes what a later flow of the same request adds."""
        self.asked = self.asked if self.asked is not None else other.asked
        self.answered = other.answered if other.answered is not None else self.answered
        self.latency = other.latency if other.latency is not None else self.latency
        self.changed = max(self.changed, other.changed)
        if self.state is not _ANSWERED and other.state is not _ASKED:
            self.state = other.state
        self.late |= other.late
        if other.marks:
            self.marks |= other.marks
        self.backend = other.backend if other.backend is not NOBODY else self.backend
        if other.dns is not None and (self.dns is None or other.state is not _ASKED):
            self.dns = _merged_dns(self.dns, other.dns)
        if other.http is not None and (self.http is None or other.state is not _ASKED):
            self.http = _merged_http(self.http, other.http)


def _merged_dns(old: DnsPart | None, new: DnsPart) -> DnsPart:
    if old is not None:
        new.attempt, new.query_id = new.attempt or old.attempt, new.query_id or old.query_id
        if new.rcode is None:
            new.rcode, new.addresses, new.ttl = old.rcode, old.addresses, old.ttl
    return new


def _merged_http(old: HttpPart | None, new: HttpPart) -> HttpPart:
    if old is None:
        return new
    new.method, new.host, new.path = new.method or old.method, new.host or old.host, new.path or old.path
    new.protocol, new.status = new.protocol or old.protocol, new.status or old.status
    new.service, new.call = new.service or old.service, new.call or old.call
    new.request_bytes = new.request_bytes or old.request_bytes
    new.response_bytes = new.response_bytes or old.response_bytes
    if new.grpc_status is None:
        new.grpc_status = old.grpc_status
    return new


def nanoseconds(message: object) -> int:
    """Of a Timestamp or Duration, also one that protobuf's own conversion refuses."""
    return message.seconds * 1_000_000_000 + message.nanos  # type: ignore[attr-defined,no-any-return]


def is_reply(flow: Flow, event: int = extension_pb2.EVENT_UNKNOWN) -> bool:
    """Whether the flow's source is the end that was asked."""
    if flow.HasField("is_reply"):
        return bool(flow.is_reply.value)
    return bool(flow.l7.type == flow_pb2.RESPONSE and event != extension_pb2.NO_RESPONSE)


# An enumeration's members are slow to look up.
_ASKED, _ANSWERED, _LATE_ANSWER = State.ASKED, State.ANSWERED, extension_pb2.LATE_ANSWER
_STATES = {extension_pb2.RESPONSE: State.ANSWERED, extension_pb2.NO_RESPONSE: State.GIVEN_UP, extension_pb2.REQUEST: State.ASKED}


def view_of(flow: Flow) -> View | None:
    """What a whole flow says of a DNS, HTTP or gRPC request; None if it speaks of none."""
    return view_told(told(flow))


def view_told(known: Told) -> View | None:
    """The same of what it tells. Once per flow: what is needed of a message is read from it once."""
    flow, connection = known.flow, known.connection
    l7 = flow.l7
    record = l7.WhichOneof("record")
    if record not in {"dns", "http"}:
        return None
    requested, kind, request, event = connection.HasField("request"), l7.type, connection.request, connection.event
    state = _STATES.get(event) if requested else None
    if state is None:
        state = _ANSWERED if kind == flow_pb2.RESPONSE else _ASKED
    reply, time = is_reply(flow, event), nanoseconds(flow.time)
    latency = _latency(l7, request, state)
    marks = frozenset(told_marks) if (told_marks := request.marks) else NO_MARKS
    view = View(
        flow.node_name[:LONGEST],
        request.id if requested else -1,
        connection.id,
        known.at_client(reply=reply) if requested else None,
        known.transport,
        known.destination if reply else known.source,
        known.source if reply else known.destination,
        time if state is _ASKED else time - latency if latency is not None else None,
        time if state is _ANSWERED else None,
        time,
        state,
        latency,
        _LATE_ANSWER in marks,
        marks,
    )
    view.verdict = flow.verdict
    if connection.HasField("backend"):
        view.backend = _backend(connection.backend)
    if record == "dns":
        view.dns = dns_part(l7.dns, request, state)
    else:
        view.http = http_part(l7.http, request)
    return view


def _latency(l7: flow_pb2.Layer7, request: Request, state: State) -> int | None:
    if request.HasField("latency"):
        return max(0, nanoseconds(request.latency))
    return l7.latency_ns or None if state is _ANSWERED else None


def _backend(backend: Backend) -> Party:
    end = backend.endpoint
    pod = f"{end.namespace}/{end.pod_name}" if end.pod_name else ""
    found = Party(address=backend.address, port=backend.port, namespace=end.namespace, pod=pod, node=backend.node)
    return found if found != NOBODY else NOBODY


def dns_part(dns: DNS, request: Request, state: State) -> DnsPart:
    """The DNS message's part."""
    more = request.dns
    addresses, ttl, rcode, evidence = tuple(dns.ips[:MOST_ADDRESSES]) if dns.ips else (), dns.ttl, None, more.fate_evidence
    if more.answers and not (addresses and ttl):
        found = [record for record in more.answers[:MOST_ADDRESSES] if record.type in {"A", "AAAA"}]
        addresses = addresses or tuple(record.data for record in found)
        ttl = ttl or min((record.ttl for record in found), default=0)
    if state is _ANSWERED:
        rcode = int(dns.rcode or more.rcode)
    return DnsPart(
        dns.query[:LONGEST].lower().removesuffix(".") or ".",
        (more.qtype or ",".join(dns.qtypes[:4]))[:32],
        more.id,
        rcode,
        addresses,
        ttl,
        more.attempt,
        more.fate,
        evidence[:LONGEST],
    )


def http_part(http: HTTP, request: Request) -> HttpPart:
    """The HTTP request's part."""
    host, path = split_url(http.url)
    part = HttpPart(
        http.method[:32],
        host,
        path,
        http.protocol[:32],
        http.code,
        request_bytes=request.request_bytes,
        response_bytes=request.response_bytes,
    )
    if request.HasField("grpc"):
        grpc = request.grpc
        part.service, part.call = grpc.service[:LONGEST], grpc.method[:LONGEST]
        if grpc.has_status:
            part.grpc_status = grpc.status_name or str(grpc.status)
    return part


@lru_cache(REMEMBERED_URLS)
def split_url(url: str) -> tuple[str, str]:
    """Host and path of a URL, or of a path alone; not more of them than is kept. Query and user info are left out."""
    url = url[: 8 * LONGEST]
    found = _AUTHORITY.match(url)
    host, path = (found[1], url[found.end() :]) if found else ("", url)
    host, path = host.rpartition("@")[2], path.partition("?")[0].partition("#")[0] or "/"
    return host[:LONGEST], path[: 2 * LONGEST]


def is_slow(view: View) -> bool:
    """Whether the answer took longer than SLOW_NS, or came after it was given up."""
    return view.late or (view.latency is not None and view.latency > SLOW_NS)


def rcode_name(rcode: int | None) -> str:
    """`NXDOMAIN` and the like; a number's own name for what is not assigned."""
    if rcode is None:
        return ""
    return RCODES.get(rcode, f"RCODE{rcode}")
