"""Flows of requests and answers to protobuf bytes: Flow.l7, Flow.Summary and flows.v1.Request, as Hubble fills them."""

from __future__ import annotations

from functools import lru_cache
from operator import add
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from flows.agent.observer.dns_answer import dns_messages
from flows.agent.observer.dns_fields import dns_fields
from flows.agent.observer.fields import Fields, join, nanoseconds, number, texts
from flows.agent.observer.http_fields import NO_PROTOCOL, PROTOCOLS, http_fields, ordinary
from flows.agent.probe.record import Event
from flows.agent.store.header_lines import pairs
from flows.agent.store.public_names import public_name
from flows.agent.store.request_columns import METHODS, Flag, Kind, State
from flows.flow.grpc_words import service_and_method, status_name
from flows.flow.tls_words import cipher_name, version_name
from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from flows.agent.store.requests import RequestStore

    Columns = Mapping[str, NDArray[Any]]

Made = tuple[bytes, bytes, bytes]
MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
REQUEST: Final = {each.name: each.number for each in extension_pb2.Request.DESCRIPTOR.fields}
MARKS: Final = tuple((flag, flag.bit_length() - 1) for flag in Flag)
GONE: Final = b"request no longer kept"
# Columns that are looked at here.
COLUMNS: Final = (
    "time", "answered", "origin", "kind", "state", "flags", "method", "version", "status", "grpc", "qtype", "query_id", "attempt",
    "first", "request_bytes", "response_bytes", "text", "host", "headers", "answer", "answer_bytes",
)  # fmt: skip
# Those of them that http_fields() and dns_fields() look at, and flags.
HTTP: Final = ("time", "answered", "origin", "method", "version", "status", "flags", "text", "host")
DNS: Final = (
    "time", "answered", "status", "flags", "text", "qtype", "query_id", "attempt", "first", "answer", "answer_bytes",
)  # fmt: skip


class Requested(NamedTuple):
    """What n flows of requests tell.

    l7: a Layer7 each, empty where there is none; request: a flows.v1.Request; names: of who was asked, empty where none was told.
    """

    l7: list[bytes]
    summary: list[bytes]
    request: list[bytes]
    names: list[bytes]
    encrypted: NDArray[np.bool_]


def requested(store: RequestStore | None, columns: Columns) -> Requested:
    """Of n flows of requests; columns as in agent/store/columns.py. What the store no longer has is told as that."""
    count = len(columns["event"])
    numbers, rows = np.full(count, -1), {}
    if store is not None and store.written:
        with store.lock:
            numbers = store.numbers_of(columns["detail"])
            here = store.stored(numbers)
            rows = store.take(np.where(here, numbers, store.written - 1), COLUMNS)
        numbers = np.where(here, numbers, -1)
    l7, summary, parts = _made(numbers, rows, columns)
    messages = _requests(numbers, rows, columns["event"], texts(parts)).rows() if rows else parts
    names = asked_names(rows) if rows else [b""] * count
    encrypted = (rows["kind"] == Kind.TLS) | (rows["origin"] != 0) if rows else np.zeros(count, np.bool_)
    return Requested(l7, summary, messages, names, encrypted & (numbers >= 0))


def _made(numbers: NDArray[np.int64], rows: Columns, columns: Columns) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Layer7, Summary and what is in Request for some kinds only, of n flows: the odd ones one by one."""
    made = [GONE_TEXT] * len(numbers)
    here, events, times = numbers >= 0, columns["event"], columns["time"]
    if rows:
        http = here & ordinary(rows, events)
        dns = here & (rows["kind"] == Kind.DNS) & (events != Event.NO_RESPONSE)
        for at in (here & ~http & ~dns).nonzero()[0].tolist():
            made[at] = MAKERS[Kind(rows["kind"][at])](rows, at, int(events[at]), int(times[at]))
        for mask, names, make in ((http, HTTP, _https), (dns, DNS, _dnses)):
            which = mask.nonzero()[0]
            if which.size:
                some = make({name: rows[name][which] for name in names}, events[which])
                for at, one in zip(which.tolist(), some, strict=True):
                    made[at] = one
    l7, summary, parts = zip(*made, strict=True) if made else ((), (), ())
    return list(l7), list(summary), list(parts)


def _https(rows: Columns, events: NDArray[np.uint8]) -> Iterator[Made]:
    return zip(*http_fields(rows, events), map(_marked, rows["flags"].tolist()), strict=True)


def _dnses(rows: Columns, events: NDArray[np.uint8]) -> Iterator[Made]:
    l7, summary, dns = dns_fields(rows, events)
    return zip(l7, summary, map(add, map(_marked, rows["flags"].tolist()), dns), strict=True)


def asked_names(rows: Columns) -> list[bytes]:
    """The public name of who was asked (n,): SNI or Host; empty for none and for addresses."""
    names, kinds = [b""] * len(rows["kind"]), rows["kind"]
    for column, which in (("text", kinds == Kind.TLS), ("host", (kinds != Kind.TLS) & (kinds != Kind.DNS))):
        at = which.nonzero()[0]
        raw = rows[column][at]
        for place, name in zip(at.tolist(), raw.view(f"S{raw.shape[1]}")[:, 0].tolist(), strict=True):
            names[place] = _name(name)
    return names


@lru_cache(maxsize=4_096)
def _name(text: bytes) -> bytes:
    return public_name(text).encode()


@lru_cache(maxsize=4_096)
def _marked(flags: int) -> bytes:
    return extension_pb2.Request(marks=_marks(flags)).SerializeToString()  # type: ignore[arg-type]


def _requests(numbers: NDArray[np.int64], rows: Columns, events: NDArray[np.uint8], parts: Fields) -> Fields:
    here = numbers >= 0
    latency = _latency(rows)
    answered = here & (events == Event.RESPONSE) & (latency >= 0) & (rows["time"] > 0)
    return join(
        number(REQUEST["id"], np.where(here, numbers + 1, 0)),
        number(REQUEST["kind"], np.where(here, rows["kind"], 0)),
        number(REQUEST["state"], np.where(here, rows["state"], 0)),
        nanoseconds(REQUEST["latency"], np.maximum(latency, 0), answered),
        number(REQUEST["request_bytes"], np.where(here, rows["request_bytes"], 0)),
        number(REQUEST["response_bytes"], np.where(here, np.maximum(rows["response_bytes"], 0), 0)),
        number(REQUEST["origin"], np.where(here, rows["origin"], 0)),
        parts,
    )


def _latency(rows: Columns) -> NDArray[np.int64]:
    latency: NDArray[np.int64] = rows["answered"] - rows["time"]
    return latency


def _text(raw: NDArray[np.uint8]) -> str:
    return raw.tobytes().rstrip(b"\0").decode(errors="backslashreplace")


def _marks(flags: int) -> list[int]:
    return [position for flag, position in MARKS if flags & flag]


GONE_TEXT: Final[Made] = (b"", GONE, b"")


def _http(rows: Columns, at: int, event: int, _time: int) -> Made:
    """Hubble's words: pkg/hubble/parser/seven/http.go."""
    http = flow_pb2.HTTP(
        method=METHODS[int(rows["method"][at])] or "UNKNOWN",
        url=_url(rows, at),
        protocol=PROTOCOLS.get(int(rows["version"][at]), NO_PROTOCOL).decode(),
        headers=[flow_pb2.HTTPHeader(key=key, value=value) for key, value in _headers(rows, at, event)],
    )
    asked = int(rows["time"][at]) > 0
    if not asked:
        http.method, http.url = "", ""
    l7 = flow_pb2.Layer7(type=flow_pb2.REQUEST)
    if event == Event.RESPONSE:
        http.code = int(rows["status"][at])
        l7.type = flow_pb2.RESPONSE
        if asked:
            l7.latency_ns = max(0, int(rows["answered"][at]) - int(rows["time"][at]))
        request = f"{http.method} {http.url}" if asked else "request not seen"
        summary = f"{http.protocol} {http.code} {l7.latency_ns // MS}ms ({request})"
    else:
        summary = f"{http.protocol} {http.method} {http.url}"
    if event == Event.NO_RESPONSE:
        summary += _given_up(rows, at, _time)
    l7.http.CopyFrom(http)
    grpc, words = _grpc(rows, at, event)
    return l7.SerializeToString(), (summary + words).encode(), _part(rows, at, grpc=grpc)


def _given_up(rows: Columns, at: int, time: int) -> str:
    waited = max(0, time - int(rows["time"][at])) / SECOND
    ended = int(rows["flags"][at]) & Flag.CONNECTION_END
    return f"; connection ended without an answer after {waited:.3g}s" if ended else f"; no answer after {waited:.3g}s"


def _url(rows: Columns, at: int) -> str:
    host, path = _text(rows["host"][at]), _text(rows["text"][at])
    scheme = "https" if int(rows["origin"][at]) else "http"
    if not path.startswith("/") and "://" in path:
        return path
    return f"{scheme}://{host}{path}" if host else path


def _headers(rows: Columns, at: int, event: int) -> list[tuple[str, str]]:
    return pairs(_text(rows["headers"][at]), answered=event == Event.RESPONSE)


def _grpc(rows: Columns, at: int, event: int) -> tuple[extension_pb2.Grpc | None, str]:
    if int(rows["kind"][at]) != Kind.GRPC:
        return None, ""
    service, method = service_and_method(_text(rows["text"][at]))
    grpc = extension_pb2.Grpc(service=service, method=method)
    if event != Event.RESPONSE or not int(rows["grpc"][at]):
        return grpc, ""
    grpc.has_status, grpc.status = True, int(rows["grpc"][at]) - 1
    grpc.status_name = status_name(grpc.status)
    return grpc, f"; grpc-status {grpc.status} {grpc.status_name}"


def _dns(rows: Columns, at: int, event: int, time: int) -> Made:
    asked = int(rows["time"][at])
    row = {name: column[at] for name, column in rows.items()}
    messages = dns_messages(row, event, max(0, time - asked))
    l7 = flow_pb2.Layer7(type=flow_pb2.RESPONSE if event == Event.RESPONSE else flow_pb2.REQUEST, dns=messages.dns)
    if event == Event.RESPONSE and asked:
        l7.latency_ns = max(0, int(rows["answered"][at]) - asked)
    messages.extension.first += 1  # as Request.id
    return l7.SerializeToString(), messages.summary.encode(), _part(rows, at, dns=messages.extension)


def _tls(rows: Columns, at: int, _event: int, _time: int) -> Made:
    name, offered = _text(rows["text"][at]), _text(rows["host"][at])
    tls = extension_pb2.Tls(server_name=name, version=version_name(int(rows["version"][at])))
    tls.alpn.extend(filter(None, offered.split(",")))
    if int(rows["state"][at]) == State.ANSWERED:
        tls.cipher = cipher_name(int(rows["status"][at]))
    words = ["TLS ClientHello", f"SNI: {name}" if name else "no SNI", *([f"ALPN: {offered}"] if offered else []), tls.version]
    return b"", " ".join(words).encode(), _part(rows, at, tls=tls)


def _part(rows: Columns, at: int, **parts: Any) -> bytes:
    request = extension_pb2.Request(marks=_marks(int(rows["flags"][at])))  # type: ignore[arg-type]
    for name, message in parts.items():
        if message is not None:
            getattr(request, name).CopyFrom(message)
    return request.SerializeToString()


MAKERS = {Kind.HTTP1: _http, Kind.HTTP2: _http, Kind.GRPC: _http, Kind.DNS: _dns, Kind.TLS: _tls}
