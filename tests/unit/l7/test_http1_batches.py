"""What makes batches fast: each shortcut gives what the plain way gives."""

from __future__ import annotations

import dns.message
import dns.rcode
import dns.rrset
import numpy as np
import pytest
from http1_samples import GET, OK, Station, Stream, payload
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.agent.l7.dns_names import answered_addresses, simple_addresses
from flows.agent.l7.dns_wire import parse
from flows.agent.l7.http1_distinct import distinct
from flows.agent.l7.http1_keys import Keys
from flows.agent.l7.http1_rows import copy, join, pick, put
from flows.agent.l7.http1_text import firsts
from flows.agent.l7.masks import anywhere, before
from flows.agent.l7.redact import _has_long_segment
from flows.agent.l7.redact_secrets import SHORTEST
from flows.agent.store.request_columns import Flag, State

# Few values, and such that share their slot however many there are: equal in their upper bits.
HASHES = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 3).map(lambda low: 7 << 60 | low), st.integers(0, (1 << 64) - 1)))


@given(HASHES, HASHES)
def test_keys_finds_what_a_dictionary_finds(keys: list[int], wanted: list[int]) -> None:
    index = Keys(np.array(keys, np.uint64))
    at, found = index.find(np.array(wanted + keys, np.uint64))
    assert found.tolist() == [key in keys for key in wanted + keys]
    assert [keys[place] for place, there in zip(at, found, strict=True) if there] == [key for key in wanted + keys if key in keys]
    assert index.twice == (len(set(keys)) < len(keys))


@given(HASHES)
def test_equal_keys_are_found_in_one_place(keys: list[int]) -> None:
    at = Keys(np.array(keys, np.uint64)).equal()
    assert [keys[place] for place in at] == keys
    assert len(set(at.tolist())) == len(set(keys))


@pytest.mark.parametrize("count", [1, 3, 63, 64, 200])
@pytest.mark.parametrize("long", [False, True])
def test_each_payload_has_its_own_text(count: int, long: bool) -> None:
    texts = [b"GET /%d HTTP/1.1\r\n\r\n" % (at % 17) * (1 + at % 5) for at in range(count)]
    texts[-1] = b""
    payloads = np.concatenate([payload(text, long=long) for text in texts])
    found = distinct(payloads)
    width = payloads["text"].shape[1]
    read = [found.text.piece(int(found.text.begin[row]), int(found.text.end[row])) for row in found.of]
    assert read == [text[:width] for text in texts]
    assert len(found.text) == (len(set(texts)) if count >= 64 else count)


def test_texts_that_differ_in_length_only_are_not_one() -> None:
    payloads = np.concatenate([payload(b"GET /a"), payload(b"GET /a\n")] * 40)  # what follows a text is line feeds
    found = distinct(payloads)
    assert (found.text.end - found.text.begin)[found.of].tolist() == [6, 7] * 40


@given(st.lists(st.text("ab/\0", max_size=60).map(str.encode), min_size=1, max_size=6), st.sampled_from([8, 24, 64]))
def test_long_segments_are_those_that_a_split_finds(paths: list[bytes], width: int) -> None:
    lengths = np.array([len(path) for path in paths])
    text = np.array([np.frombuffer(path[:width].ljust(width, b"\0"), np.uint8) for path in paths])
    expected = [any(len(segment) >= SHORTEST for segment in path[:width].split(b"/")) for path in paths]
    assert _has_long_segment(text, lengths).tolist() == expected


@pytest.mark.parametrize("turn", range(8))  # hashes of places differ from connection to connection
def test_a_request_asked_between_an_interim_and_the_final_answer_is_not_paired(turn: int) -> None:
    stream = Stream(conn_id=turn + 1)
    payloads = [stream.ask(GET), stream.answer(b"HTTP/1.1 100 Continue\r\n\r\n"), stream.ask(GET), stream.answer(OK)]
    rows = Station().take(*payloads).settle().rows()
    assert [row["state"] for row in rows] == [State.ANSWERED, State.ASKED]
    assert all(row["flags"] & Flag.PIPELINED for row in rows)


def test_masks_and_first_places() -> None:
    assert before(np.array([0, 2, 3, 9]), 3).tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert firsts(np.array([1, 1, 4, 7, 7])).tolist() == [0, 2, 3]
    assert firsts(np.zeros(0, np.int64)).tolist() == []
    assert anywhere(np.array([[1, 2], [3, 3]], np.uint8), 2).tolist() == [True, False]


def test_rows_are_chosen_joined_and_set_whole() -> None:
    rows = np.array([(1, b"a"), (2, b"b"), (3, b"c")], [("number", "i8"), ("name", "S3")])
    assert pick(rows, np.array([2, 0])).tolist() == [(3, b"c"), (1, b"a")]
    assert pick(rows, np.array([False, True, False])).tolist() == [(2, b"b")]
    assert pick(rows, slice(0)).tolist() == []
    assert pick(rows[::2], np.array([1])).tolist() == [(3, b"c")]
    assert join(rows[:0], rows, rows[1:]).tolist() == rows.tolist() + rows[1:].tolist()
    again = copy(rows)
    put(again, np.array([0]), rows[2:])
    assert (again.tolist()[0], rows.tolist()[0]) == ((3, b"c"), (1, b"a"))


ADDRESSES = [("web.shop.", 30, "A", "10.96.0.1"), ("web.shop.", 9 << 20, "AAAA", "fd00::1")]
OTHERS = [("web.shop.", 7, "CNAME", "b."), ("b.", 5, "A", "10.96.0.2"), ("web.shop.", 1, "TXT", '"x"')]
RECORDS = st.lists(st.sampled_from(ADDRESSES + OTHERS), max_size=4)


@settings(max_examples=300)
@given(RECORDS, st.integers(0, 3), st.integers(0, 120), st.integers(0, 120), st.integers(0, 255))
def test_addresses_of_simple_answers_are_what_the_parser_finds(
    records: list[tuple[str, int, str, str]], rcode: int, cut: int, at: int, byte: int
) -> None:
    message = dns.message.make_response(dns.message.make_query("web.shop.", "A"))
    message.set_rcode(dns.rcode.Rcode(max(0, rcode - 2)))
    for name, ttl, rtype, data in records:
        message.answer.append(dns.rrset.from_text(name, ttl, "IN", rtype, data))
    raw = bytearray(message.to_wire()) if cut < 60 else bytearray(message.to_wire()[:cut])
    if rcode % 2 and at < len(raw):
        raw[at] = byte
    simple = simple_addresses(bytes(raw))
    assert simple is None or simple == answered_addresses(parse(bytes(raw)))


def test_addresses_of_an_ordinary_answer_need_no_parser() -> None:
    message = dns.message.make_response(dns.message.make_query("web.shop.", "A"))
    message.answer.append(dns.rrset.from_text("web.shop.", 30, "IN", "A", "10.96.0.1", "10.96.0.2"))
    raw = message.to_wire()  # in another order each time
    simple = simple_addresses(raw)
    assert simple == answered_addresses(parse(raw))
    assert len(simple or ()) == 2
