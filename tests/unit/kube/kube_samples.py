"""What the tests of the Kubernetes client share: a resource, its JSON, and somebody who follows it."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from flows.kube.client import ApiClient
from flows.kube.resource import Changes, Relisted, Resource
from flows.kube.watch import Reflector
from flows.kube.wire import ObjectMeta, Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from api_server import ApiServer

THINGS = "/api/v1/things"


class Thing(Wire):
    metadata: ObjectMeta
    size: int = 0


class ThingRecord(msgspec.Struct, frozen=True):
    uid: str
    name: str
    size: int


def thing_record(thing: Thing) -> ThingRecord:
    return ThingRecord(thing.metadata.uid, thing.metadata.name, thing.size)


RESOURCE = Resource("things", THINGS, Thing, thing_record, (("labelSelector", "a=b"),))


def thing(name: str, version: str = "", size: int = 0) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": version}, "size": size}


def page(version: str, *names: str, token: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version, "continue": token}, "items": [thing(name) for name in names]}


def event(kind: str, name: str, version: str) -> bytes:
    return json.dumps({"type": kind, "object": thing(name, version)}).encode() + b"\n"


def bookmark(version: str, *, initial_end: bool = False) -> bytes:
    annotations = {"k8s.io/initial-events-end": "true"} if initial_end else None
    metadata = {"resourceVersion": version, "annotations": annotations}
    return json.dumps({"type": "BOOKMARK", "object": {"metadata": metadata, "spec": {"containers": None}}}).encode() + b"\n"


def error(code: int, message: str = "no", retry_after: int | None = None) -> bytes:
    details = {"retryAfterSeconds": retry_after} if retry_after is not None else None
    status = {"kind": "Status", "code": code, "message": message, "details": details}
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


class Followed:
    """Names as a reflector's changes leave them."""

    def __init__(self, api: ApiServer, folder: Path, spread: Callable[[int], float] = lambda _: 0.0) -> None:
        self.known: dict[str, str] = {}
        self.told: list[Changes[ThingRecord] | Relisted] = []
        self.pauses: list[float] = []
        self.stopping = threading.Event()
        self.client = ApiClient(api.kubeconfig(folder))
        self.reflector = Reflector(RESOURCE, self.client, self.take, self.stopping, spread)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while not self.stopping.is_set():
            self.pauses.append(self.reflector.step())
            self.stopping.wait(min(self.pauses[-1], 0.02))

    def take(self, batch: Changes[ThingRecord] | Relisted) -> None:
        self.told.append(batch)
        if isinstance(batch, Relisted):
            self.known = {uid: name for uid, name in self.known.items() if uid in batch.uids}
        else:
            self.known.update((one.uid, one.name) for one in batch.records)
            for uid in batch.deleted:
                self.known.pop(uid, None)

    @property
    def names(self) -> list[str]:
        return sorted(self.known.values())

    def stop(self) -> None:
        self.stopping.set()
        self.client.close()
        self.thread.join()


def eventually(condition: Callable[[], Any]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not come about within 10 s")
