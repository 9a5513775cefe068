"""One container's life: start, probes, end, restart with back-off, as the kubelet does it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from flows.demo.api.clock import now_text
from flows.demo.node import cgroups, probe, process
from flows.demo.node.containerspec import UnknownImageError
from flows.demo.node.podspec import MissingObjectError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from flows.demo.node.pod import PodWorker
    from flows.demo.node.podstatus import Container
    from flows.demo.node.process import Process

Json = dict[str, Any]

# The back-off of a kubelet with ReduceDefaultCrashLoopBackOffDecay and crashLoopBackOff.maxContainerRestartPeriod 5s (at once,
# then 1 s, doubled up to the limit): what is killed on purpose in a demo comes back while somebody is still looking.
BACKOFF_SECONDS, BACKOFF_LIMIT_SECONDS, BACKOFF_FORGET_SECONDS = 1.0, 5.0, 600.0
MISSING_RETRY_SECONDS = 1.0  # how often a ConfigMap or Secret that does not exist yet is looked for


def may_restart(policy: str, code: int, *, init: bool) -> bool:
    """Whether a container that ended with `code` is started again."""
    if init and code == 0:
        return False
    return policy == "Always" or (policy == "OnFailure" and code != 0)


class ContainerRunner:
    """Runs one container of a pod until it ended for good."""

    def __init__(self, container: Container, pod: PodWorker) -> None:
        self.container = container
        self.pod = pod

    async def initialize(self) -> bool:
        """Run an init container until it succeeds; False if it failed and may not be run again."""
        await self.supervise()
        return self.container.exit_code == 0

    async def supervise(self) -> None:
        """Run the container again and again, as the restart policy says."""
        delay = 0.0
        policy = self.pod.spec.get("restartPolicy", "Always")
        while True:
            began = time.monotonic()
            code = await self._run_once()
            if not may_restart(policy, code, init=self.container.init):
                self.pod.publish()
                return
            if time.monotonic() - began > BACKOFF_FORGET_SECONDS:
                delay = 0.0
            await self._back_off(delay)
            delay = min(max(delay * 2, BACKOFF_SECONDS), BACKOFF_LIMIT_SECONDS)

    async def _back_off(self, delay: float) -> None:
        container = self.container
        container.last = container.state
        if delay:
            why = f"back-off {delay:.0f}s restarting failed container={container.name}"
            container.state = {"waiting": {"reason": "CrashLoopBackOff", "message": why}}
            self.pod.event("Warning", "BackOff", why)
        self.pod.publish()
        await asyncio.sleep(delay)
        container.restarts += 1

    async def _run_once(self) -> int:
        """Start the container and wait for its end; the exit code."""
        container = self.container
        spec = await self._resolve()
        started = now_text()
        try:
            container.process = await process.start(
                spec, self.pod.base(container).parent / "spec.json", self.pod.log_path(container)
            )
        except process.StartError as error:
            self.pod.event("Warning", "Failed", f"Error: {error}")
            container.state = self._ended(128, started, "StartError", str(error))
            return 128
        container.state = {"running": {"startedAt": started}}
        container.ready = "readinessProbe" not in container.spec and not container.init
        self.pod.event("Normal", "Started", f"Started container {container.name}")
        self.pod.publish()
        code = await self._probe_until_end(container.process, spec)
        await container.process.stop(0)
        container.process, container.ready = None, False
        container.state = self._ended(code, started, "Completed" if code == 0 else "Error")
        return code

    async def _probe_until_end(self, running: Process, spec: Json) -> int:
        probes = [asyncio.create_task(coroutine) for coroutine in self._probes(running, spec)]
        try:
            return await running.exited()
        finally:
            for task in probes:
                task.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    async def _resolve(self) -> Json:
        """The enter.py spec: waits for objects that do not exist yet, and forever for an image nobody has."""
        while True:
            try:
                return self.pod.enter_spec(self.container)
            except MissingObjectError as missing:
                self._wait("CreateContainerConfigError", str(missing))
                await asyncio.sleep(MISSING_RETRY_SECONDS)
            except UnknownImageError as unknown:
                self._wait("ErrImagePull", str(unknown))
                image = self.container.spec["image"]
                self._wait("ImagePullBackOff", f'Back-off pulling image "{image}": {unknown}')
                await asyncio.Event().wait()

    def _wait(self, reason: str, message: str) -> None:
        self.container.state = {"waiting": {"reason": reason, "message": message}}
        self.pod.event("Warning", "Failed", message)
        self.pod.publish()

    def _ended(self, code: int, started: str, reason: str, message: str = "") -> Json:
        """A terminated state."""
        state = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": now_text()}
        if message:
            state["message"] = message
        return {"terminated": {**state, "containerID": self.container.id}}

    def _probes(self, running: Process, spec: Json) -> list[Coroutine[Any, Any, None]]:
        """What probes the container while it runs."""

        def exec_spec(command: list[str]) -> Json:
            inside = {"attach": running.pid, "argv": command, "env": spec["env"]}
            return {**self.pod.place(self.container), **inside}

        reports = {"readinessProbe": self._report_readiness, "livenessProbe": self._report_liveness}
        node, wanted = self.pod.parts.node, self.container.spec
        target = probe.Target(node.netns, self.pod.addresses[0], wanted, exec_spec)
        return [probe.watch(wanted[key], target, report) for key, report in reports.items() if key in wanted]

    def _report_readiness(self, healthy: bool, why: str) -> None:
        self.container.ready = healthy
        if why:
            self.pod.event("Warning", "Unhealthy", f"Readiness probe failed: {why}")
        self.pod.publish()

    def _report_liveness(self, healthy: bool, why: str) -> None:
        if not healthy and self.container.process:
            self.pod.event("Warning", "Unhealthy", f"Liveness probe failed: {why}")
            cgroups.kill(self.container.process.cgroup)
