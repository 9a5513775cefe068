"""cgroup paths: where the mount is found and what kubelets and runtimes name things."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.demo.layout import NODES
from flows.demo.node import cgroups

if TYPE_CHECKING:
    from flows.demo.layout import Driver, NodeLayout

UID = "0a1b2c3d-1111-2222-3333-444455556666"
SYSTEMD_UID = "0a1b2c3d_1111_2222_3333_444455556666"
ID = "ab" * 32
BURSTABLE, BEST_EFFORT = (f"kubepods.slice/kubepods-{tier}.slice" for tier in ("burstable", "besteffort"))
CONTAINERD, CRIO, DOCKER = NODES

PATHS = [
    (
        CONTAINERD,
        "Burstable",
        f"{BURSTABLE}/kubepods-burstable-pod{SYSTEMD_UID}.slice/cri-containerd-{ID}.scope",
    ),
    (
        CONTAINERD,
        "Guaranteed",
        f"kubepods.slice/kubepods-pod{SYSTEMD_UID}.slice/cri-containerd-{ID}.scope",
    ),
    (
        CRIO,
        "BestEffort",
        f"{BEST_EFFORT}/kubepods-besteffort-pod{SYSTEMD_UID}.slice/crio-{ID}.scope",
    ),
    (DOCKER, "Burstable", f"kubepods/burstable/pod{UID}/{ID}"),
    (DOCKER, "Guaranteed", f"kubepods/pod{UID}/{ID}"),
]


@pytest.mark.parametrize(("node", "qos", "path"), PATHS)
def test_container_path_is_the_one_kubelet_and_runtime_make(node: NodeLayout, qos: str, path: str) -> None:
    assert cgroups.container_path(node, qos, UID, ID) == Path(path)


HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
MOUNTS = [
    ("30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate", "/sys/fs/cgroup"),
    (HYBRID, "/sys/fs/cgroup/unified"),
    (r"41 31 0:38 / /mnt/a\040b rw - cgroup2 cgroup2 rw", "/mnt/a b"),
    ("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", None),
    ("", None),
]


@pytest.mark.parametrize(("mountinfo", "path"), MOUNTS)
def test_mount_is_found_in_the_mount_table(mountinfo: str, path: str | None) -> None:
    assert cgroups.find_mount(mountinfo) == (Path(path) if path else None)


@given(st.text())
def test_any_mount_table_is_read_without_a_crash(text: str) -> None:
    cgroups.find_mount(text)


@pytest.mark.parametrize(
    ("driver", "path"),
    [("systemd", "system.slice/flows-agent.service"), ("cgroupfs", "system/flows-agent")],
)
def test_node_daemon_has_a_unit_where_systemd_is(driver: Driver, path: str) -> None:
    assert cgroups.unit_path(driver, "flows-agent") == Path(path)


def test_removing_a_tree_takes_the_leaves_first(tmp_path: Path) -> None:
    root = tmp_path / "flows-demo"
    (root / "node-1" / "kubepods").mkdir(parents=True)
    (root / "node-2").mkdir()
    # An ordinary folder has no cgroup.kill, and no process to kill.
    cgroups.remove_empty(root)
    assert not root.exists()
