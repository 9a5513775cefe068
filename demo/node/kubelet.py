"""The kubelet of one node: registers it, and gives each pod scheduled to it a worker."""

from __future__ import annotations

import asyncio
import logging
import platform
from typing import TYPE_CHECKING, Any

from flows.demo.api.clock import now_text
from flows.demo.api.errors import StatusError
from flows.demo.node.image import base_name
from flows.demo.node.pod import NodeParts, PodWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.demo.layout import NodeLayout

Json = dict[str, Any]
log = logging.getLogger(__name__)

LOG_LIMIT_BYTES = 16 << 20  # per container; the access log of 100,000 requests, with which tests compare flows, fits
LOG_CHECK_SECONDS = 60.0
VERSION = "v1.36.2"


def node_object(node: NodeLayout) -> Json:
    """The Node object a kubelet registers."""
    now, capacity = now_text(), {"cpu": "2", "memory": "4Gi", "pods": "110", "ephemeral-storage": "10Gi"}
    version = {"containerd": "2.1.0", "cri-o": "1.36.0", "docker": "28.0.0"}[node.runtime]
    labels = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/zone": node.zone,
    }
    conditions = [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        for kind, status, reason in (
            ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID"),
            ("Ready", "True", "KubeletReady"),
        )
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels},
        "spec": {"podCIDR": node.pod_net, "podCIDRs": [node.pod_net, node.pod_net6]},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": conditions,
            "addresses": [
                {"type": "InternalIP", "address": node.address},
                {"type": "InternalIP", "address": node.address6},
                {"type": "Hostname", "address": node.name},
            ],
            "nodeInfo": {
                "kubeletVersion": VERSION,
                "kernelVersion": platform.release(),
                "osImage": "flows demo",
                "operatingSystem": "linux",
                "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
                "containerRuntimeVersion": f"{node.runtime}://{version}",
            },
        },
    }


class Kubelet:
    """Follows the pods of one node. `changed` is called whenever what `describe` says may differ."""

    def __init__(self, parts: NodeParts, changed: Callable[[], None]) -> None:
        self.parts = parts
        self.changed = changed
        self.workers: dict[str, PodWorker] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve the node until cancelled."""
        storage = self.parts.storage
        self._register()
        unsubscribe = storage.subscribe(self._on_change)
        try:
            for pod in storage.list("pods"):
                self._on_change("pods", "ADDED", pod)
            while True:
                await asyncio.sleep(LOG_CHECK_SECONDS)
                self._bound_logs()
        finally:
            unsubscribe()

    async def stop(self) -> None:
        """Kill every container, for the end of the whole cluster; namespaces and cgroups are the sweep's."""
        for life in self._lives.values():
            life.cancel()
        await asyncio.gather(*self._lives.values(), *self._ends.values(), return_exceptions=True)
        containers = [c for worker in self.workers.values() for c in worker.containers]
        await asyncio.gather(*(c.process.stop(0) for c in containers if c.process))

    def describe(self) -> list[Json]:
        """The node's pods for `flows demo status`."""
        return [worker.describe() for worker in self.workers.values()]

    def worker_of(self, uid: str) -> PodWorker | None:
        """The worker of a pod; None if it is not of this node, or gone."""
        return self.workers.get(uid)

    def signal_image(self, name: str, number: int) -> None:
        """Send a signal to the first process of every container of an image (its base name)."""
        for worker in self.workers.values():
            for container in worker.containers:
                if container.process and base_name(container.spec["image"]) == name:
                    container.process.signal(number)

    def _register(self) -> None:
        node = node_object(self.parts.node)
        if self.parts.storage.get("nodes", None, self.parts.node.name) is None:
            self.parts.storage.create("nodes", node)
        self.parts.storage.update_status("nodes", node)

    def _on_change(self, resource: str, kind: str, pod: Json) -> None:
        if resource != "pods" or pod["spec"].get("nodeName") != self.parts.node.name:
            return
        uid, metadata = pod["metadata"]["uid"], pod["metadata"]
        if kind == "DELETED":
            self._end(uid, 0.0)
        elif metadata.get("deletionTimestamp"):
            self._end(uid, float(metadata.get("deletionGracePeriodSeconds") or 0), pod)
        elif uid in self.workers:
            self.workers[uid].pod = pod
        elif (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}:
            self._begin(uid, pod)
        self.changed()

    def _begin(self, uid: str, pod: Json) -> None:
        worker = PodWorker(pod, self.parts)
        self.workers[uid] = worker
        self._lives[uid] = asyncio.create_task(self._live(worker), name=f"pod {pod['metadata']['name']}")

    async def _live(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            log.exception("%s: pod %s stopped being served", self.parts.node.name, worker.pod["metadata"]["name"])

    def _end(self, uid: str, grace: float, pod: Json | None = None) -> None:
        if uid in self._ends:
            return
        if uid in self.workers:
            self._ends[uid] = asyncio.create_task(self._terminate(self.workers[uid], grace))
        elif pod is not None:
            self._delete(pod)

    async def _terminate(self, worker: PodWorker, grace: float) -> None:
        life = self._lives.pop(worker.uid)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        try:
            await worker.terminate(grace)
        except Exception:
            log.exception("%s: remains of pod %s", self.parts.node.name, worker.pod["metadata"]["name"])
        del self.workers[worker.uid]
        self._delete(worker.pod)
        self._ends.pop(worker.uid, None)
        self.parts.recorder.forget(worker.uid)
        self.changed()

    def _delete(self, pod: Json) -> None:
        """The kubelet's last word on a pod: remove it from the API, unless its name has gone to another."""
        metadata = pod["metadata"]
        stored = self.parts.storage.get("pods", metadata["namespace"], metadata["name"])
        if stored is None or stored["metadata"]["uid"] != metadata["uid"]:
            return
        try:
            self.parts.storage.delete("pods", metadata["namespace"], metadata["name"])
        except StatusError as error:
            log.warning("delete pod %s: %s", metadata["name"], error)

    def _bound_logs(self) -> None:
        """Cut what the containers wrote; they append, so they go on at the start of the emptied file."""
        for worker in self.workers.values():
            for path in worker.logs():
                if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
                    path.write_bytes(b"")
