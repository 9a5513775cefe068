"""A daemon of a node or of the control plane, kept running as systemd would: started again when it dies, stopped on demand."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.demo.node import netns, process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Json = dict[str, Any]
log = logging.getLogger(__name__)

RESTART_SECONDS, RESTART_LIMIT_SECONDS = 1.0, 5.0  # systemd-like: soon, but never a busy loop
GOOD_RUN_SECONDS = 60.0
STOP_SECONDS = 5.0  # an agent detaches its programs, a server ends its streams
LOOK_SECONDS = 0.1  # between looks at whether it listens yet


@dataclass(frozen=True, slots=True)
class Program:
    """What a unit runs, and where one can tell that it serves."""

    name: str  # as `flows demo stop NAME` says it
    netns: str
    cgroup: Path
    argv: list[str]
    address: tuple[str, int]  # accepts connections once it serves
    spec: Path  # written for enter.py
    log: Path


@dataclass(slots=True)
class Unit:
    """Keeps a program running. `changed` is called when its pid or its readiness changes, `started` before it serves."""

    program: Program
    changed: Callable[[], None]
    started: Callable[[], None] = lambda: None
    process: process.Process | None = None
    ready: bool = False
    restarts: int = 0
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def wanted(self) -> bool:
        """Whether it is to run: False between `stop` and `start`."""
        return self._wanted.is_set()

    async def run(self) -> None:
        """Start the program, again whenever it ends, until cancelled; then stop it."""
        self.start()
        delay = RESTART_SECONDS
        while True:
            await self._wanted.wait()
            began = time.monotonic()
            code = await self._run_once()
            if not self.wanted:
                continue
            delay = RESTART_SECONDS if time.monotonic() - began > GOOD_RUN_SECONDS else delay
            log.warning("%s ended with %s, started again in %.0f s", self.program.name, code, delay)
            await self._pause(delay)
            delay = min(delay * 2, RESTART_LIMIT_SECONDS)
            self.restarts += 1

    def start(self) -> None:
        """Let it run; at once, if it was waiting to be started again."""
        self._wanted.set()
        self._hurry.set()

    async def stop(self) -> None:
        """End it (SIGTERM, then SIGKILL) and leave it so until `start`."""
        self._wanted.clear()
        if self.process is None:
            return
        self.process.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            self.process.signal(signal.SIGKILL)
            await self._idle.wait()

    async def _pause(self, seconds: float) -> None:
        self._hurry.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _run_once(self) -> int:
        """Run it to its end; the exit code."""
        try:
            self.process = await process.start(self._spec(), self.program.spec, self.program.log)
        except process.StartError as error:
            log.warning("%s: not started: %s", self.program.name, error)
            return 128
        self._idle.clear()
        self.started()
        self.changed()
        looking = asyncio.create_task(self._look())
        grace = STOP_SECONDS
        try:
            code = await self.process.exited()
            grace = 0.0
        finally:
            looking.cancel()
            self.ready = False
            await self.process.stop(grace)
            self.process = None
            self._idle.set()
            self.changed()
        return code

    def _spec(self) -> Json:
        return {
            "cgroup": os.fspath(self.program.cgroup),
            "netns": os.fspath(netns.path(self.program.netns)),
            "argv": self.program.argv,
            "env": dict(os.environ),
        }

    async def _look(self) -> None:
        """Note when it begins to serve."""
        while not self.ready:
            try:
                (await netns.connect(self.program.netns, *self.program.address)).close()
            except OSError:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            self.ready = True
            self.changed()

    def describe(self) -> Json:
        """What `flows demo status` says about it; pid 0 while it is down."""
        host, port = self.program.address
        return {
            "unit": self.program.name,
            "address": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "pid": self.process.pid if self.process else 0,
            "ready": self.ready,
            "stopped": not self.wanted,
            "restarts": self.restarts,
        }
