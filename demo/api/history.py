"""The ring of past changes: what watches replay and what old pages are rebuilt from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name); namespace is empty for cluster-wide kinds. Sorted as etcd sorts keys."""
ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]

CAPACITY = 10_000
"""Changes kept. A watch cache of the real server holds 100 to 102,400 of each resource; the demo makes some
hundreds of changes a minute, so a client may be away for some ten minutes before it must list again."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write: the object after it (as it was, for DELETED, with the version of the deletion) and before it."""

    version: int
    resource: str
    type: ChangeType
    object: Json
    previous: Json | None

    @property
    def key(self) -> Key:
        """Where the object is stored."""
        metadata = self.object["metadata"]
        return metadata.get("namespace", ""), metadata["name"]


class History:
    """Changes in order of version; `compacted` is the newest version that can no longer be read."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._changes: deque[Change] = deque()
        self._capacity = capacity
        self.compacted = 0

    def append(self, change: Change) -> None:
        """Keep one more change, and forget the oldest when the ring is full."""
        self._changes.append(change)
        if len(self._changes) > self._capacity:
            self.compacted = self._changes.popleft().version

    def compact(self, version: int) -> None:
        """Forget all changes up to and including `version`."""
        while self._changes and self._changes[0].version <= version:
            self._changes.popleft()
        self.compacted = max(self.compacted, version)

    def since(self, version: int) -> Iterator[Change]:
        """Changes newer than `version`, oldest first. The caller checks `compacted` before."""
        for change in self._changes:
            if change.version > version:
                yield change

    def rewind(self, resource: str, objects: Mapping[Key, Json], version: int) -> dict[Key, Json]:
        """The objects of a resource as they were at `version`, from those of now."""
        past = dict(objects)
        for change in reversed(self._changes):
            if change.version <= version:
                break
            if change.resource != resource:
                continue
            if change.previous is None:
                past.pop(change.key, None)
            else:
                past[change.key] = change.previous
        return past
