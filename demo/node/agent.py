"""The flows agent of a node: started in the node's network, on the node's own cgroup, and started again
when it dies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.demo import layout
from flows.demo.node import cgroups, netns, process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Json = dict[str, Any]
log = logging.getLogger(__name__)

RESTART_SECONDS, RESTART_LIMIT_SECONDS = 1.0, 30.0  # systemd-like: soon, but never a busy loop
GOOD_RUN_SECONDS = 60.0
STOP_SECONDS = 5.0  # to detach its programs


def command(node: layout.NodeLayout, cgroup: Path) -> list[str]:
    """The agent's command line; `cgroup` is the node's, the root of what it sees."""
    return [
        layout.flows_program(),
        "agent",
        *("--cgroup", os.fspath(cgroup)),
        *("--node", node.name),
        *("--cluster", layout.CLUSTER),
        *("--listen", f"{node.address}:{layout.AGENT_PORT}"),
        *("--listen", node.agent_socket),
        *("--kubeconfig", os.fspath(layout.KUBECONFIG)),
        "--allow-unauthenticated",  # the wire is inside this machine, and its nodes are root's
    ]


@dataclass(slots=True)
class NodeAgent:
    """Keeps one agent running. `changed` is called when its pid changes."""

    node: layout.NodeLayout
    cgroup: Path  # of the node
    changed: Callable[[], None]
    process: process.Process | None = None
    restarts: int = 0

    async def run(self) -> None:
        """Start the agent, again whenever it ends, until cancelled; then stop it."""
        delay = RESTART_SECONDS
        while True:
            began = time.monotonic()
            code = await self._run_once()
            delay = RESTART_SECONDS if time.monotonic() - began > GOOD_RUN_SECONDS else delay
            log.warning("%s: agent ended with %s, started again in %.0f s", self.node.name, code, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, RESTART_LIMIT_SECONDS)
            self.restarts += 1

    async def _run_once(self) -> int:
        unit = self.cgroup / cgroups.unit_path(self.node.driver, "flows-agent")
        spec: Json = {
            "cgroup": os.fspath(unit),
            "netns": os.fspath(netns.path(self.node.netns)),
            "argv": command(self.node, self.cgroup),
            "env": dict(os.environ),
        }
        spec_path, output = layout.STATE / f"{self.node.name}.agent.json", layout.agent_log(self.node.name)
        try:
            self.process = await process.start(spec, spec_path, output)
        except process.StartError as error:
            log.warning("%s: agent not started: %s", self.node.name, error)
            return 128
        self.changed()
        grace = STOP_SECONDS
        try:
            code = await self.process.exited()
            grace = 0.0
        finally:
            await self.process.stop(grace)
            self.process = None
            self.changed()
        return code

    def describe(self) -> Json:
        """What `flows demo status` says about the agent; pid 0 while it is down."""
        return {
            "node": self.node.name,
            "address": f"{self.node.address}:{layout.AGENT_PORT}",
            "socket": self.node.agent_socket,
            "pid": self.process.pid if self.process else 0,
            "restarts": self.restarts,
        }
