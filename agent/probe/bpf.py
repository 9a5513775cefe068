"""The bpf(2) system call: the few commands that the agent needs, without BCC, so that the long-lived process stays small.

Attribute layouts: union bpf_attr in include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SYSCALL = {"x86_64": 321, "aarch64": 280}
LICENSE = b"GPL"  # bpf_probe_read_kernel and others are for GPL-compatible programs only
LOG_BYTES = 1 << 20  # a verifier log of a rejected program; only its end is shown

_libc = ctypes.CDLL(None, use_errno=True)


class Command(IntEnum):
    """enum bpf_cmd."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_TEST_RUN = 10
    OBJ_GET_INFO_BY_FD = 15
    RAW_TRACEPOINT_OPEN = 17
    MAP_LOOKUP_BATCH = 24
    LINK_CREATE = 28
    ENABLE_STATS = 32
    ITER_CREATE = 33


class ProgramType(IntEnum):
    """enum bpf_prog_type."""

    KPROBE = 2
    CGROUP_SKB = 8
    RAW_TRACEPOINT = 17
    TRACING = 26


class AttachType(IntEnum):
    """enum bpf_attach_type."""

    CGROUP_INET_INGRESS = 0
    CGROUP_INET_EGRESS = 1
    TRACE_RAW_TP = 23
    TRACE_ITER = 28
    PERF_EVENT = 41
    TRACE_UPROBE_MULTI = 48
    NONE = 0  # program types of one attach type only


class VerifierError(OSError):
    """The kernel refused a program; log holds the verifier's last words."""

    def __init__(self, error: int, name: str, log: str) -> None:
        """Keep the log's end, where the reason stands."""
        super().__init__(error, os.strerror(error))
        self.name = name
        self.log = "\n".join(log.strip().splitlines()[-12:])


def bpf(command: Command, attributes: bytes) -> int:
    """Call bpf(2). Raises OSError with the kernel's errno."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    number = SYSCALL[platform.machine()]
    result = int(_libc.syscall(number, int(command), buffer, len(attributes)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _program_attributes(
    instructions: int, length: int, kind: ProgramType, attach: AttachType, btf_id: int, name: bytes, log: int
) -> bytes:
    license_ = ctypes.create_string_buffer(LICENSE)
    _keep.append(license_)
    return struct.pack(
        "<IIQQIIQII16sIIIIQIIQIII4x",
        kind, length // 8, instructions, ctypes.addressof(license_), 1 if log else 0, LOG_BYTES if log else 0, log,
        0, 0, name[:15], 0, attach, 0, 0, 0, 0, 0, 0, 0, btf_id, 0,
    )  # fmt: skip


_keep: list[ctypes.Array[ctypes.c_char]] = []  # what the kernel reads by address while a call lasts


def load_program(name: str, instructions: bytes, kind: ProgramType, attach: AttachType, btf_id: int = 0) -> int:
    """Load a program and return its descriptor. Raises VerifierError, with the log, if the kernel refuses it."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    where = ctypes.addressof(code)
    try:
        return bpf(
            Command.PROG_LOAD,
            _program_attributes(where, len(instructions), kind, attach, btf_id, name.encode(), 0),
        )
    except OSError:
        log = ctypes.create_string_buffer(LOG_BYTES)
        attributes = _program_attributes(where, len(instructions), kind, attach, btf_id, name.encode(), ctypes.addressof(log))
        try:
            return bpf(Command.PROG_LOAD, attributes)
        except OSError as error:
            raise VerifierError(error.errno or 0, name, log.value.decode(errors="replace")) from error
    finally:
        _keep.clear()


def link_cgroup(program: int, cgroup: int, attach: AttachType) -> int:
    """Attach to a cgroup. The link, and with it the program, is gone when its last descriptor closes, also by kill -9."""
    return bpf(Command.LINK_CREATE, struct.pack("<IIII", program, cgroup, attach, 0))


def open_tracepoint(program: int) -> int:
    """Attach a BTF tracepoint program; it names its tracepoint itself."""
    return bpf(Command.RAW_TRACEPOINT_OPEN, struct.pack("<QI4x", 0, program))


def link_perf_event(program: int, event: int, cookie: int) -> int:
    """Attach to a perf event, which the link keeps open; cookie: what the program's bpf_get_attach_cookie() gives."""
    return bpf(Command.LINK_CREATE, struct.pack("<IIIIQ", program, event, AttachType.PERF_EVENT, 0, cookie))


def link_uprobes(program: int, path: bytes, offsets: Mapping[int, int], *, at_return: bool) -> int:
    """Attach to functions of a file, for every process; offsets: in the file, with their cookies. Since Linux 6.6.

    The program is loaded for AttachType.TRACE_UPROBE_MULTI.
    """
    name = ctypes.create_string_buffer(path)
    places, cookies = ((ctypes.c_uint64 * len(offsets))(*each) for each in (offsets, offsets.values()))
    return bpf(
        Command.LINK_CREATE,
        struct.pack(
            "<IIIIQQQQIII4x", program, 0, AttachType.TRACE_UPROBE_MULTI, 0, ctypes.addressof(name), ctypes.addressof(places), 0,
            ctypes.addressof(cookies), len(offsets), int(at_return), 0,
        ),
    )  # fmt: skip


def link_iterator(program: int) -> int:
    """Make an iterator's link."""
    return bpf(Command.LINK_CREATE, struct.pack("<IIIIQI4x", program, 0, AttachType.TRACE_ITER, 0, 0, 0))


def run_iterator(link: int) -> None:
    """Let the kernel walk once over what the iterator's link names."""
    descriptor = bpf(Command.ITER_CREATE, struct.pack("<II", link, 0))
    try:
        while os.read(descriptor, 4096):
            pass
    finally:
        os.close(descriptor)


def create_array(name: str, value_bytes: int) -> int:
    """Make an array map of one element. Returns its descriptor."""
    array, no_flags = 2, 0  # BPF_MAP_TYPE_ARRAY
    return bpf(Command.MAP_CREATE, struct.pack("<IIIIIII16sI", array, 4, value_bytes, 1, no_flags, 0, 0, name.encode()[:15], 0))


def pin(descriptor: int, path: Path) -> None:
    """Keep a map, program or link in a bpffs under a name, beyond the life of this process."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    bpf(Command.OBJ_PIN, struct.pack("<QI4x", ctypes.addressof(name), descriptor))


def pinned(path: Path) -> int:
    """A descriptor of what is kept under a name. Raises OSError."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(Command.OBJ_GET, struct.pack("<QI4x", ctypes.addressof(name), 0))


def map_sizes(map_: int) -> tuple[int, int, int]:
    """key_size, value_size and max_entries of a map; of a ring the last are its data's bytes."""
    info = ctypes.create_string_buffer(88)  # struct bpf_map_info: type, id, key_size, value_size, max_entries...
    bpf(Command.OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", map_, len(info), ctypes.addressof(info)))
    key, value, entries = struct.unpack_from("<III", info, 8)
    return key, value, entries


def missed_runs(program: int) -> int:
    """Times that the kernel did not run a program, as a rule since it was running on that CPU; always 0 before Linux 6.7."""
    info = ctypes.create_string_buffer(216)  # struct bpf_prog_info up to recursion_misses
    bpf(Command.OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", program, len(info), ctypes.addressof(info)))
    return int(struct.unpack_from("<Q", info, 208)[0])


BATCH = 4_096  # entries of a table that are read at once: 400 KB


def batches(map_: int, key_bytes: int, value_bytes: int) -> Iterator[bytes]:
    """All keys of a hash, up to BATCH of them a time. Raises OSError."""
    keys = ctypes.create_string_buffer(BATCH * key_bytes)
    values = ctypes.create_string_buffer(BATCH * value_bytes)
    at = ctypes.create_string_buffer(4)  # the bucket to go on with
    begun = more = True
    while more:
        attributes = struct.pack(
            "<QQQQIIQQ", 0 if begun else ctypes.addressof(at), ctypes.addressof(at), ctypes.addressof(keys),
            ctypes.addressof(values), BATCH, map_, 0, 0,
        )  # fmt: skip
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        more = _libc.syscall(SYSCALL[platform.machine()], int(Command.MAP_LOOKUP_BATCH), buffer, len(attributes)) == 0
        error = 0 if more else ctypes.get_errno()
        if error not in (0, errno.ENOENT):  # ENOENT: that was all
            raise OSError(error, os.strerror(error))
        begun = False
        yield keys.raw[: int(struct.unpack_from("<I", buffer, 32)[0]) * key_bytes]


def run_program(program: int, argument: int) -> None:
    """Run a raw tracepoint program once, here and now; argument: its ctx[0]."""
    context = ctypes.create_string_buffer(struct.pack("<Q", argument), 8)
    attributes = struct.pack(
        "<IIIIQQIIIIQQIII4x", program, 0, 0, 0, 0, 0, 0, 0, len(context), 0, ctypes.addressof(context), 0, 0, 0, 0
    )
    bpf(Command.PROG_TEST_RUN, attributes)


def update(map_: int, key: bytes, value: bytes) -> None:
    """Write one element."""
    keys = ctypes.create_string_buffer(key, len(key))
    values = ctypes.create_string_buffer(value, len(value))
    bpf(Command.MAP_UPDATE_ELEM, struct.pack("<I4xQQQ", map_, ctypes.addressof(keys), ctypes.addressof(values), 0))


def delete(map_: int, key: bytes) -> None:
    """Remove one element. Raises OSError (ENOENT) if there is none."""
    keys = ctypes.create_string_buffer(key, len(key))
    bpf(Command.MAP_DELETE_ELEM, struct.pack("<I4xQQQ", map_, ctypes.addressof(keys), 0, 0))


def lookup(map_: int, key: bytes, value_bytes: int) -> bytes:
    """Read one element. Raises OSError (ENOENT) if there is none."""
    keys = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value_bytes)
    attributes = struct.pack("<I4xQQQ", map_, ctypes.addressof(keys), ctypes.addressof(value), 0)
    bpf(Command.MAP_LOOKUP_ELEM, attributes)
    return value.raw
