"""The mount table: file systems are found wherever they are mounted, and with them the cgroup to observe."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.agent.probe import mounts
from flows.agent.probe.cgroup import CgroupError, find_subtree
from flows.agent.probe.mounts import Mount, holding

UNIFIED = b"tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
BPF = b"sysfs /sys sysfs rw 0 0\ntmpfs /sys/fs/bpf tmpfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n"


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (UNIFIED, [("/sys/fs/cgroup", "tmpfs"), ("/sys/fs/cgroup/unified", "cgroup2")]),
        (b"none /mnt/with\\040space cgroup2 rw 0 0\n", [("/mnt/with space", "cgroup2")]),
        (b"none /mnt/back\\134slash\\011tab ext4 rw 0 0\n", [("/mnt/back\\slash\ttab", "ext4")]),
        ("none /mnt/größe ext4 rw 0 0\n".encode(), [("/mnt/größe", "ext4")]),
        (b"none /mnt/\xff ext4 rw 0 0\n", [("/mnt/\udcff", "ext4")]),
        (b"garbage\n\n", []),
    ],
)
def test_a_mount_table_is_read(table: bytes, found: list[tuple[str, str]]) -> None:
    assert mounts.mounts(table) == [Mount(Path(path), type_) for path, type_ in found]


@pytest.mark.parametrize(
    ("path", "type_"),
    [
        ("/sys/fs/bpf/flows", "bpf"),  # the later mount at one place hides the earlier
        ("/sys/fs/bpf", "bpf"),
        ("/sys/fs/bpf2", "sysfs"),
        ("/home", None),
    ],
)
def test_a_path_is_on_the_deepest_and_latest_mount(path: str, type_: str | None) -> None:
    mount = holding(Path(path), mounts.mounts(BPF))
    assert (mount.type if mount else None) == type_


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mounts, "TABLE", tmp_path / "mounts")
    (tmp_path / "cgroup" / "pods" / "one").mkdir(parents=True)
    (tmp_path / "mounts").write_text(f"none / ext4 rw 0 0\nnone {tmp_path}/cgroup cgroup2 rw 0 0\n")
    return tmp_path


def test_the_subtree_is_the_whole_hierarchy_or_the_part_asked_for(table: Path) -> None:
    whole, part = find_subtree(), find_subtree(table / "cgroup" / "pods" / "one")
    assert (whole.path, whole.mount, whole.level) == (table / "cgroup", table / "cgroup", 0)
    assert (part.mount, part.level) == (table / "cgroup", 2)
    assert part.id == (table / "cgroup" / "pods" / "one").stat().st_ino


def test_what_is_no_cgroup_is_refused_with_where_they_are(table: Path) -> None:
    with pytest.raises(CgroupError, match=r"no such directory; cgroup v2 is mounted at .*/cgroup"):
        find_subtree(table / "cgroup" / "gone")
    with pytest.raises(CgroupError, match="not on a cgroup v2 file system"):
        find_subtree(table)
    (table / "mounts").write_text("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n")
    with pytest.raises(CgroupError, match="none is mounted"):
        find_subtree()
