"""HTTP/1: what is read of a request and of an answer, and what only begins like one."""

from __future__ import annotations

from typing import Any

import pytest
from http1_samples import GET, OK, Station, Stream

from flows.agent.l7.redact import Redaction
from flows.agent.store.request_columns import HOST_BYTES, METHODS, Flag, State

NOT_A_REQUEST = {"http: not a request line": 1}
NOT_AN_ANSWER = {"http: not a status line": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GET, {"method": 1, "version": 11, "text": b"/users/7", "host": b"api.example.com", "flags": Flag.REDACTED}),
        (b"GET / HTTP/1.0\r\n\r\n", {"version": 10, "text": b"/", "host": b"", "flags": Flag.HOST_UNKNOWN}),
        (b"POST /a HTTP/1.1\nhost:b\n\nbody", {"method": METHODS.index("POST"), "text": b"/a", "host": b"b", "flags": 0}),
        (b"PROPPATCH /a HTTP/1.1\r\nHOST: \t b \t\r\n\r\n", {"method": METHODS.index("PROPPATCH"), "host": b"b", "flags": 0}),
        (b"PROPFIND /a HTTP/1.1\r\nX: y\r\nHost: b\r\n\r\n", {"method": METHODS.index("PROPFIND"), "host": b"b"}),
        (b"MKCALENDAR /a HTTP/1.1\r\nHost: b\r\n\r\n", {"method": 0, "text": b"/a", "host": b"b"}),
        (b"GET /a HTTP/1.1\r\nHost: b\r\nHost: c\r\n\r\n", {"host": b"b"}),
        (b"GET /a HTTP/1.1\r\nX-Host: c\r\n\r\n", {"host": b"", "flags": Flag.HOST_UNKNOWN}),
        (b"POST /a HTTP/1.1\r\n\r\nx\r\nHost: evil\r\n", {"host": b"", "flags": Flag.HOST_UNKNOWN}),
        (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", {"host": b"", "flags": Flag.HOST_UNKNOWN}),
        (b"GET /a HTTP/1.1\r\nHost: ann:pw@b\r\n\r\n", {"host": b"b", "flags": Flag.REDACTED}),
        (b"GET /a HTTP/1.1\r\nHost: " + b"h" * 70 + b"\r\n\r\n", {"host": b"h" * HOST_BYTES, "flags": Flag.HOST_CUT}),
        (b"GET http://ann:pw@b:8080/a?x HTTP/1.1\r\nHost: c\r\n\r\n", {"text": b"/a", "host": b"b:8080", "flags": Flag.REDACTED}),
        (b"GET HTTP://b HTTP/1.1\r\n\r\n", {"text": b"/", "host": b"b", "flags": 0}),
        (b"GET ftp://a:s@b/x?y HTTP/1.1\r\n\r\n", {"text": b"ftp://b/x", "host": b"b", "flags": Flag.REDACTED}),
        (b"GET https://ann:secr", {"text": b"", "host": b"", "flags": Flag.CUT | Flag.HOST_UNKNOWN}),
        (b"GET http://b?x=1 HTTP/1.1\r\n\r\n", {"text": b"/", "host": b"b", "flags": Flag.REDACTED}),
        (b"CONNECT b:443 HTTP/1.1\r\nHost: c\r\n\r\n", {"method": METHODS.index("CONNECT"), "text": b"", "host": b"b:443"}),
        (b"CONNECT ann:pw@b:443 HTTP/1.1\r\n\r\n", {"text": b"", "host": b"b:443", "flags": Flag.REDACTED}),
        (b"OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", {"method": METHODS.index("OPTIONS"), "text": b"*", "host": b"b"}),
        (b"GET /\0\xff\r\x1b[31m\t HTTP/1.1\r\nHost: b\r\n\r\n", {"text": b"/\0\xff\r\x1b[31m\t", "host": b"b"}),
        (b"GET /a%20b%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: b\r\n\r\n", {"text": b"/a%20b%0d%0aSet-Cookie:x"}),
        (b"GET /users/peter", {"text": b"/users/peter", "version": 0, "flags": Flag.CUT | Flag.HOST_UNKNOWN}),
        (b"GET /users HT", {"text": b"/users", "version": 0, "flags": Flag.HOST_UNKNOWN}),
        (b"GET /users HTTP/1.1\r", {"text": b"/users", "version": 0, "flags": Flag.HOST_UNKNOWN}),
        (b"GET /users?token=sec", {"text": b"/users", "flags": Flag.REDACTED | Flag.HOST_UNKNOWN}),
        (b"GET http://ann:secr", {"text": b"", "host": b"", "flags": Flag.CUT | Flag.HOST_UNKNOWN}),
        (b"GET /" + b"w" * 170 + b" HTTP/1.1\r\nHost: b\r\n\r\n", {"text": b"/" + b"w" * 159, "host": b"b", "flags": Flag.CUT}),
        (b"GET /a HTTP/1.1\r\nHost: b\r\nX: " + b"y" * 400, {"text": b"/a", "host": b"b", "flags": 0}),
        (b"GET /a HTTP/1.1\r\nHost: exam", {"host": b"exam", "flags": Flag.HOST_CUT}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("long", [False, True])
def test_what_is_read_of_a_request(text: bytes, expected: dict[str, Any], long: bool) -> None:
    station = Station().take(Stream().ask(text, long=long)).settle()
    assert station.http.counts() == {}
    assert {name: station.row()[name] for name in expected} == expected


@pytest.mark.parametrize(
    "text",
    [
        b"GET ", b"GET  HTTP/1.1\r\n\r\n", b"GET some words of a book\n", b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/2.0\r\n\r\n", b"GET /a HTTP/1.x\r\n\r\n", b"GET /a\r\n\r\n", b"GET /a HTTP/1.1 \r\n\r\n",
        b"get /a HTTP/1.1\r\n\r\n", b"GET a HTTP/1.1\r\n\r\n", b"GET /a b", b"GET /a HTTP/1.1x", b"G=T /a HTTP/1.1\r\n\r\n",
        b"GET\t/a HTTP/1.1\r\n\r\n", b"://x HTTP/1.1\r\n\r\n", b"", b"\n", b"OPTIONS *x HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 165 + b" b HTTP/1.1\r\n\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("long", [False, True])
def test_what_only_begins_like_a_request_is_counted(text: bytes, long: bool) -> None:
    station = Station().take(Stream().ask(text, long=long))
    assert station.rows() == []
    assert station.http.counts() == NOT_A_REQUEST


@pytest.mark.parametrize(
    ("request_text", "text", "expected"),
    [
        (GET, OK, {"status": 200, "response_bytes": len(OK), "state": State.ANSWERED}),
        (GET, b"HTTP/1.0 404\r\n\r\n", {"status": 404, "response_bytes": -1}),
        (GET, b"HTTP/1.1 304 Not Modified\ncontent-length: 99\n\n", {"status": 304, "response_bytes": 46}),
        (GET, b"HTTP/1.1 204 No\r\n\r\n", {"status": 204, "response_bytes": 19}),
        (GET, b"HTTP/1.1 206 Partial\r\nCONTENT-LENGTH:  1000000 \r\n\r\n", {"response_bytes": 1_000_000 + 51}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n", {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 123456789\r\n\r\n", {"response_bytes": 123456835}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 900000000000007\r\n\r\n", {"response_bytes": 900000000000059}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 12345678x\r\n\r\n", {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 1x3456789\r\n\r\n", {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: " + b"y" * 300, {"response_bytes": -1}),
        (GET, b"HTTP/1.1 200 OK\r\n\r\nContent-Length: 5\r\n\r\n", {"response_bytes": -1}),
        (b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", {"response_bytes": 38}),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", {"response_bytes": 19}),
        (GET, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", {"status": 101, "response_bytes": 56}),
        (GET, b"HTTP/1.1 20", {"status": 0, "state": State.ANSWERED, "response_bytes": -1}),
        (GET, b"HTTP/1.", {"status": 0, "state": State.ANSWERED}),
        (GET, b"HTTP/1.1 999 \0\xff\x1b\r\n\r\n", {"status": 999}),
    ],
)  # fmt: skip
def test_what_is_read_of_an_answer(request_text: bytes, text: bytes, expected: dict[str, Any]) -> None:
    stream = Stream()
    station = Station().take(stream.ask(request_text), stream.answer(text))
    assert station.http.counts() == {}
    assert {name: station.row()[name] for name in expected} == expected
    assert bool(station.row()["flags"] & Flag.UPGRADED) == (expected.get("status") == 101)
    assert bool(station.row()["flags"] & Flag.ANSWER_CUT) == (expected.get("status") == 0)


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"HTTP/1.1\t200 OK\r\n",
        b"HTTP",
    ],
)
def test_what_only_begins_like_an_answer_is_counted(text: bytes) -> None:
    stream = Stream()
    station = Station().take(stream.ask(), stream.answer(text))
    assert station.row()["state"] == State.ASKED
    assert station.http.counts() == NOT_AN_ANSWER


def test_headers_on_the_allow_list_are_kept_of_both() -> None:
    rules = Redaction.of({"headers_allow": ["Range", "Location", "X-Long", "Referer"]})
    stream, station = Stream(), Station(rules)
    asked = (
        b"GET / HTTP/1.1\r\nHost: b\r\nrange:  bytes=0-9 \r\nCookie: a=b\r\nReferer: http://u:p@x/y?z\r\nX-Long: "
        + b"y" * 99
        + b"\r\n\r\n"
    )
    station.take(
        stream.ask(asked, long=True),
        stream.answer(b"HTTP/1.1 302 Found\r\nLocation: /c?d=e\r\nSet-Cookie: f\r\n\r\nRange: no\r\n"),
    )
    assert station.row()["headers"] == b"range: bytes=0-9\nReferer: http://x/y\n\nLocation: /c\n"
    assert station.row()["flags"] & Flag.REDACTED


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b"X-A: 1", b"X-A: 1\n"),
        (b"Authorization : Bearer s3cr3t", b""),
        (b"Cookie: a=1;\r\n sid=u1:s3cr3t", b""),
        (b"X-A: 1,\r\n\t2", b"X-A: 1, 2\n"),
        (b"X-A: v\rCookie: s3cr3t", b""),
        (b"no field", b""),
    ],
)
def test_with_a_deny_list_only_fields_are_kept_and_never_credentials(line: bytes, kept: bytes) -> None:
    station = Station(Redaction.of({"headers_deny": ["host"]}))
    row = station.take(Stream().ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")).row()
    assert (row["headers"], row["flags"] & Flag.REDACTED) == (kept, 0)
