"""Flows of DNS queries and answers, many at once: Layer7, Summary and flows.v1.Dns as bytes; what came before is remembered."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from flows.agent.observer.dns_answer import dns_messages
from flows.agent.observer.fields import join, nested, number, texts
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import TEXT_BYTES, Flag
from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]

LAYER7: Final = {each.name: each.number for each in flow_pb2.Layer7.DESCRIPTOR.fields}
DNS: Final = {each.name: each.number for each in extension_pb2.Dns.DESCRIPTOR.fields}
REQUEST: Final = {each.name: each.number for each in extension_pb2.Request.DESCRIPTOR.fields}
REMEMBERED: Final = 8_192  # questions and answers to them, some 1 KB each


class _Said(NamedTuple):
    """What all queries of one question, or all equal answers, have in common: a flow.DNS, Summary, parts of a flows.v1.Dns."""

    dns: bytes
    summary: bytes
    begin: bytes  # up to where `attempt` and `first` come
    end: bytes


def dns_fields(rows: Columns, events: NDArray[np.uint8]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Layer7, Summary and the field `dns` of flows.v1.Request, of n requests: of what was asked, or answered."""
    answers = events == Event.RESPONSE
    said = list(_all_said(rows, answers))
    latency = np.where(answers & (rows["time"] != 0), np.maximum(rows["answered"] - rows["time"], 0), 0)
    l7 = join(
        number(LAYER7["type"], np.where(answers, flow_pb2.RESPONSE, flow_pb2.REQUEST)),
        number(LAYER7["latency_ns"], latency),
        nested(LAYER7["dns"], texts([each.dns for each in said])),
    )
    extension = nested(
        REQUEST["dns"],
        number(DNS["id"], rows["query_id"]),
        texts([each.begin for each in said]),
        number(DNS["attempt"], rows["attempt"]),
        number(DNS["first"], np.maximum(rows["first"], 0) + 1),  # as Request.id
        texts([each.end for each in said]),
    )
    return l7.rows(), [each.summary for each in said], extension.rows()


def forget() -> None:
    """Remember nothing."""
    _said.cache_clear()


def _all_said(rows: Columns, answers: NDArray[np.bool_]) -> Iterator[_Said]:
    names = np.ascontiguousarray(rows["text"]).view(f"S{TEXT_BYTES}")[:, 0].tolist()
    cut = (rows["flags"] & np.uint16(Flag.CUT) != 0).tolist()
    messages, width = rows["answer"].tobytes(), rows["answer"].shape[1]
    columns = (answers, rows["qtype"], rows["status"], rows["answer_bytes"])
    numbers = (column.tolist() for column in columns)
    for at, (name, of_cut, answer, qtype, status, size) in enumerate(zip(names, cut, *numbers, strict=True)):
        # All but the first two bytes, the id, are the same again and again.
        if answer:
            yield _said(name, of_cut, qtype, status, messages[at * width + 2 : at * width + size])
        else:
            yield _said(name, of_cut, qtype)


@lru_cache(REMEMBERED)
def _said(name: bytes, cut: bool, qtype: int, status: int = 0, message: bytes | None = None) -> _Said:
    """message: an answer's without its id; None: a query."""
    row = {
        "text": name, "flags": Flag.CUT if cut else 0, "qtype": qtype, "query_id": 0, "attempt": 0, "first": 0, "status": status,
        "answer": b"\0\0" + (message or b""), "answer_bytes": 2 + len(message or b""),
    }  # fmt: skip
    made = dns_messages(row, Event.REQUEST if message is None else Event.RESPONSE)
    begin = extension_pb2.Dns(qtype=made.extension.qtype, rcode=made.extension.rcode, rcode_name=made.extension.rcode_name)
    for each in ("qtype", "rcode", "rcode_name"):
        made.extension.ClearField(each)
    dns, end = made.dns.SerializeToString(), made.extension.SerializeToString()
    return _Said(dns, made.summary.encode(), begin.SerializeToString(), end)
