"""Where cgroup v2 is mounted, and what an agent is to observe of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
CGROUP2_MAGIC = 0x63677270  # include/uapi/linux/magic.h


class CgroupError(Exception):
    """There is no cgroup v2 hierarchy where one is needed; the text says the cure."""


@dataclass(frozen=True, slots=True)
class Subtree:
    """The observed part of the hierarchy: its path, its depth below the mount, and its id, which is its inode."""

    path: Path
    mount: Path
    level: int
    id: int


def _unescape(field: str) -> str:
    return field.encode().decode("unicode_escape")


def mounts_of_cgroup2(table: str) -> list[Path]:
    """Mount points of cgroup2 file systems in a mount table (proc(5), octal escapes), in order."""
    rows = (line.split() for line in table.splitlines())
    return [Path(_unescape(row[1])) for row in rows if len(row) > 2 and row[2] == "cgroup2"]


def find_subtree(asked: Path | None = None) -> Subtree:
    """Find the subtree asked for, or the whole hierarchy. Raises CgroupError."""
    mounts = mounts_of_cgroup2(MOUNTS.read_text())
    if not mounts:
        raise CgroupError(
            "finding cgroup v2 in /proc/self/mounts: none is mounted; boot with systemd.unified_cgroup_hierarchy=1, "
            "or: mount -t cgroup2 none /sys/fs/cgroup/unified (in a pod: mount the host's /sys/fs/cgroup)"
        )
    path = (asked or mounts[0]).resolve()
    if not path.is_dir():
        raise CgroupError(f"opening cgroup {path}: no such directory; cgroup v2 is mounted at {mounts[0]}")
    inside = [mount for mount in mounts if path.is_relative_to(mount)]
    if not inside:
        raise CgroupError(f"opening cgroup {path}: not on a cgroup v2 file system; cgroup v2 is mounted at {mounts[0]}")
    mount = max(inside, key=lambda candidate: len(candidate.parts))
    return Subtree(path, mount, len(path.relative_to(mount).parts), os.stat(path).st_ino)  # noqa: PTH116
