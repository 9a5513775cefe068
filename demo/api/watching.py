"""Watches: replay from a version, then live changes, bookmarks and the end of the time asked for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.demo.api import errors
from flows.demo.api.paging import parse_int, parse_version
from flows.demo.api.targets import is_true

if TYPE_CHECKING:
    from flows.demo.api.history import Change
    from flows.demo.api.kinds import Kind
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
Predicate = Callable[[Json], bool]
MIN_SECONDS = 1800
"""A watch without `timeoutSeconds` lasts this long, or up to twice as long, as with the real server's default."""
BOOKMARK_SECONDS = 60.0
"""About how often the real server sends bookmarks."""
MAX_WAITING = 10_000
"""Events a slow reader may fall behind before its watch is closed: as many as the history keeps."""
_NO_PROGRESS = "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled"
_TEMPLATE: Json = {"metadata": {}, "spec": {"containers": None}}
_EMPTY: dict[str, Json] = {
    "Pod": {"spec": {"containers": None}, "status": {}},
    "Service": {"spec": {}, "status": {"loadBalancer": {}}},
    "Namespace": {"spec": {}, "status": {}},
    "Node": {"spec": {}, "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": {}}},
    "EndpointSlice": {"addressType": "", "endpoints": None, "ports": None},
    "Deployment": {"spec": {"selector": None, "template": _TEMPLATE, "strategy": {}}, "status": {}},
    "ReplicaSet": {"spec": {"selector": None, "template": _TEMPLATE}, "status": {"replicas": 0}},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
}
"""What Go's empty objects look like in a bookmark, for the kinds that are not empty when empty."""


@dataclass(slots=True)
class WatchOptions:
    """What a watch shows and how long."""

    version: int | None
    seconds: float
    bookmarks: bool
    bookmark_seconds: float
    refused: bool = False


def watch_options(query: Mapping[str, str], bookmark_seconds: float) -> WatchOptions:
    """Check the options of a watch. Raises StatusError 400 or 422."""
    match, initial = query.get("resourceVersionMatch", ""), query.get("sendInitialEvents")
    if match and initial is None:
        text = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        raise errors.invalid_options("resourceVersionMatch", text)
    if initial is not None and match != "NotOlderThan":
        text = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise errors.invalid_options("resourceVersionMatch", text)
    if query.get("continue"):
        raise errors.invalid_options("continue", "Forbidden: continue is forbidden for watch")
    seconds = parse_int(query, "timeoutSeconds")
    return WatchOptions(
        version=parse_version(query.get("resourceVersion", "")),
        seconds=seconds if seconds > 0 else MIN_SECONDS * (1 + random.random()),  # noqa: S311
        bookmarks=is_true(query.get("allowWatchBookmarks")),
        bookmark_seconds=bookmark_seconds,
        refused=is_true(initial),
    )


@dataclass(slots=True, eq=False)
class Watch:
    """One client's watch of a kind."""

    storage: Storage
    kind: Kind
    namespace: str | None
    selects: Predicate
    options: WatchOptions
    oldest: int = 0
    """The first version that the watch cache knows; the history may go back further."""
    _waiting: asyncio.Queue[Change | None] = field(default_factory=lambda: asyncio.Queue(MAX_WAITING))
    _overrun: bool = False

    async def events(self) -> AsyncIterator[Json]:
        """Events as `{"type":..., "object":...}` until the watch ends; an ERROR event when it cannot start."""
        if self.options.refused:
            yield _error(errors.internal(_NO_PROGRESS))
            return
        version = self.options.version or 0
        oldest = max(self.oldest, self.storage.history.compacted)
        if version and version < oldest:
            text = f"too old resource version: {version} ({oldest})"
            yield _error(errors.expired(text))
            return
        unsubscribe = self.storage.subscribe_changes(self._take)
        try:
            for event in list(self._initial() if not version else self._replay(version)):
                yield event
            async for event in self._live(max(version, 0)):
                yield event
        finally:
            unsubscribe()

    def close(self) -> None:
        """End the watch, as when its time is over: the client may go on from where it is."""
        self._overrun = True
        if not self._waiting.full():
            self._waiting.put_nowait(None)

    def _take(self, change: Change) -> None:
        if change.resource != self.kind.plural:
            return
        if self._waiting.full():
            self._overrun = True
        else:
            self._waiting.put_nowait(change)

    def _mine(self, obj: Json | None) -> bool:
        if obj is None:
            return False
        in_namespace = not self.namespace or obj["metadata"].get("namespace") == self.namespace
        return in_namespace and self.selects(obj)

    def _initial(self) -> Iterator[Json]:
        for _, obj in self.storage.items(self.kind.plural):
            if self._mine(obj):
                yield {"type": "ADDED", "object": obj}

    def _replay(self, version: int) -> Iterator[Json]:
        for change in self.storage.history.since(version):
            if change.resource == self.kind.plural and (event := self._event(change)):
                yield event

    def _event(self, change: Change) -> Json | None:
        """A change as this watch sees it: an object that leaves the selection is DELETED, one that enters ADDED."""
        after = change.type != "DELETED" and self._mine(change.object)
        before = self._mine(change.previous)
        if after:
            return {"type": "MODIFIED" if before else "ADDED", "object": change.object}
        if not before or change.previous is None:
            return None
        gone = change.object if change.type == "DELETED" else _at_version(change.previous, change.version)
        return {"type": "DELETED", "object": gone}

    async def _live(self, after: int) -> AsyncIterator[Json]:
        loop = asyncio.get_running_loop()
        end, bookmark = loop.time() + self.options.seconds, loop.time() + self.options.bookmark_seconds
        while not self._overrun and (now := loop.time()) < end:
            try:
                # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with the result.
                async with asyncio.timeout(max(0.001, min(end, bookmark) - now)):
                    change = await self._waiting.get()
            except TimeoutError:
                if loop.time() >= bookmark:
                    bookmark += self.options.bookmark_seconds
                    if self.options.bookmarks and self.storage.version >= after:
                        yield self._bookmark()
                continue
            if change and change.version > after and (event := self._event(change)):
                yield event

    def _bookmark(self) -> Json:
        metadata = {"resourceVersion": str(self.storage.version)}
        head = {"kind": self.kind.kind, "apiVersion": self.kind.api_version, "metadata": metadata}
        return {"type": "BOOKMARK", "object": head | _EMPTY.get(self.kind.kind, {})}


def _at_version(obj: Json, version: int) -> Json:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}


def _error(error: errors.StatusError) -> Json:
    return {"type": "ERROR", "object": error.body()}
