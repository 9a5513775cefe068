"""cgroup v2: where it is mounted, the paths a kubelet gives containers, and the end of a subtree."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flows.demo import layout
from flows.demo.errors import DemoError

if TYPE_CHECKING:
    from flows.demo.layout import Driver, NodeLayout, Runtime

MOUNTINFO = Path("/proc/self/mountinfo")
REMOVAL_SECONDS = 5.0  # a killed process leaves its cgroup within milliseconds; only one stuck in the kernel takes longer

# How a runtime names a container's cgroup under the systemd driver; under cgroupfs it is the bare id (CRI-O
# keeps its prefix).
SCOPE_PREFIX: dict[Runtime, str] = {"containerd": "cri-containerd", "cri-o": "crio", "docker": "docker"}
CGROUPFS_NAME: dict[Runtime, str] = {"containerd": "{id}", "cri-o": "crio-{id}", "docker": "{id}"}


def find_mount(mountinfo: str) -> Path | None:
    """Mount point of the first cgroup2 file system in the text of /proc/PID/mountinfo (proc(5)), None if
    there is none.
    """
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split(" ", 1)[0] == "cgroup2":
            return Path(fields.split()[4].encode().decode("unicode_escape"))
    return None


def root() -> Path:
    """The demo's own cgroup, under this machine's cgroup v2 mount."""
    mount = find_mount(MOUNTINFO.read_text())
    if mount is None:
        raise DemoError("no cgroup v2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified (after mkdir)")
    return mount / layout.NAME


def container_path(node: NodeLayout, qos: str, pod_uid: str, container_id: str) -> Path:
    """Path of a container's cgroup below its node's: kubelet pkg/kubelet/cm, and what each runtime appends."""
    if node.driver == "systemd":
        return _systemd_path(node.runtime, qos, pod_uid, container_id)
    tier = [] if qos == "Guaranteed" else [qos.lower()]
    return Path("kubepods", *tier, f"pod{pod_uid}", CGROUPFS_NAME[node.runtime].format(id=container_id))


def _systemd_path(runtime: Runtime, qos: str, pod_uid: str, container_id: str) -> Path:
    tier = "kubepods" if qos == "Guaranteed" else f"kubepods-{qos.lower()}"
    parents = ["kubepods.slice"] if qos == "Guaranteed" else ["kubepods.slice", f"{tier}.slice"]
    pod = f"{tier}-pod{pod_uid.replace('-', '_')}.slice"
    return Path(*parents, pod, f"{SCOPE_PREFIX[runtime]}-{container_id}.scope")


def unit_path(driver: Driver, unit: str) -> Path:
    """Where a node's own daemon lives: systemd's system.slice, or a bare group where there is no systemd."""
    return Path("system.slice", f"{unit}.service") if driver == "systemd" else Path("system", unit)


def members(path: Path) -> list[int]:
    """Pids in a cgroup and below it; empty when it does not exist."""
    pids: list[int] = []
    for procs in [path / "cgroup.procs", *path.rglob("cgroup.procs")]:
        try:
            pids += [int(line) for line in procs.read_text().split()]
        except FileNotFoundError:
            continue
    return sorted(set(pids))


def kill(path: Path) -> None:
    """SIGKILL everything in a cgroup and below; by cgroup.kill (Linux 5.14), else pid by pid."""
    try:
        (path / "cgroup.kill").write_text("1")
    except FileNotFoundError:
        for pid in members(path):
            _kill_pid(pid)


def _kill_pid(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def remove(path: Path) -> None:
    """Kill what runs in a cgroup subtree and remove it, leaves first; DemoError if something will not die."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while path.exists():
        kill(path)
        if remove_empty(path):
            return
        if time.monotonic() > deadline:
            raise DemoError(f"cgroup {path} is still busy: processes {members(path)} do not end")
        time.sleep(0.01)


def remove_empty(path: Path) -> bool:
    """Remove each directory of the subtree; False as soon as one is still in use."""
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            Path(directory).rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
    return True
