"""The mount table: cgroup v2 is found wherever it is mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.agent.probe.cgroup import mounts_of_cgroup2


@pytest.mark.parametrize(
    ("table", "mounts"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", ["/sys/fs/cgroup"]),
        ("tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n", ["/sys/fs/cgroup/unified"]),
        ("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n", []),
        ("none /mnt/with\\040space cgroup2 rw 0 0\n", ["/mnt/with space"]),
        ("a /x cgroup2 rw 0 0\nb /y cgroup2 rw 0 0\n", ["/x", "/y"]),
        ("garbage\n\n", []),
    ],
)
def test_mounts(table: str, mounts: list[str]) -> None:
    assert mounts_of_cgroup2(table) == [Path(mount) for mount in mounts]
