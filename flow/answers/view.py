"""View: what one end saw of one request, put together from the flows that speak of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from flows.flow.answers.party import LONGEST, NOBODY, Party, party, transport
from flows.proto import extension_pb2, flow_pb2
from flows.proto.extension_pb2 import FlowExtension

if TYPE_CHECKING:
    from flows.proto.flow_pb2 import Flow

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
    marks: frozenset[int] = frozenset()
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
        if self.state is not State.ANSWERED and other.state is not State.ASKED:
            self.state = other.state
        self.late |= other.late
        self.marks |= other.marks
        self.backend = other.backend if other.backend != NOBODY else self.backend
        if other.dns is not None and (self.dns is None or other.state is not State.ASKED):
            self.dns = _merged_dns(self.dns, other.dns)
        if other.http is not None and (self.http is None or other.state is not State.ASKED):
            self.http = _merged_http(self.http, other.http)


def _merged_dns(old: DnsPart | None, new: DnsPart) -> DnsPart:
    if old is not None:
        new.attempt, new.query_id = new.attempt or old.attempt, new.query_id or old.query_id
        if new.rcode is None:
            new.rcode, new.addresses, new.ttl = old.rcode, old.addresses, old.ttl
    return new


def _merged_http(old: HttpPart | None, new: HttpPart) -> HttpPart:
    for name in ("method", "host", "path", "protocol", "service", "call", "request_bytes", "response_bytes", "status"):
        if old is not None and not getattr(new, name):
            setattr(new, name, getattr(old, name))
    if old is not None and new.grpc_status is None:
        new.grpc_status = old.grpc_status
    return new


def extension_of(flow: Flow) -> FlowExtension:
    """What the flow says beyond Hubble's; empty if it says nothing, or nothing that can be read."""
    extension = FlowExtension()
    try:
        flow.extensions.Unpack(extension)
    except DecodeError:
        return FlowExtension()
    return extension


def nanoseconds(message: object) -> int:
    """Of a Timestamp or Duration, also one that protobuf's own conversion refuses."""
    return int(message.seconds) * 1_000_000_000 + int(message.nanos)  # type: ignore[attr-defined]


def is_reply(flow: Flow, event: int = extension_pb2.EVENT_UNKNOWN) -> bool:
    """Whether the flow's source is the end that was asked."""
    if flow.HasField("is_reply"):
        return bool(flow.is_reply.value)
    return bool(flow.l7.type == flow_pb2.RESPONSE and event != extension_pb2.NO_RESPONSE)


_STATES = {extension_pb2.RESPONSE: State.ANSWERED, extension_pb2.NO_RESPONSE: State.GIVEN_UP, extension_pb2.REQUEST: State.ASKED}


def view_of(flow: Flow, extension: FlowExtension | None = None) -> View | None:
    """What a flow says of a DNS, HTTP or gRPC request; None if it speaks of none."""
    record = flow.l7.WhichOneof("record")
    if record not in {"dns", "http"}:
        return None
    extension = extension_of(flow) if extension is None else extension
    connection, request = extension.connection, extension.connection.request
    state = _STATES.get(connection.event) if connection.HasField("request") else None
    if state is None:
        state = State.ANSWERED if flow.l7.type == flow_pb2.RESPONSE else State.ASKED
    reply, time = is_reply(flow, connection.event), nanoseconds(flow.time)
    source, destination = party(flow, extension.source, "source"), party(flow, extension.destination, "destination")
    latency = _latency(flow, extension, state)
    view = View(
        node=flow.node_name[:LONGEST],
        number=request.id if connection.HasField("request") else -1,
        connection=connection.id,
        at_client=is_at_client(extension, reply=reply) if connection.HasField("request") else None,
        transport=transport(flow),
        client=destination if reply else source,
        server=source if reply else destination,
        asked=time if state is State.ASKED else time - latency if latency is not None else None,
        answered=time if state is State.ANSWERED else None,
        changed=time,
        state=state,
        latency=latency,
        late=extension_pb2.LATE_ANSWER in request.marks,
        marks=frozenset(request.marks),
        backend=_backend(connection),
        verdict=flow.verdict,
    )
    if record == "dns":
        view.dns = dns_part(flow, extension, state)
    else:
        view.http = http_part(flow, extension)
    return view


def is_at_client(extension: FlowExtension, *, reply: bool) -> bool:
    """Whether it was the client's socket that was looked at: its end is then named by its cgroup, and only that end."""
    source, destination = (end.evidence == extension_pb2.CGROUP for end in (extension.source, extension.destination))
    at_source = source if source != destination else extension.connection.observed_at_source
    return bool(at_source != reply)


def _latency(flow: Flow, extension: FlowExtension, state: State) -> int | None:
    request = extension.connection.request
    if request.HasField("latency"):
        return max(0, nanoseconds(request.latency))
    return int(flow.l7.latency_ns) if state is State.ANSWERED and flow.l7.latency_ns else None


def _backend(connection: extension_pb2.Connection) -> Party:
    if not connection.HasField("backend"):
        return NOBODY
    end = connection.backend.endpoint
    return Party(
        address=connection.backend.address,
        port=connection.backend.port,
        namespace=end.namespace,
        pod=f"{end.namespace}/{end.pod_name}" if end.pod_name else "",
        node=connection.backend.node,
    )


def dns_part(flow: Flow, extension: FlowExtension, state: State) -> DnsPart:
    """The DNS message's part."""
    dns, more = flow.l7.dns, extension.connection.request.dns
    qtype = more.qtype or ",".join(dns.qtypes[:4])
    found = [record for record in more.answers[:MOST_ADDRESSES] if record.type in {"A", "AAAA"}]
    return DnsPart(
        name=dns.query[:LONGEST].lower().removesuffix(".") or ".",
        qtype=qtype[:32],
        query_id=more.id,
        rcode=int(dns.rcode or more.rcode) if state is State.ANSWERED else None,
        addresses=tuple(dns.ips[:MOST_ADDRESSES]) or tuple(record.data for record in found),
        ttl=int(dns.ttl) or min((record.ttl for record in found), default=0),
        attempt=more.attempt,
        fate=more.fate,
        evidence=more.fate_evidence[:LONGEST],
    )


def http_part(flow: Flow, extension: FlowExtension) -> HttpPart:
    """The HTTP request's part."""
    http, request = flow.l7.http, extension.connection.request
    host, path = split_url(http.url[: 8 * LONGEST])
    grpc = request.grpc
    status = None
    if grpc.has_status:
        status = grpc.status_name or str(grpc.status)
    return HttpPart(
        method=http.method[:32],
        host=host[:LONGEST],
        path=path[: 2 * LONGEST],
        protocol=http.protocol[:32],
        status=http.code,
        service=grpc.service[:LONGEST],
        call=grpc.method[:LONGEST],
        grpc_status=status,
        request_bytes=request.request_bytes,
        response_bytes=request.response_bytes,
    )


def split_url(url: str) -> tuple[str, str]:
    """Host and path of a URL, or of a path alone. Query and user info are left out."""
    found = _AUTHORITY.match(url)
    host, path = (found[1], url[found.end() :]) if found else ("", url)
    return host.rpartition("@")[2], path.partition("?")[0].partition("#")[0] or "/"


def is_slow(view: View) -> bool:
    """Whether the answer took longer than SLOW_NS, or came after it was given up."""
    return view.late or (view.latency is not None and view.latency > SLOW_NS)


def rcode_name(rcode: int | None) -> str:
    """`NXDOMAIN` and the like; a number's own name for what is not assigned."""
    if rcode is None:
        return ""
    return RCODES.get(rcode, f"RCODE{rcode}")
