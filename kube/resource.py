"""A kind to list and watch: how it is asked for, how lines of a watch are decoded, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import msgspec

from flows.kube.wire import BOOKMARK, STATUS, WATCH_LINE, Status

if TYPE_CHECKING:
    from collections.abc import Callable

OBJECT_EVENTS: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})


class Keyed(Protocol):
    """What is kept of an object: anything that has the object's uid."""

    @property
    def uid(self) -> str:
        """metadata.uid."""


R_co = TypeVar("R_co", bound=Keyed, covariant=True)


class Changes(msgspec.Struct, Generic[R_co], frozen=True):
    """Objects of one resource that are new or changed, and the uids of deleted ones."""

    resource: str
    records: tuple[R_co, ...] = ()
    deleted: tuple[str, ...] = ()


class Relisted(msgspec.Struct, frozen=True):
    """A list is complete: what is not among uids is gone."""

    resource: str
    uids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Event(Generic[R_co]):
    """One line of a watch. record is set for ADDED, MODIFIED, DELETED; status for ERROR; version for all but ERROR.

    initial_end: the bookmark after which all objects have been sent that there were at first.
    """

    type: str
    version: str = ""
    uid: str = ""
    record: R_co | None = None
    status: Status | None = None
    initial_end: bool = False


@dataclass(frozen=True, slots=True)
class Resource(Generic[R_co]):
    """One kind to list and watch, of path, with fixed parameters (selectors) in query.

    kind: a Wire struct with a `metadata` that is an ObjectMeta; record makes of one what is kept. metadata_only: ask the
    server for PartialObjectMetadata.
    """

    name: str
    path: str
    kind: type[Any]
    record: Callable[[Any], R_co]
    query: tuple[tuple[str, str], ...] = ()
    metadata_only: bool = False

    def accept(self, of_list: bool) -> str:
        """Ask for metadata only where that is all that is needed; servers that cannot, give whole objects."""
        if not self.metadata_only:
            return "application/json"
        kind = "PartialObjectMetadataList" if of_list else "PartialObjectMetadata"
        return f"application/json;as={kind};g=meta.k8s.io;v=v1,application/json"


class Codec(Generic[R_co]):
    """Decodes watch lines of one resource. Raises msgspec.DecodeError on what is not such JSON."""

    def __init__(self, resource: Resource[R_co]) -> None:
        self._object: msgspec.json.Decoder[Any] = msgspec.json.Decoder(resource.kind)
        self._record = resource.record

    def event(self, line: bytes) -> Event[R_co]:
        """Decode one line of a watch; unknown types of event are given without an object."""
        event = WATCH_LINE.decode(line)
        if event.type == "ERROR":
            return Event("ERROR", status=STATUS.decode(event.object))
        if event.type == "BOOKMARK":
            meta = BOOKMARK.decode(event.object).metadata
            ended = meta.annotations is not None and meta.annotations.initial_events_end == "true"
            return Event("BOOKMARK", meta.resource_version, initial_end=ended)
        if event.type not in OBJECT_EVENTS:
            return Event(event.type)
        item = self._object.decode(event.object)
        return Event(event.type, item.metadata.resource_version, item.metadata.uid, self._record(item))
