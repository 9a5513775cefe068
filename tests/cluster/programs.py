"""Which eBPF programs the kernel holds: BPF_PROG_GET_NEXT_ID and what it says of each."""

from __future__ import annotations

import ctypes
import os
import struct

SYSCALL = {"x86_64": 321, "aarch64": 280}
GET_NEXT_ID, GET_FD_BY_ID, GET_INFO_BY_FD = 11, 13, 15  # enum bpf_cmd
INFO_BYTES, NAME = 256, slice(64, 80)  # struct bpf_prog_info

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    return int(_libc.syscall(SYSCALL[os.uname().machine], command, attributes, len(attributes)))


def _name(number: int) -> str:
    descriptor = _bpf(GET_FD_BY_ID, ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), 12))
    if descriptor < 0:  # freed meanwhile
        return ""
    info = ctypes.create_string_buffer(INFO_BYTES)
    _bpf(GET_INFO_BY_FD, ctypes.create_string_buffer(struct.pack("<IIQ", descriptor, INFO_BYTES, ctypes.addressof(info)), 16))
    os.close(descriptor)
    return info.raw[NAME].split(b"\0", 1)[0].decode()


def programs(prefix: str) -> list[str]:
    """Names of all loaded programs that begin so, sorted."""
    found: list[str] = []
    number = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), 12)
        if _bpf(GET_NEXT_ID, attributes) < 0:
            return sorted(name for name in found if name.startswith(prefix))
        number = struct.unpack_from("<I", attributes.raw, 4)[0]
        found.append(_name(number))
