"""HTTP/1 from whoever wants to do harm, with packets lost, and secrets that must not be kept."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from http1_samples import GET, MS, OK, T0, Station, Stream, payload
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.agent.l7.redact import Redaction
from flows.agent.probe.payload import PayloadKind
from flows.agent.store.request_columns import Flag, State

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIECES = st.sampled_from(
    [
        b"GET ", b"POST ", b"/", b"/a", b" ", b"HTTP/1.1", b"HTTP/1.", b"\r\n", b"\n", b"\r", b"\0", b"Host:", b"Host: b",
        b"\xff", b"?", b"#", b"@", b"://", b"http://", b"CONNECT ", b"*", b"200", b" 100 ", b"\r\n\r\n", b"%", b"%2f",
        b"9" * 30, b"a" * 300, b"Content-Length:", b"Transfer-Encoding:", b"\x1b[2J", b"HTTP/1.1 100 C\r\n\r\n",
    ]
)  # fmt: skip
TEXT = st.one_of(st.binary(max_size=400), st.lists(PIECES, max_size=30).map(b"".join))
KINDS = st.sampled_from([PayloadKind.HTTP_REQUEST, PayloadKind.HTTP_RESPONSE])
FIELDS = st.fixed_dictionaries(
    {
        "conn_id": st.integers(0, 3), "sequence": st.integers(0, (1 << 32) - 1), "acknowledged": st.integers(0, 3),
        "kind": KINDS, "origin": st.integers(0, 255), "time_ns": st.integers(0, (1 << 62)), "sent": st.integers(0, 255),
        "length": st.integers(0, (1 << 32) - 1),
    }
)  # fmt: skip


@settings(max_examples=100)
@given(
    st.lists(st.tuples(TEXT, FIELDS, st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.booleans(),
    st.integers(0, 1 << 62),
)
def test_any_bytes_are_stored_recognised_or_counted(
    records: list[tuple[bytes, dict[str, Any], bool, bool]], headers: bool, now: int
) -> None:
    rules = Redaction.of({"headers_deny": []}) if headers else Redaction()
    station = Station(rules, capacity=1 << 12, most_waiting=4)
    for text, fields, long, small in records:
        station.take(payload(text, long=long, **fields | ({"sequence": fields["sequence"] % 3} if small else {})))
    station.settle().expire(now).end(1, now)
    kinds = Counter(fields["kind"] for _, fields, *_ in records)
    counts, states = Counter(station.http.counts()), Counter(row["state"] for row in station.rows())
    asked = station.store.written - states[State.ALONE]
    others = ("not a request line", "request again", "body that looks like a request", "after an upgrade")
    # What came after an upgrade is counted as such also if it was stored before that was known, or is an answer.
    seen = asked + sum(counts[f"http: {name}"] for name in others)
    assert kinds[PayloadKind.HTTP_REQUEST] <= seen <= kinds[PayloadKind.HTTP_REQUEST] + counts["http: after an upgrade"]
    answers = sum(counts[f"http: {name}"] for name in (
        "not a status line", "answer again", "answer without its request", "interim answer", "interim answer without its request",
        "pair undone", "body that looks like an answer", "after an upgrade",
    ))  # fmt: skip
    # One payload may have several answers, but counts for one at least.
    assert states[State.ALONE] + states[State.ANSWERED] + answers >= kinds[PayloadKind.HTTP_RESPONSE]


@settings(max_examples=100)
@given(st.lists(st.tuples(TEXT, st.booleans()), min_size=1, max_size=20), st.booleans())
def test_what_is_read_of_one_does_not_depend_on_its_neighbours(texts: list[tuple[bytes, bool]], headers: bool) -> None:
    rules = Redaction.of({"headers_deny": []}) if headers else Redaction()
    payloads = [
        payload(text, conn_id=at, kind=PayloadKind.HTTP_REQUEST, sent=1, time_ns=at)
        for at, (text, _) in enumerate(texts, start=1)
    ]
    together = Station(rules).take(*payloads)
    alone = [row for one in payloads for row in Station(rules).take(one).rows()]
    names = ("conn_id", "method", "version", "text", "host", "headers", "flags", "request_bytes")
    assert [[row[name] for name in names] for row in together.rows()] == [[row[name] for name in names] for row in alone]


class Conversation:
    """Connections whose requests name themselves, and whose answers name their requests by status."""

    def __init__(self, draw: Any) -> None:
        self.payloads: list[np.ndarray[Any, Any]] = []
        self.statuses: dict[bytes, int] = {}
        turn = 0
        for conn_id in range(1, draw(st.integers(1, 3)) + 1):
            stream = Stream(conn_id, client=draw(st.booleans()), start=draw(st.sampled_from([0, (1 << 32) - 9_000, 1 << 31])))
            for _ in range(draw(st.integers(1, 5))):
                turn += 1
                path = b"/%d" % turn
                self.statuses[path] = 400 + turn  # of 204 and 304 sizes would differ
                asked = stream.ask(b"POST " + path + b" HTTP/1.1\r\n\r\n", long=draw(st.booleans()), more=draw(st.integers(0, 3)))
                again = [asked] * draw(st.integers(1, 2))
                if draw(st.booleans()):
                    again.append(stream.answer(b"HTTP/1.1 100 C\r\n\r\n"))
                answered = stream.answer(b"HTTP/1.1 %d OK\r\nContent-Length: 9\r\n\r\n" % self.statuses[path], more=9)
                late = asked.copy()
                late["acknowledged"] = answered["sequence"] + 20  # sent again when the answer had begun
                self.payloads += [*again, answered, *[answered] * draw(st.integers(0, 1)), *[late] * draw(st.integers(0, 1))]


@settings(max_examples=60)
@given(st.data())
def test_whatever_is_lost_no_answer_goes_to_another_request(data: st.DataObject) -> None:
    talk = Conversation(data.draw)
    lost = data.draw(st.lists(st.booleans(), min_size=len(talk.payloads), max_size=len(talk.payloads)))
    kept = [one for one, gone in zip(talk.payloads, lost, strict=True) if not gone]
    station = Station(timeout_ns=MS)
    step = data.draw(st.integers(3, 40))
    for begin in range(0, len(kept), step):
        station.take(*kept[begin : begin + step])
    station.settle().expire(T0 + 10_000 * MS)
    seen = Counter(row["text"] for row in station.rows() if row["state"] != State.ALONE)
    assert not seen or max(seen.values()) == 1
    for row in station.rows():
        if row["state"] == State.ANSWERED:
            assert row["status"] == talk.statuses[row["text"]]
            assert row["response_bytes"] in (-1, len(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") + 9)


@settings(max_examples=50)
@given(st.data())
def test_without_loss_every_request_has_its_answer(data: st.DataObject) -> None:
    talk = Conversation(data.draw)
    station = Station()
    step = data.draw(st.integers(3, 40))
    for begin in range(0, len(talk.payloads), step):
        station.take(*talk.payloads[begin : begin + step])
    found = {row["text"]: (row["state"], row["status"]) for row in station.settle().rows()}
    assert found == {path: (State.ANSWERED, status) for path, status in talk.statuses.items()}
    assert set(station.http.counts()) <= {"http: request again", "http: answer again", "http: interim answer"}


@settings(max_examples=60)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.integers(6, 20), st.randoms())
def test_pipelining_without_loss_never_pairs_wrongly(groups: list[int], step: int, random: Any) -> None:
    stream, turn = Stream(), 0
    payloads: list[NDArray[Any]] = []
    statuses: dict[bytes, int] = {}
    for group in groups:
        names = list(range(turn, turn + group))
        turn += group
        asked = [stream.ask(b"GET /%d HTTP/1.1\r\n\r\n" % name, long=random.random() < 0.5) for name in names]
        random.shuffle(asked)  # on the way to a server
        payloads += asked + [stream.answer(b"HTTP/1.1 %d OK\r\n\r\n" % (200 + name)) for name in names]
        statuses |= {b"/%d" % name: 200 + name for name in names}
    station = Station()
    for begin in range(0, len(payloads), step):
        station.take(*payloads[begin : begin + step])
    for row in station.settle().rows():
        if row["state"] == State.ANSWERED:
            assert row["status"] == statuses[row["text"]]
    several = {
        b"/%d" % name for at, group in enumerate(groups) if group > 1 for name in range(sum(groups[:at]), sum(groups[: at + 1]))
    }
    # Of one whose answer was paired before the next request came it is known that they belong together.
    told = {row["text"] for row in station.rows() if row["state"] == State.ANSWERED or row["flags"] & Flag.PIPELINED}
    assert several <= told


SECRET = b"s3cr3tS3CR3Tvalue0123456789ABCDEFxyz"
PLANTED = [
    b"GET /a?token=%s HTTP/1.1\r\nHost: b\r\n\r\n", b"GET /a#%s HTTP/1.1\r\nHost: b\r\n\r\n",
    b"GET /a/%s/b HTTP/1.1\r\nHost: b\r\n\r\n", b"GET http://ann:%s@b/ HTTP/1.1\r\n\r\n",
    b"CONNECT ann:%s@b:443 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: ann:%s@b\r\n\r\n",
    b"GET / HTTP/1.1\r\nAuthorization: Bearer %s\r\nHost: b\r\n\r\n", b"GET / HTTP/1.1\r\nCookie: a=%s\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nReferer: http://x/?q=%s\r\nHost: b\r\n\r\n", b"GET /p/http://u:%s@h/ HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\n\r\n%s", b"GET /a?b=%s", b"GET http://ann:%s",
    b"GET /" + b"w/" * 73 + b"%s HTTP/1.1\r\n\r\n", b"GET /" + b"w/" * 95 + b"%s HTTP/1.1\r\n\r\n",
    b"GET /" + b"w" * 180 + b"?t=%s HTTP/1.1\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("text", PLANTED)
@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("rules", [{}, {"headers_allow": ["Referer", "Location"]}, {"headers_deny": ["X-Else"]}])
def test_a_planted_secret_is_nowhere_in_the_store(text: bytes, long: bool, rules: dict[str, object]) -> None:
    stream, station = Stream(), Station(Redaction.of(rules))
    answer = b"HTTP/1.1 302 Found\r\nSet-Cookie: a=%s\r\nLocation: /x?%s\r\n\r\n%s" % (SECRET, SECRET, SECRET)
    station.take(stream.ask(text % SECRET, long=long), stream.answer(answer)).settle()
    alone = Stream(2)
    station.take(alone.answer(answer)).settle()
    assert [row["state"] for row in station.rows()] == [State.ANSWERED, State.ALONE]
    assert SECRET[:8] not in station.raw()


def test_a_request_in_fragments() -> None:
    stream, station = Stream(), Station()
    for begin in range(0, len(GET), 3):
        piece = GET[begin : begin + 3]
        station.take(stream.ask(GET[:8] if not begin else piece))
    rows = station.take(stream.answer()).settle().rows()
    assert (rows[0]["text"], rows[0]["flags"] & Flag.CUT) == (b"/use", Flag.CUT)
    assert station.http.counts()["http: not a request line"] == (len(GET) - 1) // 3


def test_floods_take_bounded_memory() -> None:
    station = Station(capacity=64, most_waiting=256)
    lines = b"GET / HTTP/1.1\r\n" + b"a\n" * 950
    for turn in range(20):
        flood = [payload(lines, long=True, conn_id=turn * 100 + at, kind=PayloadKind.HTTP_REQUEST) for at in range(100)]
        flood += [payload(OK, conn_id=1 << 20 | turn * 100 + at, kind=PayloadKind.HTTP_RESPONSE) for at in range(100)]
        station.take(*flood)
        station.events.clear()
    http = station.http
    assert len(http._waiting) == 256
    assert http.counts() == {"http: too many waiting": 2_000 - 256}
    assert len(http._recent.requests) + len(http._held.answers) <= 600
