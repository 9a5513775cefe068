"""Events that controllers leave for `kubectl describe`, and their end."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.demo.api.clock import now_text, parse_time
from flows.demo.api.errors import StatusError

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
log = logging.getLogger(__name__)
LIFETIME = timedelta(hours=1)
"""How long the real server keeps events."""


def record_event(storage: Storage, obj: Json, reason: str, message: str, component: str, *, type_: str = "Normal") -> None:
    """Note what happened to an object; the same event again only counts up."""
    target = _reference(obj)
    namespace = target.get("namespace") or "default"
    for event in storage.list("events", namespace):
        same = (event["involvedObject"].get("uid"), event["reason"], event["message"]) == (
            target["uid"],
            reason,
            message,
        )
        if same:
            storage.update("events", {**event, "count": event["count"] + 1, "lastTimestamp": now_text()})
            return
    name = f"{target['name']}.{secrets.token_hex(8)}"
    event = {
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": target,
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "firstTimestamp": now_text(),
        "lastTimestamp": now_text(),
        "count": 1,
        "type": type_,
        "eventTime": None,
        "reportingComponent": component,
        "reportingInstance": "",
    }
    try:
        storage.create("events", event)
    except StatusError as error:  # a namespace that goes away takes no more events
        log.debug("event %s of %s: %s", reason, target["name"], error)


def _reference(obj: Json) -> Json:
    metadata = obj["metadata"]
    kept = ("namespace", "name", "uid", "resourceVersion")
    place = {key: metadata[key] for key in kept if key in metadata}
    return {"kind": obj["kind"], "apiVersion": obj["apiVersion"], **place}


def expire_events(storage: Storage) -> None:
    """Delete events that are older than their lifetime."""
    oldest = datetime.now(UTC) - LIFETIME
    for event in storage.list("events"):
        moment = parse_time(event.get("lastTimestamp") or event["metadata"]["creationTimestamp"])
        if moment is not None and moment < oldest:
            storage.delete("events", event["metadata"]["namespace"], event["metadata"]["name"])
