"""One DNS message as its records: as dnspython reads them, and never more than what is whole."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from dns_samples import answer, query
from hypothesis import example, given
from hypothesis import strategies as st

from flows.agent.l7.dns_wire import ANSWER, AUTHORITY, MOST_HEX, MOST_RECORDS, Message, parse

NAME = "web.shop.example."


def one(rtype: str, data: str) -> tuple[str, tuple[str, ...]]:
    (record,) = parse(answer(query(NAME, rtype), (NAME, 60, rtype, data))).records
    return record.data, record.names


@pytest.mark.parametrize(
    ("rtype", "data", "shown", "names"),
    [
        ("A", "10.0.1.2", "10.0.1.2", ()),
        ("AAAA", "2001:db8::1", "2001:db8::1", ()),
        ("CNAME", "a.web.shop.example.", "a.web.shop.example.", ("a.web.shop.example.",)),
        ("NS", "ns.example.", "ns.example.", ("ns.example.",)),
        ("PTR", "Host.example.", "Host.example.", ("Host.example.",)),
        ("MX", "10 mail.example.", "10 mail.example.", ("mail.example.",)),
        ("SRV", "0 5 8080 pod.web.shop.example.", "0 5 8080 pod.web.shop.example.", ("pod.web.shop.example.",)),
        ("SOA", "ns. me.example. 1 2 3 4 5", "ns. me.example. 1 2 3 4 5", ("ns.", "me.example.")),
        ("TXT", '"token=abc" "x"', "(9 bytes) (1 bytes)", ()),
        ("HTTPS", "1 . alpn=h2,h3 port=8443 ipv4hint=10.0.0.1", "1 . alpn=h2,h3 port=8443 ipv4hint=10.0.0.1", (".",)),
        ("SVCB", "1 s. ipv6hint=2001:db8::2 key667=hello", "1 s. ipv6hint=2001:db8::2 key667=68656c6c6f", ("s.",)),
        ("CAA", '0 issue "x"', "\\# 8 00056973737565" + "78", ()),
    ],
)  # fmt: skip
def test_data_of_each_type(rtype: str, data: str, shown: str, names: tuple[str, ...]) -> None:
    assert one(rtype, data) == (shown, names)


def test_data_of_other_types_is_bounded() -> None:
    data, _ = one("NULL", f"\\# 200 {'ab' * 200}")
    assert data == f"\\# 200 {'ab' * MOST_HEX}..."


def test_header_question_sections_and_bits() -> None:
    message = dns.message.make_response(dns.message.from_wire(query(NAME, "AAAA", number=9)))
    message.flags |= dns.flags.AA | dns.flags.RA
    message.set_rcode(dns.rcode.NXDOMAIN)
    message.authority = [dns.rrset.from_text("example.", 30, "IN", "SOA", "ns. me. 1 2 3 4 5")]
    parsed = parse(message.to_wire())
    assert (parsed.id, parsed.name, parsed.qtype, parsed.qclass, parsed.rcode, parsed.whole) == (9, NAME, 28, 1, 3, True)
    assert (parsed.authoritative, parsed.recursion_available) == (True, True)
    assert [(record.section, record.ttl) for record in parsed.records] == [(AUTHORITY, 30)]


def test_the_upper_bits_of_the_rcode_are_in_the_opt_record() -> None:
    message = dns.message.make_response(dns.message.from_wire(query(edns=True)))
    message.use_edns(0)
    message.set_rcode(dns.rcode.BADVERS)
    assert parse(message.to_wire()).rcode == 16


@pytest.mark.parametrize(
    "tail",
    [
        b"\xc0\x0c\0\1\0\1",  # to itself
        b"\1a\xc0\x0c\0\1\0\1",  # to its own beginning
        b"\xc0\xff\0\1\0\1",  # ahead
        b"\xc0",
        b"\x40a\0\0\1\0\1",
        b"\1a" * 200 + b"\0\0\1\0\1",
    ],
)
def test_names_that_lead_nowhere_end_the_message(tail: bytes) -> None:
    assert parse(query()[:12] + tail) == Message(7, 0x0100, end=12)


def test_pointers_that_lead_back_and_forth_end_the_message() -> None:
    head = answer(query("a.", number=1))[:6] + b"\0\2\0\0\0\0" + b"\1a\0\0\1\0\1"
    loop = b"\xc0\x15\0\1\0\1" + bytes(4) + b"\0\2" + b"\xc0\x13"
    assert parse(head + loop).records == ()


def test_records_are_bounded() -> None:
    empty = b"\0\0\xff\0\1" + bytes(4) + b"\0\0"
    message = query("a.")[:6] + b"\xff\xff" + query("a.")[8:] + empty * (MOST_RECORDS + 5)
    parsed = parse(message)
    assert len(parsed.records) == MOST_RECORDS
    assert not parsed.whole


def test_a_cut_message_gives_the_records_that_are_whole() -> None:
    message = answer(query(NAME), *[(NAME, 30, "A", f"10.0.0.{turn}") for turn in range(9)])
    sizes = [len(parse(message[:size]).records) for size in range(len(message) + 1)]
    assert sizes == sorted(sizes)
    assert set(sizes) == set(range(10))
    assert [parse(message[:size]).whole for size in (len(message) - 1, len(message))] == [False, True]


@given(st.binary(max_size=400))
@example(b"\0" * 12)
def test_arbitrary_bytes_never_raise(message: bytes) -> None:
    parsed = parse(message)
    assert parsed.end <= len(message)
    assert all(record.data.isprintable() and record.name.isprintable() for record in parsed.records)


@given(st.binary(max_size=120), st.integers(0, 40))
def test_arbitrary_records_never_raise(tail: bytes, count: int) -> None:
    message = query()[:2] + b"\x81\x80\0\1" + bytes([0, count]) + bytes(4) + query()[12:] + tail
    parsed = parse(message)
    assert len(parsed.records) <= count
    assert all(record.section == ANSWER for record in parsed.records)


LABEL = st.binary(min_size=1, max_size=20)
KINDS = st.sampled_from(["A", "AAAA", "CNAME", "NS", "PTR", "MX", "SRV"])


def lower(record: tuple[str, int, str, str]) -> tuple[str, int, str, str]:
    name, ttl, rtype, text = record
    return name.lower(), ttl, rtype, text.lower()


@example([([b"S"], "A", 0), ([b"s"], "A", 0)])
@given(st.lists(st.tuples(st.lists(LABEL, min_size=1, max_size=5), KINDS, st.integers(0, 2**31 - 1)), max_size=6))
def test_records_are_read_as_dnspython_reads_them(items: list[tuple[list[bytes], str, int]]) -> None:
    data = {"A": "1.2.3.4", "AAAA": "::1", "MX": "5 {}", "SRV": "1 2 3 {}"}
    records = []
    for labels, rtype, ttl in items:
        name = dns.name.Name([*labels, b""]).to_text()
        records.append((name, ttl, rtype, data.get(rtype, "{}").format(name)))
    message = answer(query(NAME), *records)
    expected = [(name, ttl, rtype, text) for name, ttl, rtype, text in records]
    parsed = parse(message)
    found = [
        (record.name, record.ttl, dns.rdatatype.to_text(dns.rdatatype.RdataType(record.type)), record.data)
        for record in parsed.records
    ]
    assert sorted(map(lower, found)) == sorted(map(lower, expected))  # a name that differs in case only is written as a pointer
    assert parsed.whole
