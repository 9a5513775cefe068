"""Flows of requests and answers: what Hubble's clients expect of them, to the letter, and what else is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf import json_format
from request_samples import MS, Requested, connection, dns_answer, dns_request, request
from samples import CLIENT_NUMBER, SERVER_NUMBER, T0, WALL, record

from flows.agent.observer.coverage import Asked, coverage
from flows.agent.observer.query import parse_request
from flows.agent.probe.record import Event
from flows.agent.store.public_names import NameSource, detail
from flows.agent.store.request_columns import METHODS, Flag, Kind, State
from flows.cli.print import clock
from flows.cli.print.cells import exchange_cells
from flows.cli.print.compact import compact as printed
from flows.cli.print.style import Style
from flows.proto import extension_pb2, flow_pb2, flows_pb2, observer_pb2

if TYPE_CHECKING:
    from samples import Names

BOTH = (Event.REQUEST, Event.RESPONSE)


@pytest.fixture
def requested(names: Names) -> Requested:
    return Requested(names)


def compact(flow: flow_pb2.Flow) -> str:
    """What `flows observe` prints, without its time."""
    style = Style(time=clock.formatter("StampMilli"))
    return printed(exchange_cells(observer_pb2.GetFlowsResponse(flow=flow), style)).partition(": ")[2]


def test_http_is_shown_as_hubble_shows_it(requested: Requested) -> None:
    requested.store(request(), *BOTH)
    asked, answered = requested.shown()
    assert (
        compact(asked)
        == "demo/svc-a-1:40000 (ID:4001) -> demo/svc-b-1:80 (ID:4002) http-request FORWARDED (HTTP/1.1 GET http://web/users)"
    )
    assert compact(answered) == (
        "demo/svc-a-1:40000 (ID:4001) <- demo/svc-b-1:80 (ID:4002) http-response FORWARDED (HTTP/1.1 200 1ms (GET http://web/users))"
    )  # fmt: skip


def test_dns_is_shown_as_hubble_shows_it(requested: Requested) -> None:
    name = "web.shop.svc.cluster.local."
    addresses = dns_answer((name, 30, "A", "1.2.3.4"), (name, 30, "A", "5.6.7.8"))
    alias = dns_answer((name, 60, "CNAME", "x.shop."), ("x.shop.", 5, "A", "1.2.3.4"))
    for answer in (addresses, alias, dns_answer(rcode=3), dns_answer()):
        requested.store(dns_request(answer), *BOTH)
    lines = [compact(flow) for flow in requested.shown()]
    ask = "demo/svc-a-1:40000 (ID:4001) -> demo/svc-b-1:53 (ID:4002) dns-request agent FORWARDED"
    answered = "demo/svc-a-1:40000 (ID:4001) <- demo/svc-b-1:53 (ID:4002) dns-response agent FORWARDED"
    assert sorted(lines) == sorted(
        [f"{ask} (DNS Query {name} A)"] * 4
        + [
            f"{answered} (DNS Answer {words} (Query {name} A))"
            for words in (
                '"1.2.3.4,5.6.7.8" TTL: 30', '"1.2.3.4" CNAMEs: "x.shop." TTL: 5', "RCode: Non-Existent Domain TTL: 4294967295",
                "TTL: 4294967295",
            )
        ]
    )  # fmt: skip


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


@pytest.mark.parametrize(
    ("columns", "request_words", "answer_words"),
    [
        ({"version": 10}, "HTTP/1.0 GET http://web/users", "HTTP/1.0 200 1ms (GET http://web/users)"),
        ({"kind": Kind.HTTP2, "version": 20}, "HTTP/2 GET http://web/users", "HTTP/2 200 1ms (GET http://web/users)"),
        ({"host": b"", "status": 404}, "HTTP/1.1 GET /users", "HTTP/1.1 404 1ms (GET /users)"),
        ({"method": 0}, "HTTP/1.1 UNKNOWN http://web/users", "HTTP/1.1 200 1ms (UNKNOWN http://web/users)"),
        ({"origin": 1}, "HTTP/1.1 GET https://web/users", "HTTP/1.1 200 1ms (GET https://web/users)"),
        (
            {"text": b"http://other/x", "method": METHODS.index("PUT")},
            "HTTP/1.1 PUT http://other/x",
            "HTTP/1.1 200 1ms (PUT http://other/x)",
        ),
        ({"answered": T0 + WALL - 5 * MS}, "HTTP/1.1 GET http://web/users", "HTTP/1.1 200 0ms (GET http://web/users)"),
        (
            {"answered": T0 + WALL + 1_321_826_604, "status": 503},
            "HTTP/1.1 GET http://web/users",
            "HTTP/1.1 503 1321ms (GET http://web/users)",
        ),
    ],
)  # fmt: skip
def test_summaries_of_http(requested: Requested, columns: dict[str, Any], request_words: str, answer_words: str) -> None:
    requested.store(request(**columns), *BOTH)
    assert sorted(flow.Summary for flow in requested.shown()) == sorted([request_words, answer_words])


def test_an_answer_whose_request_was_not_seen_says_so(requested: Requested) -> None:
    requested.store(request(time=0, state=State.ALONE, method=0, text=b"", host=b""), Event.RESPONSE)
    (flow,) = requested.shown()
    assert flow.Summary == "HTTP/1.1 200 0ms (request not seen)"
    assert (flow.l7.http.code, flow.l7.http.method, flow.l7.http.url, flow.l7.latency_ns) == (200, "", "", 0)
    assert connection(flow).request.state == extension_pb2.ALONE
    assert not connection(flow).request.HasField("latency")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (request, "HTTP/1.1 GET http://web/users; no answer after 60s"),
        (dns_request, "DNS Query web.shop.svc.cluster.local. A; no answer after 60s"),
    ],
)
def test_what_nobody_answered_is_an_error(requested: Requested, columns: Any, words: str) -> None:
    requested.store(columns(answered=0, status=0, state=State.UNANSWERED), Event.NO_RESPONSE, at_ns=60_000 * MS)
    (flow,) = requested.shown()
    assert (flow.Summary, flow.verdict, flow.l7.type) == (words, flow_pb2.ERROR, flow_pb2.REQUEST)
    assert (flow.event_type.type, flow.is_reply.value, flow.HasField("is_reply")) == (129, False, True)
    assert flow.source.pod_name == "svc-a-1"
    assert connection(flow).request.state == extension_pb2.GIVEN_UP


def test_what_ended_with_its_connection_says_so(requested: Requested) -> None:
    ended = {"answered": 0, "state": State.UNANSWERED, "flags": Flag.CONNECTION_END}
    requested.store(request(**ended), Event.NO_RESPONSE, at_ns=250 * MS)
    assert requested.shown()[0].Summary == "HTTP/1.1 GET http://web/users; connection ended without an answer after 0.25s"


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


@pytest.mark.parametrize("path", [b"/\x1b[31m", b"/\xff\xfe", b"/a\r\nb", "/\u202e".encode()])
def test_bytes_of_a_path_are_told_as_text(requested: Requested, path: bytes) -> None:
    requested.store(request(text=path), *BOTH)
    for flow in requested.shown():
        assert flow.l7.http.url == f"http://web{path.decode(errors='backslashreplace')}"
        assert flow.l7.http.url in flow.Summary
        assert "\x1b" not in compact(flow)
        assert "\n" not in compact(flow)


def test_a_request_that_is_no_longer_kept_is_told_as_that(names: Names) -> None:
    requested = Requested(names, capacity=2)
    for number in range(4):
        requested.store(request(conn_id=number + 1, text=f"/{number}".encode()), *BOTH)
    flows = requested.shown()
    assert sum(flow.Summary == "request no longer kept" for flow in flows) == 4
    kept = [flow.l7.http.url for flow in flows if flow.HasField("l7")]
    assert sorted(kept) == ["http://web/2"] * 2 + ["http://web/3"] * 2
    gone = next(flow for flow in flows if not flow.HasField("l7"))
    assert (gone.IP.source, gone.source.pod_name, gone.event_type.type, gone.IP.encrypted) == ("10.0.0.1", "svc-a-1", 129, False)
    assert connection(gone).request == extension_pb2.Request()
    assert connection(gone).id in (1, 2)
    assert {flow.l7.http.url for flow in requested.shown(whitelist=[{"http_method": ["GET"]}])} == set(kept)


def test_flows_are_shown_though_no_request_is_kept_at_all(requested: Requested) -> None:
    requested.tell(0, request(), *BOTH)
    assert [flow.Summary for flow in requested.shown()] == ["request no longer kept"] * 2
    assert requested.shown(whitelist=[{"http_method": ["GET"]}]) == []


def test_numbers_beyond_32_bits_find_their_request(requested: Requested) -> None:
    requested.requests.written = (1 << 32) - 1
    for path in (b"/a", b"/b"):
        requested.store(request(text=path), Event.REQUEST)
    assert [flow.l7.http.url for flow in requested.shown()] == ["http://web/a", "http://web/b"]
    assert [connection(flow).request.id for flow in requested.shown()] == [1 << 32, (1 << 32) + 1]


@pytest.fixture
def varied(requested: Requested) -> Requested:
    """Requests of each kind, and a connection of each kind of name."""
    posted = {"method": METHODS.index("POST"), "text": b"/orders/7", "host": b"api.shop:8080", "status": 503}
    hello = {"kind": Kind.TLS, "method": 0, "version": 0x0304, "status": 0, "text": b"bank.example.com", "host": b"h2"}
    inside = {"origin": 1, "host": b"bank.example.com", "text": b"/login"}
    requested.store(request(conn_id=1, headers=b"X-Id: 2\n"), *BOTH)
    requested.store(request(conn_id=2, **posted), *BOTH)
    requested.store(dns_request(dns_answer(rcode=3), conn_id=3), *BOTH)
    requested.store(request(conn_id=4, **hello), Event.HELLO)
    requested.store(request(conn_id=5, **inside), *BOTH)
    number = requested.names.number("cdn.example.com")
    details = detail(np.array([number, 0], np.uint32), NameSource.DNS_ANSWER)
    rows = np.concatenate([record(conn_id=6, icmp_code=extension_pb2.SPOKEN_TLS), record(conn_id=7)])
    ends = (np.full(2, end, np.uint32) for end in (CLIENT_NUMBER, SERVER_NUMBER))
    requested.flows.append(rows, *ends, WALL, details=details)
    return requested


A, Q = Event.RESPONSE, Event.REQUEST


@pytest.mark.parametrize(
    ("wanted", "flows"),
    [
        ({"http_status_code": ["200"]}, [(1, A), (5, A)]),
        ({"http_status_code": ["5+"]}, [(2, A)]),
        ({"http_method": ["post"]}, [(2, Q), (2, A)]),
        ({"http_path": ["/orders/[0-9]+$"]}, [(2, Q), (2, A)]),
        ({"http_url": ["^http://api.shop:8080/"]}, [(2, Q), (2, A)]),
        ({"http_url": ["^https://"]}, [(5, Q), (5, A)]),
        ({"http_header": [{"key": "X-Id", "value": "2"}]}, [(1, Q), (1, A)]),
        ({"protocol": ["http"]}, [(1, Q), (1, A), (2, Q), (2, A), (5, Q), (5, A)]),
        ({"protocol": ["dns"]}, [(3, Q), (3, A)]),
        ({"dns_query": ["web\\.shop"]}, [(3, Q), (3, A)]),
        ({"dns_query": ["nothing"]}, []),
        ({"destination_fqdn": ["web"]}, [(1, Q)]),
        ({"source_fqdn": ["web"]}, [(1, A)]),
        ({"destination_fqdn": ["api.shop"]}, [(2, Q)]),
        ({"destination_fqdn": ["*.example.com"]}, [(4, Event.HELLO), (5, Q), (6, Event.CLOSED)]),
        ({"destination_fqdn": ["cdn.example.com"]}, [(6, Event.CLOSED)]),
        ({"encrypted": [True]}, [(4, Event.HELLO), (5, Q), (5, A), (6, Event.CLOSED)]),
        ({"encrypted": [False]}, [(1, Q), (1, A), (2, Q), (2, A), (3, Q), (3, A), (7, Event.CLOSED)]),
        ({"event_type": [{"type": 129}]}, [(number, event) for number in (1, 2, 3, 5) for event in (Q, A)]),
        ({"event_type": [{"type": 4}]}, [(4, Event.HELLO), (6, Event.CLOSED), (7, Event.CLOSED)]),
        ({"reply": [True]}, [(1, A), (2, A), (3, A), (5, A)]),
        ({"source_port": ["80"]}, [(1, A), (2, A), (5, A)]),
        ({"source_ip": ["10.0.0.2"]}, [(1, A), (2, A), (3, A), (5, A)]),
        ({"source_pod": ["demo/svc-b-1"], "http_status_code": ["503"]}, [(2, A)]),
    ],
)
def test_filters_ask_what_is_stored(varied: Requested, wanted: dict[str, Any], flows: list[tuple[int, Event]]) -> None:
    found = [connection(flow) for flow in varied.shown(whitelist=[wanted])]
    assert sorted((one.id, one.event) for one in found) == sorted((number, int(event)) for number, event in flows)


def test_filters_and_messages_agree(varied: Requested) -> None:
    """What a filter finds in the store is what a client would find in the messages."""
    flows = varied.shown()
    encrypted = {flow.uuid for flow in varied.shown(whitelist=[{"encrypted": [True]}])}
    assert encrypted == {flow.uuid for flow in flows if flow.IP.encrypted}
    for names in ("source", "destination"):
        found = {flow.uuid for flow in varied.shown(whitelist=[{f"{names}_fqdn": ["*"]}])}
        assert found == {flow.uuid for flow in flows if getattr(flow, f"{names}_names")}


def test_a_connection_tells_its_name_with_its_source_and_what_is_spoken(varied: Requested) -> None:
    named, plain = (flow for flow in varied.shown() if not connection(flow).HasField("request"))
    assert list(named.destination_names) == ["cdn.example.com"]
    assert (connection(named).name_source, connection(named).spoken) == (extension_pb2.DNS_ANSWER, extension_pb2.SPOKEN_TLS)
    assert (list(plain.destination_names), connection(plain).name_source, connection(plain).spoken) == ([], 0, 0)


@pytest.mark.parametrize("client", [1, 0])
def test_a_batch_says_which_flows_are_answers_and_who_opened(requested: Requested, client: int) -> None:
    requested.store(request(client=client), *BOTH)
    selected = requested.observer.past(parse_request(observer_pb2.GetFlowsRequest()))
    batch = requested.observer.batch(selected, requested.observer.ends)
    assert batch.reply.tolist() == [0, 1]
    assert batch.at_source.tolist() == [client] * 2
    assert len(set(batch.source.tolist())) == len(set(batch.tuple.tolist())) == len(set(batch.opener.tolist())) == 1


def test_sampling_is_told_as_a_gap_of_its_own(requested: Requested) -> None:
    store, s = requested.flows, 10**9
    store.lose("sampled", 30, 5 * s, 6 * s)
    store.lose("request ring full", 2, 6 * s, 7 * s)
    store.lose("sampled", 12, 6 * s, 7 * s)
    told = coverage("n", Asked(1 * s, None), requested.observer.known(100 * s, 0), 0)
    gaps = [(gap.reason, gap.count, gap.message) for gap in told.nodes[0].gaps]
    assert gaps == [(flows_pb2.SAMPLED, 42, "sampled"), (flows_pb2.LOST, 2, "request ring full")]
    assert not told.complete
