"""Objects of the demo cluster, in memory: versions, conflicts, deletion and change notices.

Everything runs on one asyncio loop and nothing here blocks or awaits. Objects handed out are the stored ones: **never
change them**; build a new dict (or `copy.deepcopy`) and give it to `update`. What is given to `create` and `update` is
copied, so the caller keeps its own.
"""

from __future__ import annotations

import copy
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from flows.demo.api import admission, errors
from flows.demo.api.addresses import ServiceAddresses
from flows.demo.api.clock import now_text
from flows.demo.api.defaults import apply_defaults
from flows.demo.api.history import CAPACITY, Change, ChangeType, History, Key
from flows.demo.api.kinds import KINDS, Kind, kind_of

Json = dict[str, Any]
Track = Callable[[Json, Json | None], None]
Items = list[tuple[Key, Json]]
Objects = list[Json]
Callback = Callable[[str, ChangeType, Json], None]
SERVICE_CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")
"""Where ClusterIPs come from, first family first: the IPv4 half of kubeadm's default range, and its IPv6 twin."""


class Storage:
    """The one store behind the API server, the controllers and the nodes.

    Methods raise `errors.StatusError`: 404 for an unknown object (`get` returns None instead), 409 for a name that is
    taken or a stale `metadata.resourceVersion`, 422 for an object that breaks a rule, 403 in a terminating namespace.
    """

    def __init__(self, service_cidrs: tuple[str, ...] = SERVICE_CIDRS, *, history_capacity: int = CAPACITY) -> None:
        self.version = 1
        self.history = History(history_capacity)
        self.addresses = ServiceAddresses(service_cidrs)
        self._objects: dict[str, dict[Key, Json]] = {kind.plural: {} for kind in KINDS}
        self._subscribers: list[Callable[[Change], None]] = []
        self._pending: deque[Change] = deque()
        self._publishing = False

    # Reading

    def list(self, resource: str, namespace: str | None = None) -> Objects:
        """All objects of a resource (of one namespace), by namespace and name."""
        return [obj for key, obj in self.items(resource) if namespace is None or key[0] == namespace]

    def items(self, resource: str, version: int | None = None) -> Items:
        """Keys and objects in order, now or as of an older version that is still kept."""
        objects = self._objects[resource]
        if version is not None and version < self.version:
            objects = self.history.rewind(resource, objects, version)
        return sorted(objects.items(), key=lambda item: item[0])

    def get(self, resource: str, namespace: str | None, name: str) -> Json | None:
        """One object, or None. `namespace` is None or empty for cluster-wide kinds."""
        return self._objects[resource].get((namespace or "", name))

    # Writing

    def create(self, resource: str, obj: Json, *, dry_run: bool = False, track: Track | None = None) -> Json:
        """Store a new object: name from `generateName`, defaults, addresses, uid, version. Returns what is stored.

        `track(fresh, old)` may note in `fresh` who wrote it, once it is complete.
        """
        kind = kind_of(resource)
        fresh = self._identified(kind, obj)
        metadata = fresh["metadata"]
        if self._key(fresh) in self._objects[resource]:
            raise errors.already_exists(kind, metadata["name"])
        admission.admit_namespace(kind, fresh, self._objects["namespaces"])
        admission.admit_create(kind, fresh, self.addresses)
        if track:
            track(fresh, None)
        if dry_run:
            return fresh
        self.addresses.claim(fresh)
        return self._commit(kind, "ADDED", fresh, None)

    def update(self, resource: str, obj: Json, *, dry_run: bool = False, track: Track | None = None) -> Json:
        """Replace an object's desired state; `status` stays when it has its own subresource."""
        kind, old = self._current(resource, obj)
        fresh = admission.admit_update(kind, copy.deepcopy(obj), old, self.addresses)
        return self._replace(kind, fresh, old, dry_run=dry_run, track=track)

    def update_status(self, resource: str, obj: Json, *, dry_run: bool = False, track: Track | None = None) -> Json:
        """Replace an object's `status`; all else in `obj` but its name and version is ignored."""
        kind, old = self._current(resource, obj)
        fresh = copy.deepcopy(old)
        fresh["status"] = copy.deepcopy(obj.get("status", {}))
        apply_defaults(resource, fresh)
        return self._replace(kind, fresh, old, dry_run=dry_run, track=track)

    def delete(self, resource: str, namespace: str | None, name: str) -> Json:
        """Remove an object now, whatever grace or finalizers it has: the last step of every deletion."""
        kind = kind_of(resource)
        old = self._existing(kind, namespace, name)
        self.addresses.release(old)
        return self._commit(kind, "DELETED", copy.deepcopy(old), old)

    def request_deletion(self, resource: str, namespace: str | None, name: str, options: Json | None = None) -> tuple[Json, bool]:
        """Delete as a client asks (`DeleteOptions`): pods gracefully, finalizers first. Returns (object, gone)."""
        kind = kind_of(resource)
        old = self._existing(kind, namespace, name)
        fresh = admission.mark_deleted(kind, copy.deepcopy(old), options or {})
        if fresh is None:
            return self.delete(resource, namespace, name), True
        return self._replace(kind, fresh, old), False

    def compact(self, version: int | None = None) -> int:
        """Forget history up to `version`, so that older watches and pages get 410. Returns the oldest one left.

        None means all: every version handed out so far is then too old, as the store moves on by one.
        """
        if version is None:
            self.version += 1
        self.history.compact(self.version if version is None else min(version, self.version))
        return self.history.compacted

    # Notices

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call `callback(resource, type, object)` after each change, in order; returns what ends it."""
        return self.subscribe_changes(lambda change: callback(change.resource, change.type, change.object))

    def subscribe_changes(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """As `subscribe`, with version and previous object."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    # Inside

    @staticmethod
    def _key(obj: Json) -> Key:
        metadata = obj["metadata"]
        return metadata.get("namespace", ""), metadata["name"]

    def _existing(self, kind: Kind, namespace: str | None, name: str) -> Json:
        old = self.get(kind.plural, namespace, name)
        if old is None:
            raise errors.not_found(kind, name)
        return old

    def _current(self, resource: str, obj: Json) -> tuple[Kind, Json]:
        kind = kind_of(resource)
        metadata = obj["metadata"]
        old = self._existing(kind, metadata.get("namespace"), metadata["name"])
        asked = metadata.get("resourceVersion", "")
        stale = asked not in {"", "0", old["metadata"]["resourceVersion"]}
        if stale or metadata.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise errors.modified(kind, metadata["name"])
        return kind, old

    def _identified(self, kind: Kind, obj: Json) -> Json:
        fresh: Json = {"kind": kind.kind, "apiVersion": kind.api_version}
        fresh |= {key: value for key, value in copy.deepcopy(obj).items() if key not in fresh}
        fresh["metadata"] = admission.new_metadata(kind, fresh.get("metadata") or {})
        fresh["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now_text()}
        if kind.generation:
            fresh["metadata"]["generation"] = 1
        return fresh

    def _replace(self, kind: Kind, fresh: Json, old: Json, *, dry_run: bool = False, track: Track | None = None) -> Json:
        if _same(fresh, old):
            return old
        if track:
            track(fresh, old)
        if dry_run:
            return fresh
        self.addresses.release(old)
        self.addresses.claim(fresh)
        if admission.deletion_done(kind, fresh, old):
            self.addresses.release(fresh)
            return self._commit(kind, "DELETED", fresh, old)
        return self._commit(kind, "MODIFIED", fresh, old)

    def _commit(self, kind: Kind, change: ChangeType, obj: Json, previous: Json | None) -> Json:
        self.version += 1
        obj["metadata"] = admission.ordered_metadata({**obj["metadata"], "resourceVersion": str(self.version)})
        if change == "DELETED":
            self._objects[kind.plural].pop(self._key(obj), None)
        else:
            self._objects[kind.plural][self._key(obj)] = obj
        event = Change(self.version, kind.plural, change, obj, previous)
        self.history.append(event)
        self._pending.append(event)
        self._publish()
        return obj

    def _publish(self) -> None:
        if self._publishing:  # a subscriber wrote: its change waits, so that all see the same order
            return
        self._publishing = True
        try:
            while self._pending:
                change = self._pending.popleft()
                for callback in tuple(self._subscribers):
                    callback(change)
        finally:
            self._publishing = False


def _same(fresh: Json, old: Json) -> bool:
    """Whether an update changes nothing; when who wrote a field did so does not count."""

    def essence(obj: Json) -> Json:
        metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
        managed = metadata.pop("managedFields", None) or ()
        writers = [{key: value for key, value in item.items() if key != "time"} for item in managed]
        return {**obj, "metadata": {**metadata, "managedFields": writers}}

    return essence(fresh) == essence(old)
