"""Keep one resource listed and watched, for ever: streamed lists, pages, bookmarks, resume, 410 Gone, back-off.

The protocol: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes.
Errors of the server and the network end in the resource's state, never in an exception.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import msgspec

from flows.kube.backoff import Backoff
from flows.kube.errors import ApiError
from flows.kube.lines import gathered, lines
from flows.kube.listing import ListReader
from flows.kube.resource import Changes, Codec, Event, Keyed, Relisted, Resource
from flows.kube.state import ResourceState

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from flows.kube.wire import Status

R = TypeVar("R", bound=Keyed)

PAGE_LIMIT: Final = 500  # client-go's page size, for servers that read etcd
# The server ends a watch after between these; spread, so that not all nodes come back at once.
WATCH_SECONDS: Final = (240, 480)
SILENCE_SECONDS: Final = 600.0  # a watch may say nothing until the server ends it; TCP keepalive tells a dead one
LIST_SILENCE_SECONDS: Final = 30.0
ABSENT_SECONDS: Final = 300.0  # until a resource that the server does not serve (404) is asked for again
# A watch that was good for this long was a good one; those that fail do so at once, or at the connect timeout.
LASTED_SECONDS: Final = 6.0
FRUITLESS: Final = 3  # attempts from one version before it is given up
GONE: Final = 410
TIMEOUT: Final = 504  # also for a version that the server has not reached: `Too large resource version`
NOT_SERVED: Final = 404
# How servers that cannot stream a list say so: an unknown parameter, a feature switched off, an etcd too old for it.
REFUSALS: Final = frozenset({400, 405, 406, 422, 500})
ANY_VERSION: Final = "0"


class Transport(Protocol):
    """HTTP to the API server. Raises ApiError, also while pieces arrive."""

    def stream(self, path: str, query: dict[str, str], accept: str, silence: float) -> Iterator[bytes]:
        """GET a body piece by piece as it arrives; returns once the answer is 200, pieces end when the server
        ends. silence: seconds without a piece after which it is given up.
        """


class Expired(Exception):  # noqa: N818 - the API's word
    """The version to go on from is no longer there: 410 as a status or as an event."""


class Refused(Exception):  # noqa: N818 - the API's word
    """The server does not stream lists."""


class Reflector(Generic[R]):
    """Keeps one resource listed and watched, and hands changes to sink, in the thread that calls run().

    What loads the server least comes first: a watch from the last version, as long as the server remembers it; then all
    objects as events of a watch (`sendInitialEvents`), from the server's memory and object by object; then a list from
    its memory (`resourceVersion=0`, later one no older than what is known); then pages out of etcd.

    stopping ends run() at the next pause; close the client, too, to end a watch. spread: seconds over which clients
    share a new list of so many objects, when the server has forgotten everybody's version at once.
    """

    def __init__(
        self,
        resource: Resource[R],
        api: Transport,
        sink: Callable[[Changes[R] | Relisted], None],
        stopping: threading.Event,
        spread: Callable[[int], float] = lambda _: 0.0,
    ) -> None:
        self.state = ResourceState()
        self.count = 0  # objects in the last list
        self._resource = resource
        self._codec = Codec(resource)
        self._api = api
        self._sink = sink
        self._stopping = stopping
        self._spread = spread
        self._backoff = Backoff()
        self._version = ""  # to watch from; empty: all objects are needed
        self._at_least = ANY_VERSION  # how old a list may be; empty: as of now
        self._streams = True
        self._initial: set[str] | None = None  # uids so far, while a list is streamed

    def run(self) -> None:
        """List and watch until stopping is set."""
        while not self._stopping.is_set():
            self._stopping.wait(self.step())

    def step(self) -> float:
        """Watch till it ends, or list if there is no version to watch from; returns the seconds to pause."""
        try:
            if self._version or self._streams:
                return 0.0 if self._watch() else self._idle()
            self._list()
        except Refused:
            self._streams = False
        except Expired:
            return self._expired()
        except ApiError as error:
            return self._error(error)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return self._garbled(error)
        return 0.0

    def _error(self, error: ApiError) -> float:
        if error.code == NOT_SERVED:
            return self._absent()
        if error.code == TIMEOUT and not self._version:
            self._at_least = ""
        return self._failed(str(error), error.retry_after)

    def _failed(self, error: str, retry_after: float | None = None) -> float:
        if not self._stopping.is_set():
            self.state.lost(error)
        return self._backoff.pause(retry_after)

    def _expired(self) -> float:
        """List anew, no older than what is known: names never go back in time, and the server's memory will do."""
        self._at_least, self._version = self._version, ""
        pause = self._failed("version expired: listing again")
        return max(pause, random.uniform(0.0, self._spread(self.count)))  # noqa: S311 - spreads load, hides nothing

    def _garbled(self, error: Exception) -> float:
        """A watch is taken up again from before what cannot be read; if that is what the server has, list."""
        if self._backoff.failures >= FRUITLESS:
            self._version = self._at_least = ""
        return self._failed(f"{self._resource.name}: the answer is not what the API sends: {error}")

    def _idle(self) -> float:
        """A watch that ends at once, again and again, is from a version that the server never had (a restored
        etcd).
        """
        if self._backoff.failures >= FRUITLESS:
            self._version = self._at_least = ""
        return self._backoff.pause()

    def _absent(self) -> float:
        """A server without this API (a small one without Jobs) has none of its objects: that is known, not
        missing.
        """
        self._complete(set(), "")
        self.state.synced()
        return ABSENT_SECONDS

    def _complete(self, uids: set[str], version: str) -> None:
        """Everything there is has been told."""
        self.count, self._version, self._initial, self._streams = len(uids), version, None, True
        self._sink(Relisted(self._resource.name, frozenset(uids)))

    def _list(self) -> None:
        uids: set[str] = set()
        reader = self._page(self._list_query(), uids)
        while (token := reader.metadata.continue_token) and not self._stopping.is_set():
            reader = self._page({"limit": str(PAGE_LIMIT), "continue": token}, uids)
        self._complete(uids, reader.metadata.resource_version)

    def _list_query(self) -> dict[str, str]:
        """A limit sends some servers to etcd unless any version will do; then it is for those without a cache."""
        if self._at_least == ANY_VERSION:
            return {"limit": str(PAGE_LIMIT), "resourceVersion": ANY_VERSION}
        if self._at_least:
            return {"resourceVersion": self._at_least, "resourceVersionMatch": "NotOlderThan"}
        return {"limit": str(PAGE_LIMIT)}

    def _page(self, query: dict[str, str], uids: set[str]) -> ListReader[R]:
        reader = ListReader(self._resource)
        asked = {**dict(self._resource.query), **query}
        try:
            pieces = self._api.stream(self._resource.path, asked, self._resource.accept(of_list=True), LIST_SILENCE_SECONDS)
            for records in reader.read(pieces):
                uids.update(record.uid for record in records)
                self._sink(Changes(self._resource.name, records))
        except ApiError as error:
            if error.code == GONE:
                raise Expired from error
            raise
        return reader

    def _watch_query(self) -> dict[str, str]:
        query = {
            **dict(self._resource.query),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),  # noqa: S311
        }
        if self._version:
            return {**query, "resourceVersion": self._version}
        initial = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        return {**query, **initial, **({"resourceVersion": self._at_least} if self._at_least else {})}

    def _watch(self) -> bool:
        """Watch until the server ends it; tells whether it gave anything or lasted."""
        self._initial = None if self._version else set()
        began, took = time.monotonic(), False
        try:
            pieces = self._api.stream(
                self._resource.path, self._watch_query(), self._resource.accept(of_list=False), SILENCE_SECONDS
            )
            if self._initial is None:
                self.state.synced()
            for batch in lines(gathered(pieces, self._linger)):
                self._take([self._codec.event(line) for line in batch])
                took = True
        except ApiError as error:
            self._sort_out(error)
            raise
        finally:
            lasted = time.monotonic() - began > LASTED_SECONDS
            if lasted:  # what failed before this watch says nothing about what ended it
                self._backoff.succeeded()
        if self._initial is not None:  # all events and no end of the first ones: a server that ignores the parameter
            raise Refused
        return took or lasted

    def _linger(self, seconds: float) -> None:
        if self._initial is None:  # a list is wanted as fast as it comes
            self._stopping.wait(seconds)

    def _sort_out(self, error: ApiError) -> None:
        if error.code == GONE:
            raise Expired from error
        if self._initial is not None and error.code in REFUSALS:
            raise Refused from error

    def _take(self, events: list[Event[R]]) -> None:
        """Hand over the changes of a batch in order; a delete ends a run, so that nothing is told out of
        order.
        """
        records: list[R] = []
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
            self._note(event, records, deleted)
        self._flush(records, deleted)
        if self._initial is None:
            self._backoff.succeeded()

    def _note(self, event: Event[R], records: list[R], deleted: list[str]) -> None:
        """Keep the version to go on from; of a streamed list that is only known at its end."""
        if self._initial is None:
            self._version = event.version or self._version
        elif event.type == "DELETED":
            self._initial.discard(event.uid)
        elif event.record is not None:
            self._initial.add(event.uid)
        elif event.initial_end:
            self._flush(records, deleted)
            self._complete(self._initial, event.version)
            self.state.synced()

    def _flush(self, records: list[R], deleted: list[str]) -> None:
        if records or deleted:
            self._sink(Changes(self._resource.name, tuple(records), tuple(deleted)))
        records.clear()
        deleted.clear()

    def _raise(self, status: Status) -> None:
        if status.code == GONE:
            raise Expired
        what = f"watch of {self._resource.name}: {status.message or 'the server failed'}"
        raise ApiError(status.code or 0, what, status.retry_after)
