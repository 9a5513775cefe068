"""Where cgroup v2 is mounted, and what an agent is to observe of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.agent.probe.mounts import holding, mounts

if TYPE_CHECKING:
    from pathlib import Path


class CgroupError(Exception):
    """There is no cgroup v2 hierarchy where one is needed; the text says the cure."""


@dataclass(frozen=True, slots=True)
class Subtree:
    """The observed part of the hierarchy: its path, its depth below the mount, and its id, which is its inode."""

    path: Path
    mount: Path
    level: int
    id: int


def find_subtree(asked: Path | None = None) -> Subtree:
    """Find the subtree asked for, or the whole hierarchy. Raises CgroupError."""
    mounted = mounts()
    first = next((mount.path for mount in mounted if mount.type == "cgroup2"), None)
    if first is None:
        raise CgroupError(
            "finding cgroup v2 in /proc/self/mounts: none is mounted; boot with systemd.unified_cgroup_hierarchy=1, "
            "or: mount -t cgroup2 none /sys/fs/cgroup/unified (in a pod: mount the host's /sys/fs/cgroup)"
        )
    path = (asked or first).resolve()
    if not path.is_dir():
        raise CgroupError(f"opening cgroup {path}: no such directory; cgroup v2 is mounted at {first}")
    mount = holding(path, mounted)
    if mount is None or mount.type != "cgroup2":
        raise CgroupError(f"opening cgroup {path}: not on a cgroup v2 file system; cgroup v2 is mounted at {first}")
    return Subtree(path, mount.path, len(path.relative_to(mount.path).parts), os.stat(path).st_ino)  # noqa: PTH116
