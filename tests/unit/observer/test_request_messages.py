"""Flows of requests as messages: Hubble's fields, to the letter, and what the extension adds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from request_samples import BOTH, connection, dns_answer, dns_request, request

from flows.agent.probe.record import Event
from flows.agent.store.request_columns import METHODS, Flag, Kind, State
from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from request_samples import Requested


# Fields that other tests look at, or that differ from run to run.
LEFT_OUT = ("uuid", "extensions", "node_labels", "emitter", "time", "source", "destination", "socket_cookie", "source_service",
            "destination_service")  # fmt: skip


def as_json(flow: flow_pb2.Flow) -> dict[str, Any]:
    message = json.loads(json_format.MessageToJson(flow, preserving_proto_field_name=True))
    return {name: value for name, value in message.items() if name not in LEFT_OUT}


def test_the_messages_of_http_are_hubbles(requested: Requested) -> None:
    requested.store(request(headers=b"User-Agent: curl/8\nX-Request-Id: 2\n"), *BOTH)
    asked, answered = (as_json(flow) for flow in requested.shown())
    headers = [{"key": "User-Agent", "value": "curl/8"}, {"key": "X-Request-Id", "value": "2"}]
    http = {"method": "GET", "url": "http://web/users", "protocol": "HTTP/1.1", "headers": headers}
    common = {
        "verdict": "FORWARDED", "Type": "L7", "node_name": "demo/node-1", "event_type": {"type": 129},
        "traffic_direction": "EGRESS",
    }  # fmt: skip
    assert asked == {
        **common, "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 40_000, "destination_port": 80}}, "is_reply": False, "destination_names": ["web"],
        "l7": {"type": "REQUEST", "http": http}, "Summary": "HTTP/1.1 GET http://web/users",
    }  # fmt: skip
    assert answered == {
        **common, "IP": {"source": "10.0.0.2", "destination": "10.0.0.1", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 80, "destination_port": 40_000}}, "is_reply": True, "source_names": ["web"],
        "l7": {"type": "RESPONSE", "latency_ns": "1900000", "http": {**http, "code": 200}},
        "Summary": "HTTP/1.1 200 1ms (GET http://web/users)",
    }  # fmt: skip


def test_a_request_has_its_own_headers_and_its_answer_both_however_odd(requested: Requested) -> None:
    requested.store(request(headers="X-A: v\x0bCookie: é\u2028t\n\nServer: n\n".encode()), *BOTH)
    asked, answered = ([(each.key, each.value) for each in flow.l7.http.headers] for flow in requested.shown())
    assert asked == [("X-A", "v\x0bCookie: é\u2028t")]
    assert answered == [*asked, ("Server", "n")]


def test_the_messages_of_dns_are_hubbles(requested: Requested) -> None:
    name = "web.shop.svc.cluster.local."
    requested.store(dns_request(dns_answer((name, 30, "A", "1.2.3.4"))), *BOTH)
    asked, answered = (as_json(flow) for flow in requested.shown())
    dns = {"query": name, "observation_source": "agent", "qtypes": ["A"]}
    assert (asked["l7"], asked["is_reply"]) == ({"type": "REQUEST", "dns": dns}, False)
    assert answered["l7"] == {
        "type": "RESPONSE", "latency_ns": "1900000", "dns": {**dns, "ips": ["1.2.3.4"], "ttl": 30, "rrtypes": ["A"]}
    }  # fmt: skip
    assert answered["l4"] == {"UDP": {"source_port": 53, "destination_port": 40_000}}
    assert (answered["is_reply"], answered["event_type"], answered["Type"]) == (True, {"type": 129}, "L7")


@pytest.mark.parametrize("client", [1, 0])
def test_the_client_is_the_source_of_the_request_and_the_server_of_the_answer(requested: Requested, client: int) -> None:
    here, there = ("local", "remote") if client else ("remote", "local")
    ends = {f"{here}_addr": "10.0.0.1", f"{there}_addr": "10.0.0.2", f"{here}_port": 40_000, f"{there}_port": 80}
    requested.store(request(client=client, **ends), *BOTH)
    asked, answered = requested.shown()
    assert (asked.source.pod_name, asked.destination.pod_name) == ("svc-a-1", "svc-b-1")
    assert (answered.source.pod_name, answered.destination.pod_name) == ("svc-b-1", "svc-a-1")
    assert (asked.IP.source, answered.IP.source) == ("10.0.0.1", "10.0.0.2")
    assert (asked.l4.TCP.source_port, answered.l4.TCP.source_port) == (40_000, 80)
    assert asked.traffic_direction == answered.traffic_direction == (flow_pb2.EGRESS if client else flow_pb2.INGRESS)
    for flow in (asked, answered):
        assert not flow.l4.TCP.HasField("flags")
        assert connection(flow).initiator == extension_pb2.SOURCE


def test_what_hubble_has_no_field_for_is_in_the_extension(requested: Requested) -> None:
    flags = Flag.CUT | Flag.PIPELINED | Flag.UPGRADED
    number = requested.store(request(flags=flags), *BOTH)
    asked, answered = (connection(flow) for flow in requested.shown())
    assert (asked.id, asked.event, answered.event) == (1, extension_pb2.REQUEST, extension_pb2.RESPONSE)
    for one in (asked.request, answered.request):
        assert (one.id, one.kind, one.state) == (number + 1, extension_pb2.HTTP1, extension_pb2.ANSWERED)
        assert list(one.marks) == [extension_pb2.CUT, extension_pb2.PIPELINED, extension_pb2.UPGRADED]
        assert (one.request_bytes, one.response_bytes, one.origin) == (78, 2_000, extension_pb2.PACKET)
    assert not asked.request.HasField("latency")
    assert answered.request.latency.ToNanoseconds() == 1_900_000
    assert not asked.HasField("from_source")


@pytest.mark.parametrize("flag", list(Flag))
def test_every_mark_is_told(requested: Requested, flag: Flag) -> None:
    requested.store(request(flags=flag), Event.REQUEST)
    (flow,) = requested.shown()
    assert list(connection(flow).request.marks) == [flag.bit_length() - 1]


def test_an_answer_whose_request_was_not_seen_says_so(requested: Requested) -> None:
    requested.store(request(time=0, state=State.ALONE, method=0, text=b"", host=b""), Event.RESPONSE)
    (flow,) = requested.shown()
    assert flow.Summary == "HTTP/1.1 200 0ms (request not seen)"
    assert (flow.l7.http.code, flow.l7.http.method, flow.l7.http.url, flow.l7.latency_ns) == (200, "", "", 0)
    assert connection(flow).request.state == extension_pb2.ALONE
    assert not connection(flow).request.HasField("latency")


def test_a_tries_number_is_told_and_which_was_the_first(requested: Requested) -> None:
    requested.store(dns_request(answered=0, state=State.UNANSWERED), Event.REQUEST)
    requested.store(dns_request(answered=0, state=State.UNANSWERED, attempt=2, first=0), Event.REQUEST, Event.NO_RESPONSE)
    first, again, over = (connection(flow).request for flow in requested.shown())
    assert [one.dns.attempt for one in (first, again, over)] == [1, 2, 2]
    assert [one.dns.first for one in (first, again, over)] == [first.id] * 3


@pytest.mark.parametrize(
    ("grpc", "words", "status"),
    [(1, "; grpc-status 0 OK", (0, "OK")), (15, "; grpc-status 14 UNAVAILABLE", (14, "UNAVAILABLE")), (0, "", None)],
)
def test_grpc_tells_service_method_and_status(
    requested: Requested, grpc: int, words: str, status: tuple[int, str] | None
) -> None:
    call = {"kind": Kind.GRPC, "version": 20, "method": METHODS.index("POST"), "text": b"/pkg.Echo/Say", "host": b"echo:50051"}
    requested.store(request(grpc=grpc, **call), *BOTH)
    asked, answered = requested.shown()
    assert asked.Summary == "HTTP/2 POST http://echo:50051/pkg.Echo/Say"
    assert answered.Summary == f"HTTP/2 200 1ms (POST http://echo:50051/pkg.Echo/Say){words}"
    told = connection(answered).request.grpc
    assert (told.service, told.method) == ("pkg.Echo", "Say")
    assert ((told.status, told.status_name) if told.has_status else None) == status
    assert not connection(asked).request.grpc.has_status


def test_a_client_hello_is_no_request_that_hubble_knows(requested: Requested) -> None:
    hello = {
        "kind": Kind.TLS,
        "method": 0,
        "version": 0x0304,
        "status": 0x1301,
        "text": b"web.example.com",
        "host": b"h2,http/1.1",
    }
    requested.store(request(remote_port=443, **hello), Event.HELLO)
    (flow,) = requested.shown()
    assert flow.Summary == "TLS ClientHello SNI: web.example.com ALPN: h2,http/1.1 TLS 1.3"
    assert (flow.Type, flow.event_type.type, flow.HasField("l7"), flow.IP.encrypted) == (flow_pb2.L3_L4, 4, False, True)
    assert list(flow.destination_names) == ["web.example.com"]
    tls = connection(flow).request.tls
    assert (tls.server_name, list(tls.alpn), tls.version, tls.cipher) == (
        "web.example.com", ["h2", "http/1.1"], "TLS 1.3", "TLS_AES_128_GCM_SHA256"
    )  # fmt: skip


def test_a_cipher_that_nobody_chose_is_not_told(requested: Requested) -> None:
    requested.store(request(kind=Kind.TLS, state=State.ASKED, status=0, version=0x0303, text=b"", host=b""), Event.HELLO)
    (flow,) = requested.shown()
    assert flow.Summary == "TLS ClientHello no SNI TLS 1.2"
    assert connection(flow).request.tls.cipher == ""
