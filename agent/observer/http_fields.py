"""Flows of ordinary HTTP requests and answers, many at once: Layer7 and Summary as bytes, the same as request_flows.py makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flows.agent.observer.fields import Fields, chosen, constant, join, nested, number, texts
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import METHODS, Kind
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]

MS: Final = 1_000_000
SLASH: Final = ord("/")
LAYER7: Final = {each.name: each.number for each in flow_pb2.Layer7.DESCRIPTOR.fields}
HTTP: Final = {each.name: each.number for each in flow_pb2.HTTP.DESCRIPTOR.fields}
PROTOCOLS: Final = {9: b"HTTP/0.9", 10: b"HTTP/1.0", 11: b"HTTP/1.1", 20: b"HTTP/2"}
NO_PROTOCOL: Final = b"HTTP"
_METHODS: Final = texts([method.encode() or b"UNKNOWN" for method in METHODS])
_PROTOCOLS: Final = texts([PROTOCOLS.get(version, NO_PROTOCOL) for version in range(max(PROTOCOLS) + 2)])  # the last: any other
_SCHEMES: Final = texts([b"", b"http://", b"https://"])


def ordinary(rows: Columns, events: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of n requests, with the event that is shown of each, can be read here: ASCII, a path, no kept headers; bool (n,)."""
    mask: NDArray[np.bool_] = (rows["kind"] == Kind.HTTP1) | (rows["kind"] == Kind.HTTP2)
    mask &= ((events == Event.REQUEST) | (events == Event.RESPONSE)) & (rows["time"] > 0)
    mask &= (rows["text"][:, 0] == SLASH) & (rows["headers"][:, 0] == 0)
    for name in ("text", "host"):
        high = rows[name].view(np.uint64) & np.uint64(0x8080808080808080)
        if high.any():
            mask &= ~high.any(axis=1)
    return mask


def http_fields(rows: Columns, events: NDArray[np.uint8]) -> tuple[list[bytes], list[bytes]]:
    """Layer7 and Summary of n requests that are ordinary."""
    answers = events == Event.RESPONSE
    latency = np.where(answers, np.maximum(rows["answered"] - rows["time"], 0), 0)
    method, url = chosen(rows["method"], _METHODS), _url(rows)
    protocol = chosen(np.minimum(rows["version"], len(_PROTOCOLS) - 1), _PROTOCOLS)
    http = nested(
        LAYER7["http"],
        number(HTTP["code"], np.where(answers, rows["status"], 0)),
        nested(HTTP["method"], method),
        nested(HTTP["url"], url),
        nested(HTTP["protocol"], protocol),
    )
    types = np.where(answers, flow_pb2.RESPONSE, flow_pb2.REQUEST)
    l7 = join(number(LAYER7["type"], types), number(LAYER7["latency_ns"], latency), http)
    blank, count = constant(b" ", len(events)), len(events)
    code = join(_decimal(rows["status"]), blank, _decimal(latency // MS), constant(b"ms (", count))
    summary = join(protocol, blank, _where(answers, code), method, blank, url, _where(answers, constant(b")", count)))
    return l7.rows(), summary.rows()


def lengths(texts_: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Bytes of texts (n, w) without the zeros behind them (n,)."""
    sizes: NDArray[np.int64] = np.strings.str_len(np.ascontiguousarray(texts_).view(f"S{texts_.shape[1]}")[:, 0])
    return sizes


def _url(rows: Columns) -> Fields:
    host, path = _text(rows["host"]), _text(rows["text"])
    schemes = np.where(host.kept[:, 0], 1 + (rows["origin"] != 0), 0)
    return join(chosen(schemes, _SCHEMES), host, path)


def _text(texts_: NDArray[np.uint8]) -> Fields:
    sizes = lengths(texts_)
    width = max(1, int(sizes.max(initial=0)))
    return Fields(texts_[:, :width], np.arange(width, dtype=np.uint8) < sizes.astype(np.uint8)[:, None])


def _decimal(values: NDArray[np.integer[Any]]) -> Fields:
    """Numbers (n,), none negative, as people write them."""
    width = len(str(int(values.max(initial=0))))
    powers = 10 ** np.arange(width - 1, -1, -1)
    raw = (values.astype(np.int64)[:, None] // powers % 10 + ord("0")).astype(np.uint8)
    kept = values.astype(np.int64)[:, None] >= powers
    kept[:, -1] = True
    return Fields(raw, kept)


def _where(mask: NDArray[np.bool_], piece: Fields) -> Fields:
    return Fields(piece.raw, piece.kept & mask[:, None])
