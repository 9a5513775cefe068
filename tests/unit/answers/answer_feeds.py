"""How flows come to an answer in tests: one by one or in batches, with who answered; and the rows that come of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from answer_samples import SECOND, START

from flows.flow.batch import COLUMNS, Batch, BatchReader, BatchWriter, objects
from flows.flow.ends import EndTable
from flows.proto import extension_pb2, flows_pb2, relay_pb2
from flows.proto.flow_pb2 import Flow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def coverage(*, without: Sequence[str] = (), nodes: Sequence[str] = ("node-1", "node-2")) -> flows_pb2.Coverage:
    """All nodes answered, but for some."""
    told = flows_pb2.Coverage(complete=not without)
    for name in nodes:
        state = relay_pb2.NODE_UNAVAILABLE if name in without else relay_pb2.NODE_CONNECTED
        told.nodes.add(node=name, state=state)
    return told


def gap(
    node: str, why: flows_pb2.GapReason = flows_pb2.LOST, *, nodes: Sequence[str] = ("node-1", "node-2")
) -> flows_pb2.Coverage:
    """All nodes answered; one lacks what was from a second before START to six after."""
    told = coverage(nodes=nodes)
    told.complete = False
    missing = next(each for each in told.nodes if each.node == node).gaps.add(reason=why)
    getattr(missing, "from").FromNanoseconds(START - SECOND)
    missing.to.FromNanoseconds(START + 6 * SECOND)
    return told


def fed(answer: Any, flows: Iterable[Flow], told: flows_pb2.Coverage | None = None, *, look: Iterable[Flow] = ()) -> Any:
    """The answer after these flows, and after a second look if it wanted one."""
    for flow in flows:
        answer.add(flow)
    answer.end()
    if told is not None:
        answer.cover(told)
    if answer.more():
        for flow in look:
            answer.context(flow)
        answer.looked()
    return answer


def rows(answer: Any, table: int = 0) -> list[dict[str, Any]]:
    return list(answer.tables()[table].rows)


def batches(flows: Sequence[Flow], size: int = 3) -> list[tuple[Batch, EndTable]]:
    """The flows as a reader of a stream of batches has them, with the table of their ends."""
    ends = EndTable()
    reader = BatchReader(ends, [])
    return [(reader.read(message), ends) for message in messages(flows, size)]


def messages(flows: Sequence[Flow], size: int = 3) -> list[flows_pb2.FlowBatch]:
    """The messages of a stream that brings the flows."""
    ends = EndTable()
    writer = BatchWriter(ends, ["relay"])
    return [writer.write(_batch([_parted(flow, ends) for flow in flows[at : at + size]])) for at in range(0, len(flows), size)]


def _batch(parts: Sequence[tuple[bytes, bytes, int, int]]) -> Batch:
    raw, connections, sources, destinations = zip(*parts, strict=True)
    columns = {name: np.zeros(len(parts), dtype) for name, dtype in COLUMNS.items()}
    columns |= {"source": np.array(sources, "<u4"), "destination": np.array(destinations, "<u4")}
    columns["time_ns"] = np.array([Flow.FromString(each).time.ToNanoseconds() for each in raw])
    return Batch(objects(raw), objects(connections), **columns)


def _parted(flow: Flow, ends: EndTable) -> tuple[bytes, bytes, int, int]:
    """A flow without its ends, its connection, and the numbers of its ends."""
    rest, extension, numbers = Flow.FromString(flow.SerializeToString()), extension_pb2.FlowExtension(), []
    rest.extensions.Unpack(extension)
    for side in ("source", "destination"):
        end = flows_pb2.End()
        for name, message in ((side, end.endpoint), (f"{side}_service", end.service)):
            if rest.HasField(name):
                message.CopyFrom(getattr(rest, name))
                rest.ClearField(name)
        if extension.HasField(side):
            end.detail.CopyFrom(getattr(extension, side))
        numbers.append(ends.number(end.SerializeToString(deterministic=True)))
    rest.ClearField("extensions")
    return rest.SerializeToString(), extension.connection.SerializeToString(), numbers[0], numbers[1]
