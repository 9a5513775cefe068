"""Events about pods, as the kubelet reports them (`kubectl describe` shows them)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from flows.demo.api.clock import now_text
from flows.demo.api.errors import StatusError

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]


def pod_event(pod: Json, node: str, kind: str, reason: str, message: str) -> Json:
    """An Event object about a pod; `kind` is Normal or Warning."""
    metadata, now = pod["metadata"], now_text()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{secrets.token_hex(8)}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "reason": reason,
        "message": message,
        "type": kind,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "eventTime": None,
        "reportingComponent": "kubelet",
        "reportingInstance": node,
        "source": {"component": "kubelet", "host": node},
    }


class Recorder:
    """Writes a pod's events; a repeated one counts up instead of filling the store."""

    def __init__(self, storage: Storage, node: str) -> None:
        self.storage = storage
        self.node = node
        self._seen: dict[tuple[str, str, str], str] = {}

    def record(self, pod: Json, kind: str, reason: str, message: str) -> None:
        key = (pod["metadata"]["uid"], reason, message)
        namespace = pod["metadata"]["namespace"]
        old = self.storage.get("events", namespace, self._seen[key]) if key in self._seen else None
        try:
            if old is None:
                made = self.storage.create("events", pod_event(pod, self.node, kind, reason, message))
                self._seen[key] = made["metadata"]["name"]
            else:
                self.storage.update("events", {**old, "count": old["count"] + 1, "lastTimestamp": now_text()})
        except StatusError:
            return  # its namespace is being deleted: nobody will read it

    def forget(self, uid: str) -> None:
        """Drop what is remembered about a pod that is gone."""
        self._seen = {key: name for key, name in self._seen.items() if key[0] != uid}
