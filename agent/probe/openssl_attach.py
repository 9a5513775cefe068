"""Uprobes: programs on the functions of one file, for every process that maps it. include/uapi/linux/perf_event.h and bpf.h.

Since Linux 6.6 one link holds a program on many functions; before, each function takes a perf event. The first costs less at each
stop, and detaching takes 40 ms for all together, not 100 ms for each.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from flows.agent.probe import bpf
from flows.agent.probe.elf import Elf
from flows.agent.probe.openssl_library import PROBES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flows.agent.probe.openssl_library import Library

DEVICE = Path("/sys/bus/event_source/devices/uprobe")
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
CLOSE_ON_EXEC = 1 << 3  # PERF_FLAG_FD_CLOEXEC
ATTRIBUTES = struct.Struct("<IIQQQQQIIQQ40x")  # struct perf_event_attr, version 5
NOTHING = bytes.fromhex("b7000000000000009500000000000000")  # r0 = 0; exit
MOST_AT_ONCE = 32  # threads that wait for the kernel

_libc = ctypes.CDLL(None, use_errno=True)


def can_link_many() -> bool:
    """Whether one link can hold many uprobes, as since Linux 6.6; tried out where this very program began."""
    try:
        program = bpf.load_program("flows_nothing", NOTHING, bpf.ProgramType.KPROBE, bpf.AttachType.TRACE_UPROBE_MULTI)
    except bpf.VerifierError:
        return False
    own = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(bpf.link_uprobes(program, _path(own), {Elf(own).entry: 0}, at_return=False))
    except OSError:
        return False
    finally:
        os.close(own)
        os.close(program)
    return True


class Uprobes:
    """Where links come from: each holds its probes, and lets go when it is closed."""

    def __init__(self, programs: dict[str, int], *, many: bool) -> None:
        """programs: descriptors by name, as openssl_source.py lists them; many: they were loaded for links of many functions.

        Raises OSError if the kernel has no uprobes.
        """
        self._programs, self._many = programs, many
        if not many:
            self._type = int((DEVICE / "type").read_text())
            found = re.search(r"config:(\d+)", (DEVICE / "format" / "retprobe").read_text())
            self._return_bit = 1 << int(found[1] if found else 0)
            self._try()

    def _try(self) -> None:
        """Open and close one probe, at where this very program began: tells at once what is not permitted."""
        own = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(self._open(_path(own), Elf(own).entry, 0))
        finally:
            os.close(own)

    def attach(self, descriptor: int, library: Library, functions: Iterable[bytes]) -> list[int]:
        """Links of the programs on some of an open file's functions. Raises OSError."""
        links: list[int] = []
        try:
            for program, offsets, at_return in _wanted(library, functions):
                if self._many:
                    links.append(bpf.link_uprobes(self._programs[program], _path(descriptor), offsets, at_return=at_return))
                    continue
                for offset, cookie in offsets.items():
                    config = self._return_bit if at_return else 0
                    links.append(self._link(self._programs[program], descriptor, offset, config, cookie))
        except OSError:
            detach(links)
            raise
        return links

    def _link(self, program: int, descriptor: int, offset: int, config: int, cookie: int) -> int:
        event = self._open(_path(descriptor), offset, config)
        try:
            return bpf.link_perf_event(program, event, cookie)
        finally:
            os.close(event)  # the link holds it

    def _open(self, path: bytes, offset: int, config: int) -> int:
        name = ctypes.create_string_buffer(path)
        attributes = ATTRIBUTES.pack(self._type, ATTRIBUTES.size, config, 1, 0, 0, 0, 1, 0, ctypes.addressof(name), offset)
        number = PERF_EVENT_OPEN[platform.machine()]
        any_process, first_cpu, no_group = -1, 0, -1  # a uprobe's program runs on every CPU whichever is named
        event = int(_libc.syscall(number, attributes, any_process, first_cpu, no_group, CLOSE_ON_EXEC))
        if event < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return event


def _wanted(library: Library, functions: Iterable[bytes]) -> list[tuple[str, dict[int, int], bool]]:
    """Programs, the file's offsets with their cookies, and whether at the return there."""
    entries: defaultdict[str, dict[int, int]] = defaultdict(dict)
    returns: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for name in functions:
        at_entry, at_return = PROBES[name]
        if at_entry is not None:
            entries[at_entry][library.functions[name]] = 0
        if at_return is not None:
            returns[at_return][library.functions[name]] = library.layout.cookie
    # returns first, so that no call is begun that is not ended
    return [(program, offsets, group is returns) for group in (returns, entries) for program, offsets in group.items()]


def _path(descriptor: int) -> bytes:
    return f"/proc/self/fd/{descriptor}".encode()


def detach(links: list[int]) -> None:
    """Close links: the kernel takes the probes out of every process, and waits until no CPU can be in one, link by link."""
    if links:
        with ThreadPoolExecutor(min(len(links), MOST_AT_ONCE)) as pool:
            list(pool.map(os.close, links))
    links.clear()
