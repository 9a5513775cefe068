"""Cgroup id to path: the kernel's own handle lookup, a scan where that is refused, and inotify for what comes
and goes.

A cgroup's id is the kernfs node id that bpf_skb_cgroup_id() gives: the inode number of its directory on
64-bit kernels (include/linux/kernfs.h). fs/kernfs/mount.c decodes a file handle of type FILEID_KERNFS made of
just that id.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FILEID_KERNFS: Final = 0xFE  # include/linux/exportfs.h
IN_CREATE: Final = 0x100  # include/uapi/linux/inotify.h
IN_DELETE: Final = 0x200
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x01000000
IN_ISDIR: Final = 0x40000000
_EVENT: Final = struct.Struct("=iIII")
_HANDLE: Final = struct.Struct("=IiQ")
_libc = ctypes.CDLL(None, use_errno=True)


class CgroupTree:
    """The cgroup hierarchy below root. Paths are relative to root and start with `/`; the root itself is `/`.

    path() may be called by one thread and read_changes()/scan() by another: neither touches the other's
    state. Raises OSError (with the path) when root cannot be opened.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(Path(root).resolve())
        self._root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._inotify = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watched: dict[int, str] = {}
        self.root_id = os.fstat(self._root_fd).st_ino

    def close(self) -> None:
        """Give the file descriptors back; no method may be called afterwards."""
        for fd in (self._root_fd, self._inotify):
            if fd >= 0:
                os.close(fd)
        self._root_fd = self._inotify = -1

    def fileno(self) -> int:
        """Readable when read_changes() has something; -1 when the kernel refuses inotify (scan() then is the
        way).
        """
        return int(self._inotify)

    def path(self, cgroup_id: int) -> str | None:
        """Look an id up: None when it is gone or outside of root. Needs CAP_DAC_READ_SEARCH, else it
        scans.
        """
        try:
            absolute = self._open_by_id(cgroup_id)
        except PermissionError:
            return self._search(cgroup_id)
        except OSError:
            return None
        return self._relative(absolute)

    def scan(self) -> Iterator[tuple[int, str]]:
        """List every cgroup as (id, path), parents first, and watch each for changes."""
        waiting = ["/"]
        while waiting:
            path = waiting.pop()
            yield from self._enter(path)
            with suppress(OSError), os.scandir(self._absolute(path)) as entries:
                waiting += [_join(path, entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]

    def read_changes(self) -> tuple[list[tuple[int, str]], list[str]]:
        """Take what happened since the last call: (id, path) of new cgroups, and paths of removed ones. Never
        blocks.
        """
        made: list[tuple[int, str]] = []
        gone: list[str] = []
        with suppress(BlockingIOError):
            while data := os.read(self._inotify, 65536):
                for mask, path in self._events(data):
                    if mask & IN_Q_OVERFLOW:
                        made += self.scan()
                    elif mask & IN_CREATE:
                        made += self._below(path)
                    elif mask & IN_DELETE:
                        gone.append(path)
        return made, gone

    def _events(self, data: bytes) -> Iterator[tuple[int, str]]:
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, offset)
            name = data[offset + _EVENT.size :][:length].rstrip(b"\0")
            offset += _EVENT.size + length
            if mask & IN_IGNORED:
                self._watched.pop(watch, None)
            elif mask & IN_Q_OVERFLOW:
                yield mask, "/"
            elif mask & IN_ISDIR and watch in self._watched:
                yield mask, _join(self._watched[watch], os.fsdecode(name))

    def _below(self, path: str) -> Iterator[tuple[int, str]]:
        """A new cgroup and those already made in it before it was watched."""
        yield from self._enter(path)
        with suppress(OSError), os.scandir(self._absolute(path)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._below(_join(path, entry.name))

    def _enter(self, path: str) -> Iterator[tuple[int, str]]:
        """Watch before looking, so that nothing falls between; a refusal (max_user_watches) costs only the
        early notice.
        """
        absolute = self._absolute(path)
        if self._inotify >= 0:
            watch = _libc.inotify_add_watch(self._inotify, os.fsencode(absolute), IN_CREATE | IN_DELETE | IN_ONLYDIR)
            if watch >= 0:
                self._watched[watch] = path
        with suppress(OSError):
            yield os.stat(absolute).st_ino, path  # noqa: PTH116 - Path costs four times the call, per cgroup

    def _open_by_id(self, cgroup_id: int) -> str:
        handle = ctypes.create_string_buffer(_HANDLE.pack(8, FILEID_KERNFS, cgroup_id), _HANDLE.size)
        fd = _libc.open_by_handle_at(self._root_fd, handle, os.O_PATH | os.O_CLOEXEC)
        if fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), f"cgroup id {cgroup_id}")
        try:
            return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
        finally:
            os.close(fd)

    def _search(self, cgroup_id: int) -> str | None:
        """Look at every cgroup, without watching it: scan() belongs to another thread."""
        for folder, _, _ in os.walk(self.root):
            with suppress(OSError):
                if os.stat(folder).st_ino == cgroup_id:  # noqa: PTH116
                    return self._relative(folder)
        return None

    def _relative(self, absolute: str) -> str | None:
        if absolute == self.root:
            return "/"
        prefix = self.root.rstrip("/") + "/"
        return "/" + absolute.removeprefix(prefix) if absolute.startswith(prefix) else None

    def _absolute(self, path: str) -> str:
        return self.root + path if path != "/" else self.root


def _join(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}"
