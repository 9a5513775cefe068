"""Which processes have OpenSSL or GnuTLS: looked for in those that are new or whose mappings changed, and let go with them."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flows.agent.probe.openssl_library import Library, Unseen, is_seen, other_library
from flows.agent.probe.openssl_processes import (
    FOLDERS,
    NAMES,
    READ,
    Mapping,
    armed,
    comm,
    mappings,
    memory_size,
    open_in_root,
    root_of,
    tls_mappings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from flows.agent.probe.openssl_files import Attached, Files

UNREADABLE = Unseen("its files cannot be opened (CAP_SYS_PTRACE is missing?): not looked for TLS")
REPLACED = Unseen("its library was removed or replaced after it started; restart it: not seen in plaintext")


@dataclass(frozen=True, slots=True)
class UnseenProcess:
    """A process whose TLS, or some of it, is not seen in plaintext."""

    pid: int
    comm: str
    path: str
    reason: str


@dataclass(slots=True)
class _Process:
    """What is known of a process since its mappings changed last."""

    size: bytes = b""
    root: Hashable = None
    unseen: list[UnseenProcess] = field(default_factory=list)


class Discovery:
    """Keeps what is attached to in step with the processes that there are."""

    def __init__(self, files: Files) -> None:
        """files: where what is found is attached to."""
        self._files = files
        self._processes: dict[int, _Process] = {}
        self._roots: dict[Hashable, set[int]] = {}

    def unseen(self) -> list[UnseenProcess]:
        """All processes whose TLS is not seen, as of the last look."""
        return [unseen for process in self._processes.values() for unseen in process.unseen]

    def follow(self, pids: set[int]) -> set[int]:
        """These are the processes now. Returns those that are gone."""
        gone = self._processes.keys() - pids
        if gone:
            self._forget(gone)
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                self._look_if_changed(pid)
        return gone

    def _forget(self, pids: set[int]) -> None:
        holders: set[Hashable] = set(pids)
        for pid in pids:
            root = self._processes.pop(pid).root
            of_root = self._roots.get(root)
            if of_root is None:
                continue
            of_root.discard(pid)
            if not of_root:
                del self._roots[root]
                holders.add(root)
        self._files.release(holders)

    def _look_if_changed(self, pid: int) -> None:
        size = memory_size(pid)
        known = self._processes.setdefault(pid, _Process())
        if size in (known.size, b"0"):  # 0: a kernel thread, or a process that has ended
            return
        known.size, known.unseen = size, []
        try:
            if known.root is None:
                known.root = root_of(pid)
                self._look_at_root(pid, known.root)
            known.unseen = list(self._look_at(pid))
        except PermissionError:
            known.unseen = [UnseenProcess(pid, comm(pid), "", UNREADABLE.reason)]

    def _look_at_root(self, pid: int, root: Hashable) -> None:
        """A container's first process: libraries where distributions put them, before anybody maps them."""
        of_root = self._roots.setdefault(root, set())
        of_root.add(pid)
        if len(of_root) > 1:
            return
        with _root_folder(pid) as folder:
            for path in (f"{place}/{name}" for place in FOLDERS for name in NAMES):
                with contextlib.suppress(OSError):  # what is mapped is found anyway, and says what hinders
                    self._files.add(root, open_in_root(folder, path.encode()))

    def _look_at(self, pid: int) -> Iterator[UnseenProcess]:
        """The executable, which may have one built in, and libraries by their names."""
        executable = f"/proc/{pid}/exe"
        text = Path(f"/proc/{pid}/maps").read_bytes()
        path = os.readlink(executable)  # noqa: PTH115 - may name what is gone
        own = next((mapping for mapping in mappings(text) if mapping.path == os.fsencode(path)), None)
        found = self._files.add(pid, os.open(executable, READ), _is_armed(pid, own) if own else None)
        if isinstance(found, Unseen):
            yield UnseenProcess(pid, comm(pid), path, found.reason)
        mapped = tls_mappings(text)
        if not mapped:
            return
        with _root_folder(pid) as folder:
            for mapping in mapped:
                found = self._look_at_mapping(pid, folder, mapping)
                if isinstance(found, Unseen):
                    yield UnseenProcess(pid, comm(pid), os.fsdecode(mapping.path), found.reason)

    def _look_at_mapping(self, pid: int, folder: int, mapping: Mapping) -> Library | Unseen | None:
        if not is_seen(mapping.name):
            return other_library(mapping.name)
        try:
            return self._files.add(pid, open_in_root(folder, mapping.path), _is_armed(pid, mapping))
        except FileNotFoundError:
            return REPLACED


def _is_armed(pid: int, mapping: Mapping) -> Callable[[Attached], bool]:
    return lambda file: armed(pid, mapping, file.offset, file.original)


@contextlib.contextmanager
def _root_folder(pid: int) -> Iterator[int]:
    """A descriptor of a process's root directory. Raises OSError."""
    folder = os.open(f"/proc/{pid}/root/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)
