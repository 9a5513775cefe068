"""One pod's life on its node: network, volumes, containers, restarts, status, end."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.demo import layout
from flows.demo.api.clock import now_text
from flows.demo.api.defaults import qos_class
from flows.demo.api.errors import StatusError
from flows.demo.node import cgroups, containerspec, netns, podnet, volumes
from flows.demo.node.container import ContainerRunner
from flows.demo.node.podspec import MissingObjectError, PodContext
from flows.demo.node.podstatus import Container, phase, pod_status, problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flows.demo.api.storage import Storage
    from flows.demo.node.events import Recorder
    from flows.demo.node.podnet import AddressPool, PodNetwork

Json = dict[str, Any]

MISSING_RETRY_SECONDS = 0.5  # how often a volume's ConfigMap or Secret that does not exist yet is looked for


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What every pod of a node shares."""

    node: layout.NodeLayout
    storage: Storage
    pool: AddressPool
    recorder: Recorder
    cgroup: Path  # of the node
    token: Callable[[str, str], dict[str, str]]  # (namespace, service account) -> its files


class PodWorker:
    """Runs one pod: `run` is its life, `terminate` its end. What happens is written to the Pod's status."""

    def __init__(self, pod: Json, parts: NodeParts) -> None:
        self.pod = pod
        self.parts = parts
        self.uid: str = pod["metadata"]["uid"]
        self.spec: Json = pod["spec"]
        self.directory: Path = layout.PODS / self.uid
        self.network: PodNetwork | None = None
        self.addresses: list[str] = []
        self.volumes: dict[str, Path] = {}
        self.qos = qos_class(self.spec)
        self.containers = [Container(c, init=True) for c in self.spec.get("initContainers") or []]
        self.containers += [Container(c) for c in self.spec["containers"]]

    # Life

    async def run(self) -> None:
        """Bring the pod up and keep it up, until all its containers ended for good."""
        await self._connect()
        self.publish()
        await self._make_volumes()
        for container in self.containers:
            if container.init and not await ContainerRunner(container, self).initialize():
                return
        async with asyncio.TaskGroup() as group:
            for container in self.containers:
                if not container.init:
                    group.create_task(ContainerRunner(container, self).supervise())
        await self._disconnect()

    async def terminate(self, grace: float) -> None:
        """End every container (SIGTERM, then SIGKILL) and give back all that the pod had."""
        running = [c.process for c in self.containers if c.process]
        for container in self.containers:
            if container.running:
                self.event("Normal", "Killing", f"Stopping container {container.name}")
            container.ready = False
        await asyncio.gather(*(p.stop(grace) for p in running))
        await self._disconnect()
        await asyncio.to_thread(self._remove_files)

    def _remove_files(self) -> None:
        cgroups.remove(self._cgroup("x").parent)
        shutil.rmtree(self.directory, ignore_errors=True)

    # Network and volumes

    @property
    def netns(self) -> str:
        """The network namespace the pod's processes are in."""
        return self.network.netns if self.network else self.parts.node.netns

    async def _connect(self) -> None:
        node, metadata = self.parts.node, self.pod["metadata"]
        if self.spec.get("hostNetwork"):
            self.addresses = [node.address, node.address6]
            return
        host = self.parts.pool.take()
        name = podnet.name_netns(metadata["namespace"], metadata["name"], self.uid)
        self.network = podnet.PodNetwork(node, name, f"veth{self.uid[:8]}", host)
        await _to_end(podnet.attach, self.network)
        self.addresses = self.network.addresses

    async def _disconnect(self) -> None:
        if self.network:
            network, self.network = self.network, None
            await _to_end(podnet.detach, network)
            self.parts.pool.free(network.host)

    def _context(self) -> PodContext:
        return PodContext(self.pod, self.addresses, self.parts.node, self.parts.storage.get)

    async def _make_volumes(self) -> None:
        """Make the volumes, waiting for what does not exist yet."""
        for container in self.containers:
            container.state = {"waiting": {"reason": "ContainerCreating"}}
        account = self.spec.get("serviceAccountName", "default")
        ctx = self._context()
        while True:
            try:
                self.volumes = volumes.prepare(self.directory / "volumes", ctx, lambda: self.parts.token(ctx.namespace, account))
            except MissingObjectError as missing:
                self.event("Warning", "FailedMount", f"MountVolume.SetUp failed: {missing}")
                self.publish()
                await asyncio.sleep(MISSING_RETRY_SECONDS)
            else:
                return

    # What a container's runner asks for

    def enter_spec(self, container: Container) -> Json:
        """What enter.py is told, under a new container id."""
        base = self.base(container)
        base.mkdir(parents=True, exist_ok=True)
        resolved = containerspec.resolve(container.spec, self._context(), self.volumes, base)
        container.id = secrets.token_hex(32)
        return {**self.place(container), **resolved}

    def place(self, container: Container) -> Json:
        return {"cgroup": os.fspath(self._cgroup(container.id)), "netns": os.fspath(netns.path(self.netns))}

    def _cgroup(self, container_id: str) -> Path:
        below = cgroups.container_path(self.parts.node, self.qos, self.uid, container_id)
        return self.parts.cgroup / below

    def base(self, container: Container) -> Path:
        return self.directory / container.name / "root"

    def log_path(self, container: Container) -> Path:
        metadata = self.pod["metadata"]
        folder = f"{metadata['namespace']}_{metadata['name']}_{self.uid}"
        return layout.LOGS / folder / f"{container.name}.log"

    def logs(self) -> list[Path]:
        """The files its containers write to."""
        return [self.log_path(container) for container in self.containers]

    # The API

    def event(self, kind: str, reason: str, message: str) -> None:
        self.parts.recorder.record(self.pod, kind, reason, message)

    def publish(self) -> None:
        """Write the status, unless the pod is gone from the API."""
        metadata = self.pod["metadata"]
        stored = self.parts.storage.get("pods", metadata["namespace"], metadata["name"])
        if stored is None or stored["metadata"]["uid"] != self.uid:
            return
        status = pod_status(self.containers, stored, self.parts.node, self.addresses, self.qos, now_text())
        try:
            self.parts.storage.update_status("pods", {**stored, "status": status})
        except StatusError:
            return  # deleted by a subscriber of an earlier change

    def describe(self) -> Json:
        """What `flows demo status` says about the pod; pid and cgroup are those of its first container."""
        metadata, main = self.pod["metadata"], [c for c in self.containers if not c.init]
        rows = [self._describe_container(c) for c in main if c.id]
        first = rows[0] if rows else {"pid": 0, "cgroup": ""}
        return {
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": self.uid,
            "node": self.parts.node.name,
            "ip": self.addresses[0] if self.addresses else "",
            "ips": self.addresses,
            "hostNetwork": bool(self.spec.get("hostNetwork")),
            "phase": phase(self.containers, self.spec.get("restartPolicy", "Always")),
            "ready": all(c.ready for c in main),
            "restarts": sum(c.restarts for c in main),
            "waiting": next((c.state["waiting"]["reason"] for c in self.containers if "waiting" in c.state), ""),
            "problem": next(filter(None, map(problem, self.containers)), ""),
            "netns": self.netns if self.network or self.spec.get("hostNetwork") else "",
            "pid": first["pid"],
            "cgroup": first["cgroup"],
            "containers": rows,
        }

    def _describe_container(self, container: Container) -> Json:
        pid = container.process.pid if container.process else 0
        cgroup = os.fspath(self._cgroup(container.id))
        return {"name": container.name, "id": container.id, "pid": pid, "cgroup": cgroup}


async def _to_end(act: Callable[[PodNetwork], None], network: PodNetwork) -> None:
    """Do work on the network in a thread; a cancelled caller still waits, so that what follows does not
    meet it half done.
    """
    work = asyncio.ensure_future(asyncio.to_thread(act, network))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
