"""Mounts: which file systems are mounted where, from a mount table (proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TABLE = Path("/proc/self/mounts")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system."""

    path: Path
    type: str


def mounts(table: bytes | None = None) -> list[Mount]:
    """Those of a table, in its order; of this process's, if none is given."""
    rows = (line.split(b" ") for line in (TABLE.read_bytes() if table is None else table).splitlines())
    return [Mount(Path(_unescape(row[1])), os.fsdecode(row[2])) for row in rows if len(row) > 2]


def holding(path: Path, mounted: list[Mount]) -> Mount | None:
    """The one on which a path is: the deepest, and of several there the last, which hides the others."""
    inside = [mount for mount in mounted if path.is_relative_to(mount.path)]
    return max(reversed(inside), key=lambda mount: len(mount.path.parts), default=None)


def _unescape(field: bytes) -> str:
    """White space and backslashes are in octal; other bytes are as they are."""
    return os.fsdecode(field.decode("unicode_escape").encode("latin-1"))
