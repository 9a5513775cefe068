"""What bpf/openssl.c consists of, and what it is told: the user side of bpf/openssl_maps.h."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from flows.agent.probe.bpf import AttachType, ProgramType
from flows.agent.probe.source import SOCKET_OFFSETS, Source

if TYPE_CHECKING:
    from flows.agent.probe.cgroup import Subtree

OPENSSL = 1  # constant SOURCE of a compilation: which source; 0: flows.c

_UPROBE = (ProgramType.KPROBE, AttachType.NONE, None, "")
SOURCE = Source(
    name="openssl.c",
    maps=("plaintext", "long_plaintext", "plaintext_counters", "plaintext_rules", "calls", "sessions", "decisions"),
    programs={
        "enter_call": _UPROBE,
        "enter_extended": _UPROBE,
        "enter_handshake": _UPROBE,
        "leave_write": _UPROBE,
        "leave_read": _UPROBE,
        "leave_write_extended": _UPROBE,
        "leave_read_extended": _UPROBE,
        "leave_handshake": _UPROBE,
        "forget_session": _UPROBE,
    },
    offsets=SOCKET_OFFSETS
    | {
        "task_files": ("task_struct", "files"),
        "files_fdt": ("files_struct", "fdt"),
        "fdtable_fd": ("fdtable", "fd"),
        "fdtable_max_fds": ("fdtable", "max_fds"),
        "file_inode": ("file", "f_inode"),
        "file_private_data": ("file", "private_data"),
        "inode_mode": ("inode", "i_mode"),
    },
)

# Places in struct pt_regs, in units of 8 bytes (arch/*/include/asm/ptrace.h), by the calling convention of the machine.
# RETURN_POPS: what a return takes from the stack, so that a call's entry and return are known to belong together.
REGISTERS = {
    "x86_64": {"ARGUMENT_1": 14, "ARGUMENT_2": 13, "ARGUMENT_4": 11, "RETURNED": 10, "STACK": 19, "RETURN_POPS": 8},
    "aarch64": {"ARGUMENT_1": 0, "ARGUMENT_2": 1, "ARGUMENT_4": 3, "RETURNED": 0, "STACK": 31, "RETURN_POPS": 0},
}


class PlaintextCounter(IntEnum):
    """Kernel-side counters: `enum plaintext_counter` of bpf/openssl_maps.h."""

    LOST_RING_FULL = 0
    SESSIONS_FULL = 1
    CALLS_LOST = 2
    SOCKET_UNKNOWN = 3
    UNREADABLE = 4
    UNDECIDED = 5
    HTTP2_UNFOLLOWED = 6
    SAMPLED_OUT = 7
    CALLS = 8


class Decision(IntEnum):
    """What is decided of a cgroup: `enum decision` of bpf/openssl_maps.h."""

    OBSERVED = 1
    EXCLUDED = 2


@dataclass(frozen=True, slots=True)
class OpenSslSettings:
    """Sizes of the kernel side, and bounds of the search for libraries."""

    ring_bytes: int = 4 << 20
    """A power of two. 12,500 requests and answers: more than half a second of as many as the agent looks at in a second, both
    ends seen; the reader comes when a quarter of it is full."""

    long_ring_bytes: int = 2 << 20
    """A power of two. 1,000 long ones: frames of HTTP/2, and requests of more than 208 bytes."""

    session_entries: int = 65_536
    """TLS sessions known at once, 250 bytes each, taken as they come: above what one busy proxy holds."""

    call_entries: int = 16_384
    """Threads that are within a call, or were lately: 6 MB."""

    decision_entries: int = 16_384
    """Cgroups in which somebody has a TLS library, with a decision on each."""

    files: int = 128
    """Libraries and executables that are attached to at once, a dozen descriptors each; containers of one image share theirs."""

    link_many: bool = True
    """Whether one link may hold many functions, where the kernel can; else each has a perf event."""


def constants(settings: OpenSslSettings, subtree: Subtree, *, hold: bool, many: bool = False) -> dict[str, int]:
    """What bpf/openssl_maps.h wants, and the loader.

    hold: cgroups that nobody decided on are not looked at; many: one link is to hold many functions.
    """
    return {
        "SOURCE": OPENSSL,
        "UPROBES": AttachType.TRACE_UPROBE_MULTI if many else AttachType.NONE,
        "PLAINTEXT_PAGES": settings.ring_bytes // 4096,
        "LONG_PLAINTEXT_PAGES": settings.long_ring_bytes // 4096,
        "SESSION_ENTRIES": settings.session_entries,
        "CALL_ENTRIES": settings.call_entries,
        "DECISION_ENTRIES": settings.decision_entries,
        "HOLD_UNDECIDED": int(hold),
        "SUBTREE_LEVEL": subtree.level,
        "SUBTREE_ID": subtree.id,
        **REGISTERS[platform.machine()],
    }
