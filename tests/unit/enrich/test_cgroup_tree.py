"""The tree of cgroups on an ordinary directory: scanning and following; the handle lookup needs the real
thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flows.agent.enrich.cgroup_tree import CgroupTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cgroups(tmp_path: Path) -> Iterator[CgroupTree]:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "cgroup.procs").touch()
    tree = CgroupTree(tmp_path)
    yield tree
    tree.close()


def test_scan_lists_every_directory_by_its_inode(cgroups: CgroupTree, tmp_path: Path) -> None:
    expected = {("/" + str(path.relative_to(tmp_path))).removesuffix("/."): path for path in (tmp_path / "a", tmp_path / "a/b")}
    found = {path: inode for inode, path in cgroups.scan()}
    assert found.pop("/") == cgroups.root_id
    assert found == {path: real.stat().st_ino for path, real in expected.items()}


def test_new_cgroups_are_told_with_what_was_made_in_them(cgroups: CgroupTree, tmp_path: Path) -> None:
    list(cgroups.scan())
    (tmp_path / "a" / "c" / "d").mkdir(parents=True)
    made, gone = cgroups.read_changes()
    assert ({path for _, path in made}, gone) == ({"/a/c", "/a/c/d"}, [])
    (tmp_path / "a" / "c" / "d" / "e").mkdir()
    assert [path for _, path in cgroups.read_changes()[0]] == ["/a/c/d/e"]


def test_removed_cgroups_are_told(cgroups: CgroupTree, tmp_path: Path) -> None:
    list(cgroups.scan())
    (tmp_path / "a" / "b").rmdir()
    assert cgroups.read_changes() == ([], ["/a/b"])


def test_nothing_happened_is_nothing(cgroups: CgroupTree) -> None:
    assert cgroups.read_changes() == ([], [])


def test_unknown_id_has_no_path(cgroups: CgroupTree) -> None:
    assert cgroups.path(1 << 60) is None


def test_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        CgroupTree(tmp_path / "absent")
