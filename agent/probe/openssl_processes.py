"""Which processes there are below a cgroup, and which files with TLS in them they have: from cgroup and proc file systems."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.agent.probe.openssl_library import is_seen, other_library

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")
OPENAT2 = 437  # on all machines
RESOLVE_IN_ROOT = 0x10  # include/uapi/linux/openat2.h: absolute links and .. stay below the container's root
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO in a library's place must not stop us

# Where distributions put them: looked at once for each root of a container, so that a short-lived curl is seen from its
# first call on.
FOLDERS = (
    "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib", "lib", "lib64", "usr/local/lib",
    "usr/local/lib64", "opt/conda/lib",
)  # fmt: skip
NAMES = ("libssl.so.3", "libssl.so.1.1", "libgnutls.so.30")

_MAPPING = re.compile(rb"^([0-9a-f]+)-[0-9a-f]+ ..x. ([0-9a-f]+) \S+ [1-9]\d* +(/.*)$", re.MULTILINE)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Mapping:
    """Code of a file in a process's memory: where it starts there, and at which offset of the file."""

    start: int
    offset: int
    path: bytes

    @property
    def name(self) -> str:
        """The file's name."""
        return os.fsdecode(self.path.removesuffix(b" (deleted)").rsplit(b"/", 1)[-1])


def mappings(text: bytes) -> list[Mapping]:
    """The code mappings of files, from the text of /proc/PID/maps."""
    return [Mapping(int(start, 16), int(offset, 16), path) for start, offset, path in _MAPPING.findall(text)]


def tls_mappings(text: bytes) -> list[Mapping]:
    """Of them, those whose names tell of a TLS library."""
    return [mapping for mapping in mappings(text) if is_seen(mapping.name) or other_library(mapping.name)]


def processes(folder: str) -> Iterator[tuple[int, int]]:
    """(pid, cgroup id) of every process in a cgroup and below. What vanishes meanwhile is left out."""
    pending = [(folder, Path(folder).stat().st_ino)]
    while pending:
        path, cgroup_id = pending.pop()
        # suppressed: it is gone, or a threaded cgroup, whose processes its parent lists
        with contextlib.suppress(OSError), open(f"{path}/cgroup.procs", "rb") as listed:  # noqa: PTH123 - hundreds of times
            yield from ((int(pid), cgroup_id) for pid in listed.read().split() if pid != b"0")
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            pending.extend((entry.path, entry.inode()) for entry in entries if entry.is_dir(follow_symlinks=False))


def memory_size(pid: int) -> bytes:
    """The size of a process's address space: another one says that its mappings changed. Raises OSError."""
    with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:  # noqa: PTH123 - as above
        return file.read(32).split(b" ", 1)[0]


def root_of(pid: int) -> tuple[int, int, str]:
    """What processes of one container have in common: root directory and mount namespace. Raises OSError."""
    seen = os.stat(f"/proc/{pid}/root/")  # noqa: PTH116 - the slash follows the link
    return seen.st_dev, seen.st_ino, os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115


def open_in_root(root: int, path: bytes) -> int:
    """A regular file, by its path as a container has it; root: descriptor of its root directory. Raises OSError."""
    name = ctypes.create_string_buffer(path)
    how = struct.pack("<QQQ", READ, 0, RESOLVE_IN_ROOT)
    descriptor = int(_libc.syscall(OPENAT2, root, name, how, len(how)))
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor


def armed(pid: int, mapping: Mapping, offset: int, original: bytes) -> bool:
    """Whether a probe is in a process's code at a file's offset already: then it differs from the file there."""
    with (PROC / str(pid) / "mem").open("rb", buffering=0) as memory:
        memory.seek(mapping.start + offset - mapping.offset)
        return memory.read(len(original)) != original


def comm(pid: int) -> str:
    """A process's name; empty if it is gone."""
    try:
        return (PROC / str(pid) / "comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return ""
