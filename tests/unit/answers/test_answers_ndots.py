"""`flows dns names`: what search lists cost, and the cure."""

from __future__ import annotations

from typing import Any

import pytest
from answer_feeds import coverage, fed, rows
from answer_resolver import ELSEWHERE, EXTERNAL, SEARCH, Resolver

from flows.flow.answers.names import NamesAnswer

OWN = "db-0.db"  # a pod of a StatefulSet, as others of its namespace call it


def test_the_price_of_ndots_and_its_cure() -> None:
    flows = Resolver().glibc(EXTERNAL, EXTERNAL).flows() + Resolver(at=60).glibc(ELSEWHERE, f"{ELSEWHERE}.{SEARCH[1]}").flows()
    (cost,) = rows(fed(NamesAnswer(), flows, coverage()), 1)
    assert {key: cost[key] for key in ("client", "lookups", "queries", "detours", "wasted_packets", "ndots")} == {
        "client": "demo/svc-a", "lookups": 2, "queries": 12, "detours": 2, "wasted_packets": 16, "ndots": 2,
    }  # fmt: skip
    assert cost["names"] == ["api.example.com.", "svc-b.prod.svc.cluster.local."]
    assert cost["fix"] == (
        'ask for "api.example.com.", "svc-b.prod.svc.cluster.local." with the dot at the end'
        ", or set ndots to 2 in the pod's dnsConfig"
    )
    assert cost["dns_config"] == 'dnsConfig:\n  options:\n    - name: ndots\n      value: "2"\n'


@pytest.mark.parametrize(
    ("resolver", "ndots"),
    [
        (Resolver().glibc(EXTERNAL, EXTERNAL), 1),
        (Resolver().glibc(ELSEWHERE, f"{ELSEWHERE}.{SEARCH[1]}"), None),
        (Resolver().glibc("nosuch", ""), None),
        (Resolver().glibc(EXTERNAL, ""), None),
        (Resolver().glibc(EXTERNAL, EXTERNAL).glibc(OWN, f"{OWN}.{SEARCH[0]}"), 2),
        (Resolver().glibc(EXTERNAL, EXTERNAL).pair(f"{OWN}.shop.svc.cluster.local"), 1),
        (Resolver().glibc(EXTERNAL, EXTERNAL).pair(f"{OWN}.{SEARCH[0]}", 3), 1),
        (Resolver().glibc(EXTERNAL, EXTERNAL).pair(SEARCH[0], 0), 1),
    ],
    ids=[
        "outside names only", "no name would be spared", "no name has a dot", "glibc tries suffixes anyway",
        "a name with a dot needs the first suffix", "of another namespace", "that does not exist", "a name without suffix",
    ],
)  # fmt: skip
def test_another_ndots_is_advised_only_where_it_helps(resolver: Resolver, ndots: int | None) -> None:
    (cost,) = rows(fed(NamesAnswer(), resolver.flows(), coverage()), 1)
    assert cost["ndots"] == ndots


def test_names_that_are_found_at_once_cost_nothing() -> None:
    assert rows(fed(NamesAnswer(), Resolver().pair(EXTERNAL).flows(), coverage()), 1) == []


@pytest.mark.parametrize(
    ("last", "fix", "names"),
    [
        ({"qtype": "MX", "ips": ()}, 'ask for "corp." with the dot at the end', ["corp."]),
        ({"ips": ()}, 'ask for "corp." with the dot at the end', ["corp."]),
        ({"rcode": 2}, None, []),
        ({"took": None, "gave_up": 5.0}, None, []),
        ({"rcode": 3}, "no such name: corp", []),
    ],
    ids=["other types", "NODATA", "SERVFAIL", "unanswered", "NXDOMAIN"],
)
def test_only_what_does_not_exist_is_said_not_to(last: dict[str, Any], fix: str | None, names: list[str]) -> None:
    resolver = Resolver()
    for suffix in SEARCH:
        resolver.ask(f"corp.{suffix}", last.get("qtype", "A"), rcode=3)
    (cost,) = rows(fed(NamesAnswer(), resolver.ask("corp", **last).flows(), coverage()), 1)
    assert (cost["fix"], cost["names"]) == (fix, names)
