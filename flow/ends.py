"""Ends: the two ends of flows by number, so that what repeats is kept, sent and parsed once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from flows.proto.flows_pb2 import End

if TYPE_CHECKING:
    from collections.abc import Iterator

# Fields of flow.Flow and of flows.v1.FlowExtension that an end fills, by role.
_ENDPOINT = {"source": 8, "destination": 9}
_SERVICE = {"source": 20, "destination": 21}
_DETAIL = {"source": 2, "destination": 3}


def varint(value: int) -> bytes:
    """An unsigned number in protobuf's base 128 (protobuf.dev/programming-guides/encoding)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


class EndEntry:
    """One end: as it came, parsed when first looked at, and as the bytes that it adds to a flow in each role."""

    def __init__(self, raw: bytes) -> None:
        """raw: a serialized flows.v1.End. Raises google.protobuf.message.DecodeError when first looked into."""
        self.raw = raw

    @cached_property
    def end(self) -> End:
        """The message; not to be changed."""
        return End.FromString(self.raw)

    @cached_property
    def namespaces(self) -> frozenset[str]:
        """The namespaces that the end belongs to: its own, else that of the Service whose address it is."""
        return frozenset({self.end.endpoint.namespace, self.end.service.namespace} - {""})

    @cached_property
    def as_source(self) -> tuple[bytes, bytes]:
        """Bytes to append to a flow.Flow and to its FlowExtension if this is its source."""
        return self._parts("source")

    @cached_property
    def as_destination(self) -> tuple[bytes, bytes]:
        """The same for its destination."""
        return self._parts("destination")

    def _parts(self, role: str) -> tuple[bytes, bytes]:
        end = self.end
        flow = field(_ENDPOINT[role], end.endpoint.SerializeToString()) if end.HasField("endpoint") else b""
        if end.HasField("service"):
            flow += field(_SERVICE[role], end.service.SerializeToString())
        detail = field(_DETAIL[role], end.detail.SerializeToString()) if end.HasField("detail") else b""
        return flow, detail


class EndTable:
    """Ends by number, equal ones once. Numbers are dense, from 0."""

    def __init__(self) -> None:
        self._entries: list[EndEntry] = []
        self._numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, number: int) -> EndEntry:
        return self._entries[number]

    def __iter__(self) -> Iterator[EndEntry]:
        return iter(self._entries)

    def number(self, raw: bytes) -> int:
        """The number of a serialized flows.v1.End; a new one if it was not met before."""
        number = self._numbers.get(raw)
        if number is None:
            number = self._numbers[raw] = len(self._entries)
            self._entries.append(EndEntry(raw))
        return number
