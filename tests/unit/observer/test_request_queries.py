"""Queries for flows of requests: what filters find, what of requests no longer kept is told, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from request_samples import BOTH, Requested, connection, dns_answer, dns_request, request
from samples import CLIENT_NUMBER, SERVER_NUMBER, WALL, record

from flows.agent.observer.coverage import Asked, coverage
from flows.agent.observer.query import parse_request
from flows.agent.probe.record import Event
from flows.agent.store.public_names import NameSource, detail
from flows.agent.store.request_columns import METHODS, Kind
from flows.proto import extension_pb2, flows_pb2, observer_pb2

if TYPE_CHECKING:
    from samples import Names


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
    client, server = (np.full(2, end, np.uint32) for end in (CLIENT_NUMBER, SERVER_NUMBER))
    requested.flows.append(rows, client, server, WALL, details=details)
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


def test_sampling_is_told_as_a_gap_of_its_own(requested: Requested) -> None:
    store, s = requested.flows, 10**9
    store.lose("sampled", 30, 5 * s, 6 * s)
    store.lose("request ring full", 2, 6 * s, 7 * s)
    store.lose("sampled", 12, 6 * s, 7 * s)
    told = coverage("n", Asked(1 * s, None), requested.observer.known(100 * s, 0), 0)
    gaps = [(gap.reason, gap.count, gap.message) for gap in told.nodes[0].gaps]
    assert gaps == [(flows_pb2.SAMPLED, 42, "sampled"), (flows_pb2.LOST, 2, "request ring full")]
    assert not told.complete
