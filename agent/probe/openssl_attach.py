"""Perf uprobes: programs on the functions of one file, for every process that maps it. include/uapi/linux/perf_event.h."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from flows.agent.probe import bpf
from flows.agent.probe.elf import Elf
from flows.agent.probe.openssl_library import PROBES

if TYPE_CHECKING:
    from flows.agent.probe.openssl_library import Library

DEVICE = Path("/sys/bus/event_source/devices/uprobe")
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
CLOSE_ON_EXEC = 1 << 3  # PERF_FLAG_FD_CLOEXEC
ATTRIBUTES = struct.Struct("<IIQQQQQIIQQ40x")  # struct perf_event_attr, version 5

_libc = ctypes.CDLL(None, use_errno=True)


class Uprobes:
    """The kernel's perf uprobes, and where links come from."""

    def __init__(self, programs: dict[str, int]) -> None:
        """programs: descriptors by name, as openssl_source.py lists them. Raises OSError if the kernel has no perf uprobes."""
        self._programs = programs
        self._type = int((DEVICE / "type").read_text())
        found = re.search(r"config:(\d+)", (DEVICE / "format" / "retprobe").read_text())
        self._return_bit = 1 << int(found[1] if found else 0)
        self._try()

    def _try(self) -> None:
        """Open and close one probe, at where this very program began: tells at once what is not permitted."""
        own = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(self._open(f"/proc/self/fd/{own}".encode(), Elf(own).entry, 0))
        finally:
            os.close(own)

    def attach(self, descriptor: int, library: Library) -> list[int]:
        """Links of all programs on an open file; each holds its probe, and lets go when it is closed. Raises OSError."""
        links: list[int] = []
        try:
            for name, offset in library.functions.items():
                at_entry, at_return = PROBES[name]
                if at_return is not None:  # before the entry, so that no call is begun that is not ended
                    links.append(self._link(at_return, descriptor, offset, self._return_bit, library.layout.cookie))
                if at_entry is not None:
                    links.append(self._link(at_entry, descriptor, offset, 0, 0))
        except OSError:
            detach(links)
            raise
        return links

    def _link(self, program: str, descriptor: int, offset: int, config: int, cookie: int) -> int:
        event = self._open(f"/proc/self/fd/{descriptor}".encode(), offset, config)
        try:
            return bpf.link_perf_event(self._programs[program], event, cookie)
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


def detach(links: list[int]) -> None:
    """Close links: the kernel takes the probes out of every process."""
    for link in links:
        os.close(link)
    links.clear()
