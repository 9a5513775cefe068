"""List and watch one resource, for ever: pages, bookmarks, resume, 410 Gone, back-off.

The protocol: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes.
Errors of the server and the network end in the resource's state, never in an exception.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from flows.agent.enrich.kube_objects import Event, decode_status
from flows.agent.enrich.kube_records import Changes, Record, Relisted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from flows.agent.enrich.kube_objects import Codec, Resource
    from flows.agent.enrich.kube_wire import Status

PAGE_LIMIT: Final = 500  # client-go's page size; a page of pods is 2 to 5 MB
# The server ends a watch after between these; spread, so that not all nodes come back at once.
WATCH_SECONDS: Final = (240, 480)
# First and longest pause; doubled at each failure, and varied by half so that nodes do not come in step.
BACKOFF_SECONDS: Final = (0.2, 30.0)
ABSENT_SECONDS: Final = 300.0  # until a resource that the server does not serve (404) is asked for again
# A watch that was good for this long was a good one; those that fail do so at once, or at the connect timeout.
LASTED_SECONDS: Final = 6.0
LINE_LIMIT: Final = 8 << 20  # etcd holds objects of up to 1.5 MB; more than this without a newline is no watch
GONE: Final = 410


class ApiError(Exception):
    """A request failed. code is the HTTP status, 0 when no answer came."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Transport(Protocol):
    """HTTP to the API server. Every method raises ApiError."""

    def read(self, path: str, query: dict[str, str], accept: str) -> bytes:
        """GET a whole body of a 200 answer."""

    def stream(self, path: str, query: dict[str, str], accept: str) -> Iterator[bytes]:
        """GET a body piece by piece as it arrives; returns once the answer is 200, pieces end when the server
        ends.
        """


class Expired(Exception):  # noqa: N818 - the API's word
    """The version to go on from is no longer there: 410 as a status or as an event."""


@dataclass(slots=True)
class ResourceState:
    """How up to date one resource is. since: wall clock seconds, of in_sync's last change."""

    in_sync: bool = False
    since: float = field(default_factory=time.time)
    error: str = "not listed yet"

    def synced(self) -> None:
        """Note that the list is complete and a watch runs."""
        if not self.in_sync:
            self.in_sync, self.since = True, time.time()
        self.error = ""

    def lost(self, error: str) -> None:
        """Note that changes are missed from now on."""
        if self.in_sync:
            self.in_sync, self.since = False, time.time()
        self.error = error


def accept_header(resource: Resource, of_list: bool) -> str:
    """Ask for metadata only where that is all that is needed; servers that cannot, give whole objects."""
    if not resource.metadata_only:
        return "application/json"
    kind = "PartialObjectMetadataList" if of_list else "PartialObjectMetadata"
    return f"application/json;as={kind};g=meta.k8s.io;v=v1,application/json"


def lines(pieces: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Cut a body into batches of whole lines, one batch per piece that ends any. Raises ApiError beyond
    LINE_LIMIT.
    """
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > LINE_LIMIT:
            raise ApiError(0, f"watch: more than {LINE_LIMIT} bytes without a newline")
        if batch := [line for line in whole if line.strip()]:
            yield batch


class Reflector:
    """Keeps one resource listed and watched, and hands changes to sink, in its own thread."""

    def __init__(
        self,
        resource: Resource,
        codec: Codec,
        transport: Transport,
        sink: Callable[[Changes | Relisted], None],
        listing: threading.Lock,
        stopping: threading.Event,
    ) -> None:
        self.state = ResourceState()
        self._resource = resource
        self._codec = codec
        self._transport = transport
        self._sink = sink
        self._listing = listing
        self._stopping = stopping
        self._version = ""
        self._failures = 0

    def run(self) -> None:
        """List and watch until stopping is set."""
        while not self._stopping.is_set():
            self._stopping.wait(self.step())

    def step(self) -> float:
        """List if there is no version to resume from, and watch till it ends; returns the seconds to
        pause.
        """
        try:
            if not self._version:
                self._list()
            if not self._watch():
                return self._idle()
        except Expired:
            self._version = ""
            return self._failed("version expired: listing again")
        except ApiError as error:
            if error.code == 404:
                return self._absent()
            return self._failed(str(error))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._version = ""
            return self._failed(f"{self._resource.name}: the answer is not what the API sends: {error}")
        return 0.0

    def _failed(self, error: str) -> float:
        if not self._stopping.is_set():
            self.state.lost(error)
        return self._pause()

    def _idle(self) -> float:
        """A watch that ends at once, again and again, is from a version that the server never had (a restored
        etcd).
        """
        if self._failures >= 3:
            self._version = ""
        return self._pause()

    def _pause(self) -> float:
        first, longest = BACKOFF_SECONDS
        pause = min(longest, first * (1 << self._failures))
        self._failures = min(self._failures + 1, 16)
        return pause * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, hides nothing

    def _absent(self) -> float:
        """A server without this API (a small one without Jobs) has none of its objects: that is known, not
        missing.
        """
        self._sink(Relisted(self._resource.name, frozenset()))
        self._version = ""
        self.state.synced()
        return ABSENT_SECONDS

    def _list(self) -> None:
        uids: set[str] = set()
        token = ""
        query = {**dict(self._resource.query), "limit": str(PAGE_LIMIT)}
        while True:
            # One page in memory at a time, whatever the number of resources.
            with self._listing:
                token = self._page(query, token, uids)
            if not token or self._stopping.is_set():
                break
        self._sink(Relisted(self._resource.name, frozenset(uids)))

    def _page(self, query: dict[str, str], token: str, uids: set[str]) -> str:
        asked = {**query, "continue": token} if token else query
        try:
            body = self._transport.read(self._resource.path, asked, accept_header(self._resource, of_list=True))
        except ApiError as error:
            if error.code == GONE:
                raise Expired from error
            raise
        metadata, records = self._codec.page(body)
        uids.update(record.uid for record in records)
        self._sink(Changes(self._resource.name, records))
        self._version = "" if metadata.continue_token else metadata.resource_version
        return metadata.continue_token or ""

    def _watch(self) -> bool:
        """Watch until the server ends it; tells whether it gave anything or lasted."""
        query = {
            **dict(self._resource.query),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),  # noqa: S311
        }
        began, took = time.monotonic(), False
        try:
            pieces = self._transport.stream(self._resource.path, query, accept_header(self._resource, of_list=False))
            self.state.synced()
            for batch in lines(pieces):
                self._take([self._codec.event(line) for line in batch])
                took = True
        except ApiError as error:
            if error.code == GONE:
                raise Expired from error
            raise
        finally:
            lasted = time.monotonic() - began > LASTED_SECONDS
            if lasted:  # what failed before this watch says nothing about what ended it
                self._failures = 0
        return took or lasted

    def _take(self, events: list[Event]) -> None:
        """Hand over the changes of a batch in order; a delete ends a run, so that nothing is told out of
        order.
        """
        records: list[Record] = []
        deleted: list[str] = []
        for event in events:
            if event.status is not None:
                self._flush(records, deleted)
                self._raise(event.status)
            if event.type == "DELETED":
                deleted.append(event.uid)
            elif event.record is not None:
                if deleted:
                    self._flush(records, deleted)
                records.append(event.record)
            self._version = event.version or self._version
        self._flush(records, deleted)
        self._failures = 0

    def _flush(self, records: list[Record], deleted: list[str]) -> None:
        if records or deleted:
            self._sink(Changes(self._resource.name, tuple(records), tuple(deleted)))
        records.clear()
        deleted.clear()

    def _raise(self, status: Status) -> None:
        if status.code == GONE:
            raise Expired
        raise ApiError(status.code or 0, f"watch of {self._resource.name}: {status.message or 'the server failed'}")


def error_of(code: int, body: bytes, path: str) -> ApiError:
    """Make the error of an answer other than 200, with what to do about the usual ones."""
    message = decode_status(body).message or f"HTTP status {code}"
    cure = {
        401: "; the token is refused: check the ServiceAccount or the kubeconfig's user",
        403: "; grant get, list and watch on it to the agent's ServiceAccount (the chart's ClusterRole does)",
    }.get(code, "")
    return ApiError(code, f"GET {path}: {message}{cure}")
