"""The files with OpenSSL or GnuTLS in them that probes are attached to: each once, for as long as somebody has it."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.agent.probe.elf import ElfError
from flows.agent.probe.openssl_attach import detach
from flows.agent.probe.openssl_library import Library, Unseen, examine

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from flows.agent.probe.openssl_attach import Uprobes

ORIGINAL_BYTES = 4  # of any instruction that a breakpoint takes the place of
MAX_EXAMINED = 4_096  # files of which is remembered what they are


@dataclass(slots=True)
class Attached:
    """One file with probes, and who has it: pids and roots of containers."""

    twin: tuple[int, ...]
    descriptor: int  # of the file
    library: Library
    lasting: list[int]  # links on what is attached to all the time
    calls: list[int]  # links on reading and writing; none while they pause
    offset: int
    original: bytes
    holders: set[Hashable] = field(default_factory=set)


class Files:
    """All of them."""

    def __init__(self, uprobes: Uprobes, most: int) -> None:
        """most: files attached to at once."""
        self._uprobes = uprobes
        self._most = most
        self._attached: dict[tuple[int, ...], Attached] = {}
        self._leaving: list[threading.Thread] = []
        self._examined: dict[tuple[int, ...], Library | Unseen | None] = {}
        self._paused = False

    def __len__(self) -> int:
        """How many are attached to."""
        return len(self._attached)

    def add(
        self, holder: Hashable, descriptor: int, is_armed: Callable[[Attached], bool] | None = None
    ) -> Library | Unseen | None:
        """Attach to an open file for a holder, unless that was done; closes it. Raises OSError.

        is_armed tells whether a file's probe is in the holder's memory. Containers of one image see one file under different
        device numbers; probes are of the file below. So a file that looks like an attached one is only attached to if it is not.
        """
        try:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode):
                return None
            twin = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
            known = self._known((seen.st_dev, *twin), is_armed)
            if known is not None:
                known.holders.add(holder)
                return self._examined.get((seen.st_dev, *twin))
            return self._begin(holder, descriptor, (seen.st_dev, *twin))
        finally:
            os.close(descriptor)

    def _known(self, key: tuple[int, ...], is_armed: Callable[[Attached], bool] | None) -> Attached | None:
        if key in self._attached:
            return self._attached[key]
        twins = [file for file in self._attached.values() if file.twin == key[1:]]
        return next((file for file in twins if is_armed is None or is_armed(file)), None)

    def _begin(self, holder: Hashable, descriptor: int, key: tuple[int, ...]) -> Library | Unseen | None:
        found = self._examine(descriptor, key)
        if not isinstance(found, Library):
            return found
        if len(self._attached) >= self._most:
            return Unseen(f"more than {self._most} files with OpenSSL or GnuTLS are in use at once: not seen in plaintext")
        lasting: list[int] = []
        try:
            lasting += self._uprobes.attach(descriptor, found, found.lasting)
            calls = [] if self._paused else self._uprobes.attach(descriptor, found, found.calls)
        except OSError as error:
            detach(lasting)
            self._examined[key] = Unseen(f"attaching probes failed ({error.strerror}): not seen in plaintext")
            return self._examined[key]
        offset = found.functions[(found.lasting or found.calls)[0]]  # where it is looked whether a probe is there already
        original = os.pread(descriptor, ORIGINAL_BYTES, offset)
        self._attached[key] = Attached(key[1:], os.dup(descriptor), found, lasting, calls, offset, original, {holder})
        return found

    def pause(self) -> None:
        """Let go of reading and writing everywhere, also in files to come, and wait until that is done."""
        self._paused = True
        links = [link for file in self._attached.values() for link in file.calls]
        for file in self._attached.values():
            file.calls.clear()
        detach(links)

    def resume(self) -> None:
        """Attach to reading and writing again. Raises OSError, and may be called again."""
        for file in self._attached.values():
            if not file.calls:
                file.calls = self._uprobes.attach(file.descriptor, file.library, file.library.calls)
        self._paused = False

    def _examine(self, descriptor: int, key: tuple[int, ...]) -> Library | Unseen | None:
        if key not in self._examined:
            if len(self._examined) >= MAX_EXAMINED:
                del self._examined[next(iter(self._examined))]
            try:
                self._examined[key] = examine(descriptor)
            except ElfError as error:
                self._examined[key] = Unseen(f"damaged or unusual ELF file ({error}): not looked for TLS")
        return self._examined[key]

    def release(self, holders: set[Hashable]) -> None:
        """These are gone: detach from what nobody has any more."""
        for key, file in list(self._attached.items()):
            file.holders -= holders
            if not file.holders:
                self._let_go(self._attached.pop(key))

    def _let_go(self, file: Attached) -> None:
        """In a thread, for the kernel waits until no CPU can be in a probe."""
        os.close(file.descriptor)
        links = [*file.lasting, *file.calls]
        self._leaving = [thread for thread in self._leaving if thread.is_alive()]
        self._leaving.append(threading.Thread(target=detach, args=(links,), name="detach", daemon=True))
        self._leaving[-1].start()

    def close(self) -> None:
        """Detach from all, and wait until that is done."""
        while self._attached:
            self._let_go(self._attached.popitem()[1])
        for thread in self._leaving:
            thread.join()
