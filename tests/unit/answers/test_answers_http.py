"""`flows http`: endpoints by template, each request once, statuses, gRPC, what is not known."""

from __future__ import annotations

import pytest
from answer_feeds import fed, rows
from answer_samples import START, A, B, Call, Pod, ordered

from flows.flow.answers.http import HttpAnswer
from flows.flow.answers.table import OTHER, Groups
from flows.proto import flow_pb2
from flows.proto.flow_pb2 import Flow


def test_an_endpoint_has_its_statuses_rate_and_latency() -> None:
    calls = [
        Call(f"/users/{n}", at=n * 0.1, number=n + 1, status=status, port=n) for n, status in enumerate([200, 206, 304, 404, 503])
    ]
    calls.append(Call("/users/9", at=1, number=9, took=None, gave_up=60.0, port=9))
    answer = HttpAnswer()
    answer.within(START - 90_000_000_000, START + 10_000_000_000)
    (row,) = rows(fed(answer, ordered(flow for call in calls for flow in call.flows())))
    assert (row["client"], row["server"], row["host"], row["method"], row["path"]) == (
        "demo/svc-a", "demo/svc-b", "svc-b", "GET", "/users/{id}",
    )  # fmt: skip
    assert [row[f"status_{each}xx"] for each in (1, 2, 3, 4, 5)] == [0, 2, 1, 1, 1]
    assert (row["count"], row["unanswered"], row["response_bytes"]) == (6, 1, 500)
    assert row["rate_per_s"] == pytest.approx(6 / 151, rel=0.01)
    assert row["p50_ns"] == pytest.approx(2_000_000, rel=0.01)
    assert row["max_ns"] == 2_000_000


def test_both_ends_views_are_one_request_in_order_of_a_connections_requests() -> None:
    client = [Call("/same", at=n * 0.01, number=n + 1) for n in range(20)]
    server = [Call("/same", at=n * 0.01 + 0.02, number=n + 900, at_client=False, node="node-2", took=0.001) for n in range(20)]
    (row,) = rows(fed(HttpAnswer(), ordered(flow for call in client + server for flow in call.flows())))
    assert (row["count"], row["p50_ns"]) == (20, pytest.approx(2_000_000, rel=0.01))


def test_a_service_is_called_by_its_name_and_its_pods_are_known() -> None:
    service = Pod("", "10.96.0.20", service="demo/svc-b")
    flows = ordered([*Call(server=service).flows(), *Call(server=B, at=0.0002, at_client=False, node="node-2", number=7).flows()])
    (row,) = rows(fed(HttpAnswer(), flows))
    assert (row["server"], row["count"], row["server_pods"]) == ("demo/svc-b", 1, ["demo/svc-b-1"])


def test_a_call_that_only_the_server_saw_counts() -> None:
    (row,) = rows(fed(HttpAnswer(), Call(at_client=False, node="node-2").flows()))
    assert (row["client"], row["count"]) == ("demo/svc-a", 1)


def test_grpc_is_service_and_method_with_its_status() -> None:
    calls = [
        Call("/shop.Cart/Add", "POST", at=n, number=n + 1, grpc=("shop.Cart", "Add", status), port=n)
        for n, status in enumerate((0, 14, 14))
    ]
    (row,) = rows(fed(HttpAnswer(), ordered(flow for call in calls for flow in call.flows())))
    assert (row["path"], row["grpc_status"], row["grpc_service"], row["grpc_method"]) == (
        "/shop.Cart/Add", {"S14": 2, "S0": 1}, "shop.Cart", "Add",
    )  # fmt: skip


def test_what_was_not_answered_yet_waits_and_what_nobody_tells_of_was_not_seen() -> None:
    flows = [*Call("/old", took=None, number=1).flows(), *Call("/new", at=100, took=None, number=2).flows()]
    found = {row["path"]: (row["no_answer_seen"], row["waiting"], row["unanswered"]) for row in rows(fed(HttpAnswer(), flows))}
    assert found == {"/old": (1, 0, 0), "/new": (0, 1, 0)}


def test_a_place_with_too_many_names_becomes_one_row() -> None:
    calls = [Call(f"/x/{name * 3}{tail}/y", at=n, number=n + 1, port=n) for n, (name, tail) in enumerate(
        (name, tail) for name in "abcdefghijklm" for tail in "pqrstuvw"
    )]  # fmt: skip
    found = rows(fed(HttpAnswer(), ordered(flow for call in calls for flow in call.flows())))
    assert [(row["path"], row["count"]) for row in found] == [("/x/{*}/y", 104)]


def test_names_that_become_one_row_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Groups.__init__, "__defaults__", (200,))
    words = [f"{one}{other}" for one in "abcdefghijklmnopqrst" for other in "abcdefghijklmnopqrst"]
    calls = [Call(f"/products/{word}", at=n, number=n + 1, port=n) for n, word in enumerate(words)]
    calls.append(Call("/checkout", at=len(words), number=len(words) + 1, status=500))
    answer = fed(HttpAnswer(), ordered(flow for call in calls for flow in call.flows()))
    assert [(row["path"], row["count"], row["status_5xx"]) for row in rows(answer)] == [
        ("/products/{*}", len(words), 0), ("/checkout", 1, 1),
    ]  # fmt: skip
    assert not any(OTHER in note for note in answer.tables()[0].notes)


def test_flows_of_hubble_need_only_their_response() -> None:
    flow = Flow(node_name="n")
    flow.IP.source, flow.IP.destination = B.address, A.address
    flow.l4.TCP.source_port, flow.l4.TCP.destination_port = 80, 5000
    flow.is_reply.value = True
    flow.time.FromNanoseconds(START)
    flow.l7.type, flow.l7.latency_ns = flow_pb2.RESPONSE, 3_000_000
    flow.l7.http.url, flow.l7.http.method, flow.l7.http.code = "http://svc-b/users/3?secret=1", "GET", 200
    (row,) = rows(fed(HttpAnswer(), [flow]))
    assert (row["client"], row["server"], row["path"], row["status_2xx"]) == (A.address, B.address, "/users/{id}", 1)
    assert row["p99_ns"] == pytest.approx(3_000_000, rel=0.01)
