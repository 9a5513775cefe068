"""Batch: flows of one or several nodes as columns and bytes, and their way to and from flows.v1.FlowBatch messages."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.flow.ends import EndTable, field, varint
from flows.proto.flows_pb2 import FlowBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

# Columns of a FlowBatch by name; each has one little-endian value per flow.
COLUMNS: dict[str, str] = {
    "time_ns": "<i8",
    "start_ns": "<i8",
    "source": "<u4",
    "destination": "<u4",
    "opener": "<u8",
    "tuple": "<u8",
    "at_source": "<u1",
    "node": "<u4",
    "reply": "<u1",
}
OPTIONAL = ("reply",)  # columns that agents of before do not send: zeros then
# A stream's tables are begun anew beyond this many ends: at some 300 bytes each, 20 MB on either side.
FRESH_ENDS = 65_536
# A sender that tells of more without beginning anew, or of more nodes than three of the largest clusters, is broken or means
# ill: a reader would have to keep it all.
MOST_ENDS = 4 * FRESH_ENDS
MOST_NODES = 16_384

_EXTENSIONS, _TYPE_URL, _VALUE, _CONNECTION = 150_000, 1, 2, 1
_EXTENSION_TYPE = field(_TYPE_URL, b"type.googleapis.com/flows.v1.FlowExtension")


class BatchError(Exception):
    """A FlowBatch whose parts do not fit together: the sender is broken or not to be trusted."""


@dataclass(slots=True)
class Batch:
    """n flows. flows, connections: (n,) object, bytes each (connections b"" where there is none); the others as in COLUMNS.

    source, destination: numbers in an EndTable, of who opened and who accepted; reply: 1 where the flow is an answer, so that in
    the flow itself the acceptor is the source. node: numbers of nodes; whoever holds the batch knows which tables.
    """

    flows: NDArray[np.object_]
    connections: NDArray[np.object_]
    time_ns: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    source: NDArray[np.uint32]
    destination: NDArray[np.uint32]
    opener: NDArray[np.uint64]
    tuple: NDArray[np.uint64]
    at_source: NDArray[np.uint8]
    node: NDArray[np.uint32]
    reply: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.time_ns)

    def take(self, rows: NDArray[Any]) -> Batch:
        """The given rows (numbers or a mask), in that order; copies."""
        return Batch(*(getattr(self, each.name)[rows] for each in fields(self)))


def empty() -> Batch:
    """A batch without flows."""
    columns = {name: np.zeros(0, dtype) for name, dtype in COLUMNS.items()}
    return Batch(objects(()), objects(()), **columns)


def concatenate(batches: Sequence[Batch]) -> Batch:
    """All flows of batches that share their tables, in that order."""
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return empty()
    return Batch(*(np.concatenate([getattr(one, each.name) for one in batches]) for each in fields(Batch)))


def objects(values: Iterable[bytes]) -> NDArray[np.object_]:
    """A column of bytes objects (n,)."""
    listed = list(values)
    column = np.empty(len(listed), object)
    column[:] = listed
    return column


class BatchReader:
    """One stream's messages to batches, whose ends are numbers in `ends` and whose nodes are numbers in `nodes`.

    Both tables may be shared by several streams: that is how the flows of several nodes come together.
    """

    def __init__(self, ends: EndTable, nodes: list[str], most_nodes: int = MOST_NODES) -> None:
        """nodes: names by number; grows as new ones come, by most_nodes of this stream at most."""
        self._table, self._all_nodes, self._most_nodes = ends, nodes, most_nodes
        self._names: set[str] = set()
        self._ends = np.zeros(0, np.uint32)
        self._nodes = np.zeros(0, np.uint32)

    def change_tables(self, ends: EndTable, nodes: list[str]) -> None:
        """Go on with other tables; what the stream has told of is carried over."""
        self._ends = np.array([ends.number(self._table[number].raw) for number in self._ends.tolist()], np.uint32)
        names = [self._all_nodes[number] for number in self._nodes.tolist()]
        self._table, self._all_nodes = ends, nodes
        self._nodes = self._numbers(names)

    def read(self, message: FlowBatch) -> Batch:
        """The flows of a message. Raises BatchError."""
        if message.fresh:
            self._ends, self._nodes = self._ends[:0], self._nodes[:0]
        if len(self._ends) + len(message.ends) > MOST_ENDS:
            raise BatchError(f"the stream has told of more than {MOST_ENDS} ends without beginning anew")
        if message.ends:
            numbers = [self._table.number(end.SerializeToString(deterministic=True)) for end in message.ends]
            self._ends = np.concatenate((self._ends, np.array(numbers, np.uint32)))
        if message.nodes:
            self._tell_nodes(message)
        return self._columns(message)

    def _tell_nodes(self, message: FlowBatch) -> None:
        if len(message.nodes) <= self._most_nodes:
            self._names.update(message.nodes)
        if max(len(message.nodes), len(self._nodes) + len(message.nodes), len(self._names)) > self._most_nodes:
            raise BatchError(f"the stream has told of more than {self._most_nodes} nodes")
        self._nodes = np.concatenate((self._nodes, self._numbers(message.nodes)))

    def _numbers(self, names: Iterable[str]) -> NDArray[np.uint32]:
        """Of nodes in the shared table, which grows by those that it lacks."""
        known = {name: number for number, name in enumerate(self._all_nodes)}
        numbers = [known.setdefault(name, len(known)) for name in names]
        self._all_nodes.extend(list(known)[len(self._all_nodes) :])
        return np.array(numbers, np.uint32)

    def _columns(self, message: FlowBatch) -> Batch:
        count = len(message.flows)
        columns = {name: _column(message, name, dtype, count) for name, dtype in COLUMNS.items()}
        if message.connections and len(message.connections) != count:
            raise BatchError(f"{count} flows, but {len(message.connections)} connections")
        connections = objects(message.connections) if message.connections else objects([b""] * count)
        for name, known in (("source", self._ends), ("destination", self._ends), ("node", self._nodes)):
            if count and int(columns[name].max()) >= len(known):
                raise BatchError(f"{name} {columns[name].max()} of a flow: the stream has told of {len(known)} so far")
            columns[name] = known[columns[name]]
        return Batch(objects(message.flows), connections, **columns)


def _column(message: FlowBatch, name: str, dtype: str, count: int) -> NDArray[Any]:
    raw: bytes = getattr(message, name)
    if not raw and name in OPTIONAL:
        return np.zeros(count, dtype)
    if len(raw) != count * np.dtype(dtype).itemsize:
        raise BatchError(f"column {name} has {len(raw)} bytes for {count} flows of {np.dtype(dtype).itemsize} each")
    return np.frombuffer(raw, dtype)


class BatchWriter:
    """Batches to the messages of one stream: ends and nodes are sent when first used."""

    def __init__(self, ends: EndTable, nodes: Sequence[str]) -> None:
        """The tables that the batches' numbers are of."""
        self._table, self._all_nodes = ends, nodes
        self._forget()

    def _forget(self) -> None:
        self._fresh = True
        self._ends = np.zeros(0, np.int64)  # number in the table -> number in the stream, -1: not sent
        self._nodes = np.zeros(0, np.int64)
        self._ends_sent = self._nodes_sent = 0

    def change_tables(self, ends: EndTable, nodes: Sequence[str]) -> None:
        """Go on with other tables: the stream's are begun anew."""
        self._table, self._all_nodes = ends, nodes
        self._forget()

    def write(self, batch: Batch) -> FlowBatch:
        """The message of a batch; whoever sends it adds what else is to be said."""
        if self._ends_sent > FRESH_ENDS:
            self._forget()
        message = FlowBatch(flows=batch.flows.tolist(), fresh=self._fresh)
        self._fresh = False
        if any(batch.connections):
            message.connections.extend(batch.connections.tolist())
        source, destination = self._number_ends(message, batch)
        for name, dtype in COLUMNS.items():
            setattr(message, name, getattr(batch, name).astype(dtype).tobytes())
        message.source, message.destination = source.astype("<u4").tobytes(), destination.astype("<u4").tobytes()
        message.node = self._number_nodes(message, batch).astype("<u4").tobytes()
        return message

    def _number_ends(self, message: FlowBatch, batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        self._ends = _grown(self._ends, len(self._table))
        both = np.concatenate((batch.source, batch.destination))
        new = np.unique(both[self._ends[both] < 0])
        message.ends.extend(self._table[number].end for number in new.tolist())
        self._ends[new] = np.arange(self._ends_sent, self._ends_sent + len(new))
        self._ends_sent += len(new)
        return self._ends[batch.source], self._ends[batch.destination]

    def _number_nodes(self, message: FlowBatch, batch: Batch) -> NDArray[np.int64]:
        self._nodes = _grown(self._nodes, len(self._all_nodes))
        new = np.unique(batch.node[self._nodes[batch.node] < 0])
        message.nodes.extend(self._all_nodes[number] for number in new.tolist())
        self._nodes[new] = np.arange(self._nodes_sent, self._nodes_sent + len(new))
        self._nodes_sent += len(new)
        return self._nodes[batch.node]


def _grown(numbers: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """With room for all numbers of a table that may have grown."""
    return np.concatenate((numbers, np.full(size - len(numbers), -1))) if size > len(numbers) else numbers


def compose(batch: Batch, ends: EndTable) -> list[bytes]:
    """Whole flow.Flow messages, serialized: each flow with its ends and extension put back.

    By appending bytes, which for protobuf is merging: 2 us each, a fifth of parsing and serializing.
    """
    answers = batch.reply != 0
    sources = [ends[number].as_source for number in np.where(answers, batch.destination, batch.source).tolist()]
    destinations = [ends[number].as_destination for number in np.where(answers, batch.source, batch.destination).tolist()]
    whole: list[bytes] = []
    for flow, connection, source, destination in zip(batch.flows, batch.connections, sources, destinations, strict=True):
        extension = _extension(connection, source[1] + destination[1]) if connection else b""
        whole.append(flow + source[0] + destination[0] + extension)
    return whole


def _extension(connection: bytes, details: bytes) -> bytes:
    value = b"\x0a" + varint(len(connection)) + connection + details
    return field(_EXTENSIONS, _EXTENSION_TYPE + field(_VALUE, value))
