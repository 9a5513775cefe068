"""DNS requests as messages: fields and summaries as Hubble's, word for word."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import numpy as np
import pytest

from flows.agent.observer.dns_answer import NO_TTL, dns_messages
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag

SECOND = 1_000_000_000
NAME = "www.example.org."


def row(
    name: str = NAME, qtype: str = "A", *records: tuple[str, int, str, str], rcode: int = 0, **columns: Any
) -> dict[str, Any]:
    question = dns.message.make_query(name, qtype, id=9)
    message = dns.message.make_response(question)
    message.flags |= dns.flags.RA | dns.flags.AA
    message.set_rcode(dns.rcode.Rcode(rcode))
    message.answer = [dns.rrset.from_text(owner, ttl, "IN", rtype, data) for owner, ttl, rtype, data in records]
    answer = message.to_wire()
    values = {
        "text": name.removesuffix(".").encode().ljust(160, b"\0"), "qtype": int(question.question[0].rdtype), "query_id": 9,
        "attempt": 1, "first": 3, "flags": 0, "status": rcode & 15, "answer": answer.ljust(256, b"\0")[:256],
        "answer_bytes": min(256, len(answer)),
    }  # fmt: skip
    return values | columns


def test_a_query() -> None:
    messages = dns_messages(row(), Event.REQUEST)
    assert messages.summary == "DNS Query www.example.org. A"
    assert (messages.dns.query, list(messages.dns.qtypes), messages.dns.observation_source) == (NAME, ["A"], "agent")
    assert (messages.dns.ttl, messages.dns.rcode, list(messages.dns.ips)) == (0, 0, [])
    assert (messages.extension.id, messages.extension.qtype, messages.extension.rcode_name) == (9, "A", "")
    assert (messages.extension.attempt, messages.extension.first) == (1, 3)


@pytest.mark.parametrize(
    ("columns", "summary"),
    [
        (
            row(NAME, "A", (NAME, 30, "A", "1.2.3.4"), (NAME, 30, "A", "5.6.7.8")),
            'DNS Answer "1.2.3.4,5.6.7.8" TTL: 30 (Query www.example.org. A)',
        ),
        (
            row(NAME, "A", (NAME, 60, "CNAME", "x.example."), ("x.example.", 30, "A", "1.2.3.4")),
            'DNS Answer "1.2.3.4" CNAMEs: "x.example." TTL: 30 (Query www.example.org. A)',
        ),
        (
            row(NAME, "AAAA", (NAME, 5, "CNAME", "x.example."), ("x.example.", 7, "CNAME", "y.example.")),
            'DNS Answer CNAMEs: "x.example.,y.example." TTL: 5 (Query www.example.org. AAAA)',
        ),
        (row(NAME, "A", rcode=3), "DNS Answer RCode: Non-Existent Domain TTL: 4294967295 (Query www.example.org. A)"),
        (row(NAME, "AAAA", rcode=2), "DNS Answer RCode: Server Failure TTL: 4294967295 (Query www.example.org. AAAA)"),
        (row(NAME, "A", rcode=5), "DNS Answer RCode: Query Refused TTL: 4294967295 (Query www.example.org. A)"),
        (row(NAME, "HTTPS"), "DNS Answer TTL: 4294967295 (Query www.example.org. HTTPS)"),
        (row(NAME, "TYPE4242"), "DNS Answer TTL: 4294967295 (Query www.example.org. TYPE4242)"),
        (row(".", "NS"), "DNS Answer TTL: 4294967295 (Query . NS)"),
        (row(r"a\.b.", "PTR", (r"a\.b.", 9, "CNAME", r"\"c\".")), r'DNS Answer CNAMEs: "\\\"c\\\"." TTL: 9 (Query a\.b. PTR)'),
    ],
)  # fmt: skip
def test_summaries_of_responses(columns: dict[str, Any], summary: str) -> None:
    assert dns_messages(columns, Event.RESPONSE).summary == summary


def test_fields_of_a_response() -> None:
    messages = dns_messages(row(NAME, "A", (NAME, 60, "CNAME", "x.example."), ("x.example.", 30, "A", "1.2.3.4")), Event.RESPONSE)
    fields = messages.dns
    assert (list(fields.ips), list(fields.cnames), fields.ttl, fields.rcode) == (["1.2.3.4"], ["x.example."], 30, 0)
    assert list(fields.rrtypes) == ["CNAME", "A"]
    told = messages.extension
    assert (told.rcode_name, told.authoritative, told.recursion_available) == ("No Error", True, True)
    assert [(record.name, record.type, record.ttl, record.data) for record in told.answers] == [
        (NAME, "CNAME", 60, "x.example."),
        ("x.example.", "A", 30, "1.2.3.4"),
    ]


def test_a_response_without_records_has_no_ttl() -> None:
    assert dns_messages(row(rcode=3), Event.RESPONSE).dns.ttl == NO_TTL


@pytest.mark.parametrize(
    ("columns", "waited", "summary"),
    [
        ({}, 5 * SECOND, "DNS Query www.example.org. A; no answer after 5s"),
        ({"attempt": 2}, 5 * SECOND, "DNS Query www.example.org. A; no answer after 5s, attempt 2"),
        (
            {"flags": int(Flag.CONNECTION_END)},
            250_000_000,
            "DNS Query www.example.org. A; connection ended without an answer after 0.25s",
        ),
    ],
)
def test_summaries_of_the_unanswered(columns: dict[str, Any], waited: int, summary: str) -> None:
    assert dns_messages(row(**columns), Event.NO_RESPONSE, waited).summary == summary


def test_a_name_that_is_cut_has_no_dot_at_its_end() -> None:
    assert dns_messages(row(flags=int(Flag.CUT)), Event.REQUEST).dns.query == "www.example.org"


def test_an_answer_that_is_cut_tells_what_is_whole() -> None:
    whole = row(NAME, "A", *[(NAME, 30, "A", f"10.0.0.{turn}") for turn in range(3)])
    messages = dns_messages(whole | {"answer_bytes": whole["answer_bytes"] - 1, "flags": int(Flag.ANSWER_CUT)}, Event.RESPONSE)
    assert list(messages.dns.ips) == ["10.0.0.0", "10.0.0.1"]


def test_columns_may_be_arrays() -> None:
    values = row(NAME, "A", (NAME, 30, "A", "1.2.3.4"))
    arrays = values | {name: np.frombuffer(values[name], np.uint8) for name in ("text", "answer")} | {"qtype": np.uint16(1)}
    assert dns_messages(arrays, Event.RESPONSE) == dns_messages(values, Event.RESPONSE)


def golden() -> list[dict[str, Any]]:
    path = Path(__file__).parents[2] / "data" / "hubble" / "flows.json"
    flows = [json.loads(line).get("flow", {}) for line in path.read_text().splitlines()]
    return [flow for flow in flows if "dns" in flow.get("l7", {})]


def test_summaries_read_as_hubble_s() -> None:
    """The recorded flows, of Hubble's proxy: made again from a message that says the same."""
    for flow in golden():
        told = flow["l7"]["dns"]
        qtype = told["qtypes"][0]
        if "rcode" not in told:
            assert dns_messages(row(told["query"], qtype), Event.REQUEST).summary == flow["Summary"]
            continue
        records = [(told["query"], told["ttl"], "A", address) for address in told.get("ips", ())]
        messages = dns_messages(row(told["query"], qtype, *records, rcode=told["rcode"]), Event.RESPONSE)
        assert messages.summary == re.sub(r"\(Proxy ", "(Query ", flow["Summary"])
