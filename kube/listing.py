"""A list's body read as it arrives: objects are decoded and gone before the last has come.

An API server's watch cache answers with all objects at once, whatever `limit` says: 50 MB for 10,000 pods.
"""

from __future__ import annotations

import re
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from flows.kube.errors import ApiError
from flows.kube.resource import Keyed
from flows.kube.wire import ListMeta, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flows.kube.resource import Resource

R = TypeVar("R", bound=Keyed)

PART: Final = 1 << 20  # decoded at once
LIMIT: Final = 64 << 20  # of a body in which no object ends
TRIES: Final = 8  # places that look like the end of an object, and may be within one
_ITEMS: Final = re.compile(rb'"items"\s*:\s*\[\s*')
_KEY: Final = re.compile(rb'\{\s*"[^"\\]*"')


class _Envelope(Wire):
    metadata: ListMeta


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


class ListReader(Generic[R]):
    """Reads one list answer of a resource; metadata is there once all has been read.

    Every object of a list begins with the same key. So a part may end before a comma that such a beginning follows; if
    that was within an object, the part is no JSON, and a place further back is tried.
    """

    def __init__(self, resource: Resource[R]) -> None:
        items: Any = GenericAlias(list, (resource.kind,))
        self.metadata = ListMeta()
        self._decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(items)
        self._record = resource.record
        self._buffer = bytearray()
        self._head = b""
        self._beginning = b""

    def read(self, pieces: Iterable[bytes]) -> Iterator[tuple[R, ...]]:
        """Give the objects, some at a time. Raises msgspec.DecodeError for what is no list, ApiError for one too long."""
        enough = PART
        for piece in pieces:
            self._buffer += piece
            if len(self._buffer) < enough:
                continue
            if len(self._buffer) > LIMIT:
                raise ApiError(0, f"list: more than {LIMIT} bytes without the end of an object")
            if records := self._part():
                yield records
            enough = max(PART, 2 * len(self._buffer))  # a search that found nothing is not repeated for each piece
        if records := self._rest():
            yield records

    def _part(self) -> tuple[R, ...]:
        """Take the whole objects at the front of the buffer; none if no place to cut is found."""
        if not self._begun():
            return ()
        end = len(self._buffer)
        for _ in range(TRIES):
            end = self._buffer.rfind(self._beginning, 1, end)
            if end < 0:
                break
            front = bytes(self._buffer[:end]).rstrip()
            if front.endswith(b",") and (found := self._decode(front[:-1])) is not None:
                del self._buffer[:end]
                return found
        return ()

    def _rest(self) -> tuple[R, ...]:
        """Take the last objects, and what is around all of them."""
        if not self._begun():
            self.metadata = _ENVELOPE.decode(bytes(self._head + self._buffer)).metadata
            return ()
        rest, end = bytes(self._buffer), len(self._buffer)
        for _ in range(TRIES):
            end = rest.rfind(b"]", 0, end)
            if end < 0:
                break
            if rest[:end].rstrip().endswith(b"}") and (found := self._decode(rest[:end])) is not None:
                self.metadata = _ENVELOPE.decode(self._head + rest[end:]).metadata
                return found
        raise msgspec.DecodeError("the list has no end")

    def _begun(self) -> bool:
        """Drop what comes before the first object; False while there is none."""
        if self._beginning:
            return True
        items = _ITEMS.search(self._buffer)
        first = _KEY.match(self._buffer, items.end()) if items else None
        if items is None or first is None:
            return False
        self._head, self._beginning = bytes(self._buffer[: items.end()]), first[0]
        del self._buffer[: items.end()]
        return True

    def _decode(self, objects: bytes) -> tuple[R, ...] | None:
        try:
            return tuple(map(self._record, self._decoder.decode(b"[" + objects + b"]")))
        except msgspec.ValidationError:  # JSON, but no such objects
            raise
        except msgspec.DecodeError:
            return None
