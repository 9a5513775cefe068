"""A container's first process: started through enter.py, watched without polling, ended with grace."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.demo.node import cgroups

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
ENTER = Path(__file__).with_name("enter.py")
START_SECONDS = 20.0  # from fork to exec takes about 30 ms; this bounds a machine that hangs


class StartError(Exception):
    """A program could not be started; the message is the runtime's."""


@dataclass(slots=True)
class Process:
    """A running program and the cgroup that holds it and all it starts."""

    popen: subprocess.Popen[bytes]
    cgroup: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    async def exited(self) -> int:
        """Wait for the end; exit status as a shell gives it (128 + signal)."""
        pidfd = os.pidfd_open(self.pid)
        try:
            await _readable(pidfd)
        finally:
            os.close(pidfd)
        code = self.popen.wait()
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """Send a signal to the first process; nothing if it has ended."""
        self.popen.send_signal(number)

    async def stop(self, grace: float) -> None:
        """SIGTERM, then after `grace` seconds SIGKILL to all that is left in the cgroup, which is then removed."""
        if grace > 0 and self.popen.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace):
                    await self.exited()
            except TimeoutError:
                pass  # it had its chance
        await asyncio.to_thread(cgroups.remove, self.cgroup)
        self.popen.wait()


def command(spec_path: Path | str) -> list[str]:
    """Command line that carries out a spec of enter.py; -I -S leave out all that makes Python start slowly."""
    return [sys.executable, "-I", "-S", os.fspath(ENTER), os.fspath(spec_path)]


async def start(spec: Json, spec_path: Path, log: Path) -> Process:
    """Start what an enter.py spec describes; StartError if it does not come to exec."""
    process, reader = _spawn(spec, spec_path, log)
    try:
        async with asyncio.timeout(START_SECONDS):
            await _readable(reader)
        problem = os.read(reader, 4096)
    except TimeoutError:
        problem = f"not started after {START_SECONDS:.0f} s".encode()
    finally:
        os.close(reader)
    if problem:
        await process.stop(0)
        raise StartError(problem.decode(errors="replace"))
    return process


def _spawn(spec: Json, spec_path: Path, log: Path) -> tuple[Process, int]:
    """Fork; the process, and a descriptor that ends when it has come to exec or says why it has not."""
    cgroup = Path(spec["cgroup"])
    cgroup.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    try:
        spec_path.write_text(json.dumps({**spec, "error_fd": writer}))
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command(spec_path),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(writer,),
                start_new_session=True,
            )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return Process(popen, cgroup), reader


async def run(spec: Json) -> tuple[int, str]:
    """Run an enter.py spec to its end (an exec probe); exit code and output. Cancellation kills it."""
    with memory_file(json.dumps(spec)) as fd:
        child = await asyncio.create_subprocess_exec(
            *command(f"/proc/self/fd/{fd}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(fd,),
        )
    try:
        output, _ = await child.communicate()
    except asyncio.CancelledError:
        child.kill()
        await child.wait()
        raise
    return child.returncode or 0, output.decode(errors="replace")


@contextmanager
def memory_file(text: str) -> Iterator[int]:
    """A file that exists only as a descriptor, for a spec that must not be left behind."""
    fd = os.memfd_create("flows-demo-spec", 0)
    try:
        os.write(fd, text.encode())
        yield fd
    finally:
        os.close(fd)


async def _readable(fd: int) -> None:
    """Wait until a file descriptor can be read (or its other end closed)."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    loop.add_reader(fd, wake)
    try:
        await done
    finally:
        loop.remove_reader(fd)
