"""Flows of requests as messages: made many at once they are what they are one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.agent.observer.request_flows import COLUMNS, MAKERS, requested
from flows.agent.probe.record import Event
from flows.agent.store import request_columns
from flows.agent.store.request_columns import ANSWER_BYTES, HEADER_BYTES, HOST_BYTES, METHODS, TEXT_BYTES, Flag, Kind, State
from flows.agent.store.requests import RequestStore
from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

T = 1_700_000_000_000_000_000
MESSAGE = b"\x12\x34\x85\x80\0\x01\0\x01\0\0\0\0\x01a\x01b\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\x60\x01\x02"

PATHS = st.one_of(
    st.sampled_from([b"", b"/", b"*", b"/media/film-1/seg-7.m4s", b"http://b/c", b"/a\0b", b"/\xff\xc3\xa9", b"/" + b"w" * 159]),
    st.binary(max_size=TEXT_BYTES).map(lambda raw: b"/" + raw[: TEXT_BYTES - 1]),
    st.text("abc/.-%", max_size=40).map(lambda text: b"/" + text.encode()),
)
HOSTS = st.sampled_from([b"", b"b", b"api.example.com:8080", b"[::1]:80", b"10.0.0.1", b"h" * HOST_BYTES, b"\xff\x1b", b"a\0b"])
REQUESTS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(Kind),
        "state": st.sampled_from(State),
        "time": st.sampled_from([0, T]),
        "answered": st.sampled_from([0, T - 5, T, T + 999_999, T + 1_000_000, T + 12_345_678_901]),
        "origin": st.integers(0, 1),
        "flags": st.integers(0, 2 * max(Flag) - 1),
        "method": st.integers(0, len(METHODS) - 1),
        "version": st.sampled_from([0, 9, 10, 11, 20, 21, 0x0303]),
        "status": st.sampled_from([0, 3, 7, 99, 200, 503, 65_535]),
        "grpc": st.integers(0, 17),
        "qtype": st.sampled_from([1, 28, 33, 999]),
        "query_id": st.sampled_from([0, 1, 65_535]),
        "attempt": st.integers(0, 3),
        "first": st.integers(-1, 300),
        "request_bytes": st.sampled_from([0, 78]),
        "response_bytes": st.sampled_from([-1, 0, 1 << 40]),
        "text": PATHS,
        "host": HOSTS,
        "headers": st.sampled_from([b"", b"", b"X-Id: 7\nY: z\n"]),
        "answer": st.one_of(st.just(MESSAGE), st.binary(max_size=40).map(lambda raw: MESSAGE[:20] + raw)),
        "answer_bytes": st.integers(0, len(MESSAGE)),
    }
)
SIZES = {"text": TEXT_BYTES, "host": HOST_BYTES, "headers": HEADER_BYTES, "answer": ANSWER_BYTES}
EVENTS = st.sampled_from([Event.REQUEST, Event.RESPONSE, Event.NO_RESPONSE, Event.HELLO])


def column(name: str, values: Iterable[Any]) -> np.ndarray[Any, Any]:
    if name in SIZES:
        return np.array([np.frombuffer(value.ljust(SIZES[name], b"\0"), np.uint8) for value in values])
    return np.array(list(values), request_columns.COLUMNS[name][0])


@settings(max_examples=200)
@given(st.lists(st.tuples(REQUESTS, EVENTS, st.booleans()), min_size=1, max_size=8))
def test_many_at_once_are_what_they_are_one_by_one(flows: list[tuple[dict[str, Any], Event, bool]]) -> None:
    store = RequestStore(2 * len(flows))
    store.add({name: column(name, (request[name] for request, _, _ in flows)) for name in flows[0][0]})
    numbers = np.arange(len(flows))
    rows = store.take(numbers, COLUMNS)
    columns = {
        "event": np.array([event for _, event, _ in flows], np.uint8),
        "time": np.full(len(flows), T + 6_000_000_000),
        "detail": np.where([gone for _, _, gone in flows], 77, numbers).astype(np.uint32),  # far from what was ever stored
    }
    told = requested(store, columns)
    for at, (request, event, gone) in enumerate(flows):
        if gone:
            assert (told.l7[at], told.summary[at]) == (b"", b"request no longer kept")
            continue
        l7, summary, part = MAKERS[request["kind"]](rows, at, event, T + 6_000_000_000)
        assert flow_pb2.Layer7.FromString(told.l7[at]) == flow_pb2.Layer7.FromString(l7)
        assert told.summary[at] == summary
        made = extension_pb2.Request.FromString(told.request[at])
        assert made.id == at + 1
        assert (made.dns, made.grpc, made.tls, made.marks) == (
            (parsed := extension_pb2.Request.FromString(part)).dns, parsed.grpc, parsed.tls, parsed.marks,
        )  # fmt: skip
