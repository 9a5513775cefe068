"""Flows of requests in words: their summaries, and what `flows observe` prints, as Hubble does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from request_samples import BOTH, MS, connection, dns_answer, dns_request, request
from samples import T0, WALL

from flows.agent.probe.record import Event
from flows.agent.store.request_columns import METHODS, Flag, Kind, State
from flows.cli.print import clock
from flows.cli.print.cells import exchange_cells
from flows.cli.print.compact import compact as printed
from flows.cli.print.style import Style
from flows.proto import extension_pb2, flow_pb2, observer_pb2

if TYPE_CHECKING:
    from request_samples import Requested


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


NO_ANSWER: dict[str, Any] = {"answered": 0, "state": State.UNANSWERED}


@pytest.mark.parametrize(
    ("columns", "after_ms", "words"),
    [
        (request(**NO_ANSWER, status=0), 60_000, "HTTP/1.1 GET http://web/users; no answer after 60s"),
        (dns_request(**NO_ANSWER, status=0), 60_000, "DNS Query web.shop.svc.cluster.local. A; no answer after 60s"),
        (
            request(**NO_ANSWER, flags=Flag.CONNECTION_END),
            250,
            "HTTP/1.1 GET http://web/users; connection ended without an answer after 0.25s",
        ),
    ],
    ids=["http", "dns", "what-ended-with-its-connection-says-so"],
)
def test_what_nobody_answered_is_an_error(requested: Requested, columns: dict[str, Any], after_ms: int, words: str) -> None:
    requested.store(columns, Event.NO_RESPONSE, at_ns=after_ms * MS)
    (flow,) = requested.shown()
    assert (flow.Summary, flow.verdict, flow.l7.type) == (words, flow_pb2.ERROR, flow_pb2.REQUEST)
    assert (flow.event_type.type, flow.is_reply.value, flow.HasField("is_reply")) == (129, False, True)
    assert flow.source.pod_name == "svc-a-1"
    assert connection(flow).request.state == extension_pb2.GIVEN_UP


@pytest.mark.parametrize("path", [b"/\x1b[31m", b"/\xff\xfe", b"/a\r\nb", "/\u202e".encode()])
def test_bytes_of_a_path_are_told_as_text(requested: Requested, path: bytes) -> None:
    requested.store(request(text=path), *BOTH)
    for flow in requested.shown():
        assert flow.l7.http.url == f"http://web{path.decode(errors='backslashreplace')}"
        assert flow.l7.http.url in flow.Summary
        assert "\x1b" not in compact(flow)
        assert "\n" not in compact(flow)
