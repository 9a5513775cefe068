"""Flows of requests, as agents and as Hubble make them, for tests of answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.proto import extension_pb2, flow_pb2
from flows.proto.flow_pb2 import Flow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND


@dataclass(frozen=True)
class Pod:
    """An end. name: `ns/pod`; its workload is the part before the last hyphen."""

    name: str
    address: str
    node: str = ""
    service: str = ""  # whose address this is
    selected_by: tuple[str, ...] = ()
    pid: int = 0

    def fill(self, flow: Flow, detail: extension_pb2.EndpointDetail, side: str) -> None:
        namespace, _, pod = self.name.partition("/")
        end = getattr(flow, side)
        if pod:
            end.namespace, end.pod_name = namespace, pod
            end.workloads.add(name=pod.rpartition("-")[0], kind="Deployment")
        if self.service:
            where = getattr(flow, f"{side}_service")
            where.namespace, where.name = self.service.split("/")
        setattr(flow.IP, side, self.address)
        detail.node, detail.process.pid = self.node, self.pid
        for each in self.selected_by:
            space, name = each.split("/")
            detail.services.add(namespace=space, name=name)


A = Pod("demo/svc-a-1", "10.0.1.1", "node-1", pid=77)
B = Pod("demo/svc-b-1", "10.0.2.1", "node-2", selected_by=("demo/svc-b",))
VIP = Pod("", "10.96.0.10", service="kube-system/kube-dns")
DNS_POD = Pod("kube-system/dns-1", "10.0.2.9", "node-2", selected_by=("kube-system/kube-dns",))
UPSTREAM = Pod("", "9.9.9.9")


@dataclass
class Query:
    """A DNS query as one end saw it; flows() are what its agent tells of it."""

    name: str
    client: Pod = A
    server: Pod = VIP
    at: float = 0.0  # seconds since START
    took: float | None = 0.001  # None: no answer
    gave_up: float | None = None
    node: str = "node-1"
    at_client: bool = True
    qtype: str = "A"
    rcode: int = 0
    ips: Sequence[str] = ("10.96.0.20",)
    ttl: int = 30
    port: int = 40_000
    query_id: int = 7
    number: int = 1
    connection: int = 1
    attempt: int = 1
    late: bool = False
    marks: Sequence[int] = ()  # of the answer
    over_tcp: bool = False
    fate: extension_pb2.Fate = extension_pb2.FATE_UNKNOWN
    flows_told: Iterable[str] = field(default=("request", "response"))

    def flows(self) -> list[Flow]:
        made = [self._flow("request", self.at)] if "request" in self.flows_told else []
        if self.gave_up is not None:
            made.append(self._flow("no response", self.at + self.gave_up))
        if self.took is not None and "response" in self.flows_told:
            made.append(self._flow("response", self.at + self.took))
        return made

    def _flow(self, what: str, second: float) -> Flow:
        reply = what == "response"
        flow, extension = Flow(node_name=self.node, verdict="FORWARDED"), extension_pb2.FlowExtension()
        self._ends(flow, extension, reply=reply)
        flow.time.FromNanoseconds(START + round(second * SECOND))
        flow.is_reply.value = reply
        flow.l7.type = flow_pb2.RESPONSE if reply else flow_pb2.REQUEST
        flow.l7.dns.query, flow.l7.dns.qtypes[:] = f"{self.name}.", [self.qtype]
        connection = extension.connection
        connection.id, connection.observed_at_source = self.connection, self.at_client != reply
        connection.event = {
            "request": extension_pb2.REQUEST, "response": extension_pb2.RESPONSE, "no response": extension_pb2.NO_RESPONSE,
        }[what]  # fmt: skip
        request = connection.request
        request.id, request.kind = self.number, extension_pb2.DNS
        request.dns.id, request.dns.qtype, request.dns.attempt, request.dns.fate = (
            self.query_id,
            self.qtype,
            self.attempt,
            self.fate,
        )
        if self.late and reply:
            request.marks.append(extension_pb2.LATE_ANSWER)
        if reply:
            assert self.took is not None
            request.marks.extend(self.marks)  # type: ignore[arg-type]
            request.latency.FromNanoseconds(round(self.took * SECOND))
            flow.l7.latency_ns = round(self.took * SECOND)
            request.dns.rcode = self.rcode
            flow.l7.dns.rcode, flow.l7.dns.ips[:], flow.l7.dns.ttl = (
                self.rcode,
                list(self.ips) if not self.rcode else [],
                self.ttl,
            )
        flow.extensions.Pack(extension)
        return flow

    def _ends(self, flow: Flow, extension: extension_pb2.FlowExtension, *, reply: bool) -> None:
        ports = {"source": self.port, "destination": 53}
        sides = (
            (("destination", self.client), ("source", self.server))
            if reply
            else (("source", self.client), ("destination", self.server))
        )
        for side, pod in sides:
            pod.fill(flow, getattr(extension, side), side)
        transport = flow.l4.TCP if self.over_tcp else flow.l4.UDP
        transport.source_port = ports["destination" if reply else "source"]
        transport.destination_port = ports["source" if reply else "destination"]


def both(client: Query, server: Query) -> list[Flow]:
    """The flows of both ends of one query, in order of time."""
    return ordered(client.flows() + server.flows())


def ordered(flows: Iterable[Flow]) -> list[Flow]:
    return sorted(flows, key=lambda flow: flow.time.ToNanoseconds())


def server_view(of: Query, **changes: Any) -> Query:
    """What the DNS pod's node saw of a query."""
    values = of.__dict__ | {
        "server": DNS_POD, "node": "node-2", "at_client": False, "at": of.at + 0.0003, "number": of.number + 500, "gave_up": None,
        "connection": 900,
    }  # fmt: skip
    return Query(**(values | changes))


def upstream_query(of: Query, **changes: Any) -> Query:
    """What the DNS pod asked in turn."""
    values = of.__dict__ | {
        "client": DNS_POD, "server": UPSTREAM, "node": "node-2", "at": of.at + 0.0005, "number": of.number + 1000,
        "gave_up": None, "connection": 901, "query_id": of.query_id + 1, "port": 50_000,
    }  # fmt: skip
    return Query(**(values | changes))


@dataclass
class Call:
    """An HTTP request as one end saw it."""

    path: str = "/users/17"
    method: str = "GET"
    client: Pod = A
    server: Pod = B
    at: float = 0.0
    took: float | None = 0.002
    gave_up: float | None = None
    status: int = 200
    node: str = "node-1"
    at_client: bool = True
    port: int = 50_100
    number: int = 1
    grpc: tuple[str, str, int | None] | None = None
    response_bytes: int = 100

    def flows(self) -> list[Flow]:
        made = [self._flow("request", self.at)]
        if self.gave_up is not None:
            made.append(self._flow("no response", self.at + self.gave_up))
        if self.took is not None:
            made.append(self._flow("response", self.at + self.took))
        return made

    def _flow(self, what: str, second: float) -> Flow:
        reply = what == "response"
        flow, extension = Flow(node_name=self.node, verdict="FORWARDED"), extension_pb2.FlowExtension()
        client, server = ("destination", "source") if reply else ("source", "destination")
        self.client.fill(flow, getattr(extension, client), client)
        self.server.fill(flow, getattr(extension, server), server)
        flow.l4.TCP.source_port, flow.l4.TCP.destination_port = (80, self.port) if reply else (self.port, 80)
        flow.time.FromNanoseconds(START + round(second * SECOND))
        flow.is_reply.value = reply
        flow.l7.type = flow_pb2.RESPONSE if reply else flow_pb2.REQUEST
        http = flow.l7.http
        http.method, http.url, http.protocol = self.method, f"http://svc-b{self.path}", "HTTP/1.1"
        connection = extension.connection
        connection.id, connection.observed_at_source = 5, self.at_client != reply
        connection.event = {
            "request": extension_pb2.REQUEST, "response": extension_pb2.RESPONSE, "no response": extension_pb2.NO_RESPONSE,
        }[what]  # fmt: skip
        connection.spoken = extension_pb2.SPOKEN_HTTP1
        request = connection.request
        request.id, request.kind = self.number, extension_pb2.HTTP1
        if self.grpc is not None:
            request.kind, request.grpc.service, request.grpc.method = extension_pb2.GRPC, *self.grpc[:2]
        if reply:
            assert self.took is not None
            http.code = self.status
            request.latency.FromNanoseconds(round(self.took * SECOND))
            request.response_bytes = self.response_bytes
            if self.grpc is not None and self.grpc[2] is not None:
                request.grpc.has_status, request.grpc.status, request.grpc.status_name = True, self.grpc[2], f"S{self.grpc[2]}"
        flow.extensions.Pack(extension)
        return flow


def connection(
    client: Pod,
    server: Pod,
    *,
    at: float = 0.0,
    port: int = 443,
    source_port: int = 51_000,
    spoken: extension_pb2.Spoken = extension_pb2.SPOKEN_UNKNOWN,
    at_client: bool = True,
    started: float | None = None,
    node: str = "node-1",
) -> Flow:
    """A flow of a TCP connection."""
    flow, extension = Flow(node_name=node, verdict="FORWARDED"), extension_pb2.FlowExtension()
    client.fill(flow, extension.source, "source")
    server.fill(flow, extension.destination, "destination")
    flow.l4.TCP.source_port, flow.l4.TCP.destination_port = source_port, port
    flow.time.FromNanoseconds(START + round(at * SECOND))
    flow.is_reply.value = False
    made = extension.connection
    made.event, made.spoken, made.observed_at_source = extension_pb2.ESTABLISHED, spoken, at_client
    made.started.FromNanoseconds(START + round((at if started is None else started) * SECOND))
    flow.extensions.Pack(extension)
    return flow


def hubble(name: str, *, reply: bool, at: float = 0.0, rcode: int = 0, latency: float = 0.0, port: int = 40_000) -> Flow:
    """A DNS flow as Hubble's proxy makes it."""
    flow = Flow(node_name="node-1", verdict="FORWARDED")
    detail = extension_pb2.EndpointDetail()
    for side, pod in (("destination", A), ("source", DNS_POD)) if reply else (("source", A), ("destination", DNS_POD)):
        pod.fill(flow, detail, side)
    flow.l4.UDP.source_port, flow.l4.UDP.destination_port = (53, port) if reply else (port, 53)
    flow.time.FromNanoseconds(START + round(at * SECOND))
    flow.is_reply.value = reply
    flow.l7.type = flow_pb2.RESPONSE if reply else flow_pb2.REQUEST
    flow.l7.latency_ns = round(latency * SECOND)
    flow.l7.dns.query, flow.l7.dns.rcode = f"{name}.", rcode
    flow.l7.dns.qtypes.append("A")
    return flow
