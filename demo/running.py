"""The demo's control plane as a process: its pid file, whether it lives, start and end, and the lock around both."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.demo import layout
from flows.demo.errors import DemoError
from flows.demo.node import cgroups
from flows.demo.node.process import command

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SECONDS = 8.0  # for the agents to detach; what is left then is killed with its cgroup


def start_time(pid: int) -> str:
    """When a process began, in clock ticks since boot (proc(5), field 22); empty if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def control_plane() -> int | None:
    """Pid of the running control plane, None if there is none."""
    try:
        noted = json.loads(layout.PID_FILE.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return noted["pid"] if start_time(noted["pid"]) == noted["start"] else None


@contextmanager
def locked() -> Iterator[int]:
    """Only one `up` or `down` at a time; yields the lock's descriptor. The lock is on a folder that `down`
    may remove.
    """
    while True:
        layout.RUN.mkdir(parents=True, exist_ok=True)
        fd = os.open(layout.RUN, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not layout.RUN.exists() or layout.RUN.stat().st_ino != os.fstat(fd).st_ino:
                continue
            yield fd
            return
        finally:
            os.close(fd)


def start(*, agents: bool, lock: int) -> None:
    """Start the control plane, detached, in its own cgroup.

    It inherits the lock until it is in that cgroup, so that a `down` can never run before it can be found.
    """
    layout.STATE.mkdir(mode=0o700)
    cgroup = cgroups.root() / "control-plane"
    try:
        cgroup.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"cannot make the cgroup {cgroup}: {error.strerror}; mount cgroup v2 writable") from None
    argv = [sys.executable, "-m", "flows.demo.daemon", *([] if agents else ["--no-agents"])]
    spec = layout.STATE / "daemon.spec.json"
    spec.write_text(json.dumps({"cgroup": os.fspath(cgroup), "argv": argv, "env": dict(os.environ), "close": [lock]}))
    with layout.DAEMON_LOG.open("ab") as log:
        daemon = subprocess.Popen(
            command(spec),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
        )
    # With its start time, because a pid alone may be another process tomorrow.
    layout.PID_FILE.write_text(json.dumps({"pid": daemon.pid, "start": start_time(daemon.pid)}))


def stop() -> None:
    """End the control plane and wait for it; a sweep removes what it leaves."""
    pid = control_plane()
    if pid is None:
        return
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        select.select([pidfd], [], [], STOP_SECONDS)
    finally:
        os.close(pidfd)
