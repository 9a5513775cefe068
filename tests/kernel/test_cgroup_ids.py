"""Cgroup ids on the real hierarchy: the kernel's handle lookup, its refusal, and what inotify tells."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.agent.enrich.cgroup_tree import CgroupTree

if TYPE_CHECKING:
    from collections.abc import Iterator


def cgroup2() -> Path:
    """Where the kernel has the cgroup2 hierarchy mounted."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines())
    return Path(next(mount[1] for mount in mounts if mount[2] == "cgroup2"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A cgroup of our own."""
    path = cgroup2() / f"flows-test-ids-{os.getpid()}"
    path.mkdir()
    yield path
    for child in sorted(path.rglob("*"), reverse=True):
        if child.is_dir():
            child.rmdir()
    path.rmdir()


def test_an_id_gives_the_path_below_the_root(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    whole, subtree = CgroupTree(cgroup2()), CgroupTree(folder)
    cgroup_id = (folder / "a" / "b").stat().st_ino
    assert whole.path(cgroup_id) == f"/{folder.name}/a/b"
    assert subtree.path(cgroup_id) == "/a/b"
    assert (whole.path(whole.root_id), subtree.path(subtree.root_id)) == ("/", "/")
    whole.close()
    subtree.close()


def test_what_is_outside_of_the_subtree_or_gone_has_no_path(folder: Path) -> None:
    (folder / "inside").mkdir()
    (folder / "gone").mkdir()
    gone = (folder / "gone").stat().st_ino
    tree = CgroupTree(folder / "inside")
    assert tree.path(folder.stat().st_ino) is None
    (folder / "gone").rmdir()
    assert CgroupTree(folder).path(gone) is None
    tree.close()


def test_short_lived_cgroups_are_told_by_inotify(folder: Path) -> None:
    tree = CgroupTree(folder)
    ids = {path: cgroup_id for cgroup_id, path in tree.scan()}
    (folder / "job").mkdir()
    expected = (folder / "job").stat().st_ino
    made, _ = tree.read_changes()
    (folder / "job").rmdir()
    assert (ids["/"], made, tree.read_changes()) == (tree.root_id, [(expected, "/job")], ([], ["/job"]))
    tree.close()
