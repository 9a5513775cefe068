"""`flows dns names`: did you mean."""

from __future__ import annotations

import pytest
from answer_feeds import coverage, fed, rows
from answer_resolver import Resolver
from answer_samples import A, B, Pod, Query, connection

from flows.flow.answers.names import NamesAnswer


@pytest.mark.parametrize(
    ("missed", "known", "expected"),
    [
        ("svc-b", Pod("", "10.96.0.20", service="prod/svc-b"), "svc-b.prod"),
        ("svc-b.test", Pod("", "10.96.0.20", service="prod/svc-b"), "svc-b.prod"),
        ("svc-bb", Pod("", "10.96.0.20", service="demo/svc-b"), "svc-b.demo"),
        ("unlike", Pod("", "10.96.0.20", service="prod/svc-b"), None),
        ("www.example.com", Pod("", "10.96.0.20", service="prod/www"), None),
    ],
)
def test_did_you_mean_a_service_of_another_namespace(missed: str, known: Pod, expected: str | None) -> None:
    flows = Resolver().glibc(missed, "").flows()
    (row,) = rows(fed(NamesAnswer(), flows, coverage(), look=[connection(A, known)]))
    assert (row["name"], row["outcome"], row["did_you_mean"]) == (missed, "NXDOMAIN", expected)


@pytest.mark.parametrize(
    ("resolver", "here", "expected"),
    [
        (Resolver().pair("web.shop.svc.cluster.locall", 3), "shop/web", None),
        (Resolver().glibc("web", ""), "demo/web", None),
        (Resolver().pair("web.demo", 3), "demo/web", None),
        (Resolver().pair("web", 3), "demo/web", "web.demo"),
        (Resolver().glibc("web", ""), "shop/web", "web.ops"),
    ],
    ids=["in full", "through the search list", "without a search list", "not in full", "it is elsewhere only"],
)
def test_no_other_service_is_meant_where_it_is_looked_for(resolver: Resolver, here: str, expected: str | None) -> None:
    known = [Pod("", "10.96.0.31", service=here), Pod("", "10.96.0.32", service="ops/web")]
    (row,) = rows(fed(NamesAnswer(), resolver.flows(), coverage(), look=[connection(B, each) for each in known]))
    assert row["did_you_mean"] == expected


def test_services_that_were_looked_for_in_vain_are_asked_for_once() -> None:
    answer = NamesAnswer()
    for flow in Resolver().glibc("svc-b", "").flows():
        answer.add(flow)
    answer.end()
    by_service, by_name = answer.more()
    assert list(by_service.destination_service) == ["/svc-b"]
    assert "svc\\-b[.][^.]+[.]svc[.]" in by_name.dns_query[0]
    assert answer.more() == ()


def test_a_name_that_resolved_for_others_tells_of_a_service() -> None:
    resolved = Query("svc-b.prod.svc.cluster.local", client=Pod("demo/other-1", "10.0.2.3", "node-2"), number=99)
    (row,) = rows(fed(NamesAnswer(), Resolver().glibc("svc-b", "").flows(), coverage(), look=resolved.flows()))
    assert row["did_you_mean"] == "svc-b.prod"
